package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"mneme/internal/kv"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// Has tells whether the block is written and, as far as known, readable.
func (s *Store) Has(key kv.Key, group int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.index[blockID{key, group}]
	return ok
}

// Read fills dst with the payload of a block, after which it is known to be the
// one asked for: checksum, key, group, token ids and the length of dst are
// compared. ErrMissing when it is not stored; a *DamagedError when it is not what
// was written, and then it is forgotten. After an error dst holds anything.
func (s *Store) Read(key kv.Key, group int, want []token.ID, dst []byte) error {
	return s.readBlock(blockID{key, group}, wanted{kind: kindBlock, key: key, group: group, tokens: want}, dst)
}

func (s *Store) readBlock(id blockID, want wanted, dst []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.mu.Lock()
	at, ok := s.index[id]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("block %s of group %d: %w", id.key, id.group, ErrMissing)
	}
	_, err := s.readFrame(at, want, dst)
	s.quarantine(id, at, err)
	return err
}

// ReadTail fills dst with the payload of an agent's unfinished block. Errors are
// those of Read; a tail under another KV fingerprint is ErrMissing.
func (s *Store) ReadTail(ref TailRef, want []token.ID, dst []byte) error {
	return s.readTail(ref, wanted{kind: kindTail, group: ref.Group, tokens: want}, dst)
}

func (s *Store) readTail(ref TailRef, want wanted, dst []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	at, err := s.locate(ref)
	if err != nil {
		return err
	}
	sum, err := s.readFrame(at, want, dst)
	if err == nil && sum != ref.Sum {
		err = &DamagedError{at.String(), fmt.Sprintf("frame sum %08x, its manifest says %08x", sum, ref.Sum)}
	}
	s.quarantine(blockID{}, at, err)
	return err
}

// locate is where a manifest says a tail is, if that segment can hold it.
func (s *Store) locate(ref TailRef) (location, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := s.segments[ref.Segment]
	if seg == nil {
		return location{}, fmt.Errorf("tail in segment %d: %w", ref.Segment, ErrMissing)
	}
	at := location{seg, ref.Offset, shape{ref.Tokens, ref.Bytes}}
	if ref.Tokens > maxFrameTokens || ref.Bytes > maxPayloadBytes || ref.Offset < segmentHeadBytes || ref.Offset > seg.end-at.frameBytes() {
		return location{}, fmt.Errorf("%s: the segment ends at %d: %w", at, seg.end, ErrMissing)
	}
	return at, nil
}

// readFrame reads and checks one frame, its payload into dst, and returns its sum.
func (s *Store) readFrame(at location, want wanted, dst []byte) (sum uint32, err error) {
	file, err := s.file(at.seg)
	if err != nil {
		return 0, err
	}
	if len(dst) != at.payloadBytes {
		return 0, &DamagedError{at.String(), fmt.Sprintf("payload of %d bytes, %d expected", at.payloadBytes, len(dst))}
	}
	head := make([]byte, at.headBytes())
	if err := readFull(file, head, at.at); err != nil {
		return 0, &DamagedError{at.String(), err.Error()}
	}
	f, err := parseHead(head)
	if err == nil && f.payloadBytes != at.payloadBytes {
		err = fmt.Errorf("payload of %d bytes instead of %d", f.payloadBytes, at.payloadBytes)
	}
	if err == nil {
		err = want.compare(f)
	}
	if err == nil {
		err = readFull(file, dst, at.at+int64(len(head)))
	}
	if err == nil {
		err = checkPayload(head, dst)
	}
	if err != nil {
		return 0, &DamagedError{at.String(), err.Error()}
	}
	s.count(func(st *Stats) { st.ReadFrames++; st.ReadBytes += int64(len(dst)) })
	return frameSum(head), nil
}

// file opens a segment on first use; it stays open until Close.
func (s *Store) file(seg *segment) (vfs.File, error) {
	s.mu.Lock()
	file := seg.file
	s.mu.Unlock()
	if file != nil {
		return file, nil
	}
	opened, err := s.o.FS.OpenFile(seg.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamagedError{seg.path, "the file is gone"}
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s.mu.Lock()
	if seg.file == nil {
		seg.file, opened = opened, nil
	}
	file = seg.file
	s.mu.Unlock()
	if opened != nil { // another reader was faster
		if err := opened.Close(); err != nil {
			s.o.Log.Warn("store: close segment", "segment", seg.path, "err", err)
		}
	}
	return file, nil
}

// quarantine forgets a block whose frame turned out damaged, so that it will be
// computed and appended anew. Other errors, and nil, change nothing.
func (s *Store) quarantine(id blockID, at location, err error) {
	var damaged *DamagedError
	if !errors.As(err, &damaged) {
		return
	}
	s.mu.Lock()
	if s.index[id] == at {
		delete(s.index, id)
	}
	s.stats.Quarantined++
	s.mu.Unlock()
	s.o.Log.Warn("store: quarantined", "err", err)
}
