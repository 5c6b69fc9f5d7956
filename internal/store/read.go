package store

import (
	"errors"
	"fmt"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

// Has tells whether the block is written and, as far as known, readable.
func (s *Store) Has(key kv.Key, group int) bool {
	_, ok := s.find(format.BlockID{Key: key, Group: group})
	return ok
}

func (s *Store) find(id format.BlockID) (location, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.index[id]
	return at, ok
}

// Read fills dst with the payload of a block, after which it is known to be the
// one asked for: checksum, key, group, token ids and the length of dst are
// compared. ErrMissing when it is not stored; a *DamagedError when it is not what
// was written, and then it is forgotten. After an error dst holds anything.
func (s *Store) Read(key kv.Key, group int, want []token.ID, dst []byte) error {
	return s.readBlock(format.BlockID{Key: key, Group: group}, format.Wanted{Kind: format.Block, Key: key, Group: group, Tokens: want}, dst)
}

func (s *Store) readBlock(id format.BlockID, want format.Wanted, dst []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	at, ok := s.find(id)
	if !ok {
		return ofBlock(id, ErrMissing)
	}
	_, err := s.readFrame(at, want, dst)
	s.quarantine(id, at, err)
	return err
}

// ReadTail fills dst with the payload of an agent's unfinished block. Errors are
// those of Read; a tail under another KV fingerprint is ErrMissing.
func (s *Store) ReadTail(ref TailRef, want []token.ID, dst []byte) error {
	return s.readTail(ref, format.Wanted{Kind: format.Tail, Group: ref.Group, Tokens: want}, dst)
}

func (s *Store) readTail(ref TailRef, want format.Wanted, dst []byte) error {
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
		err = &DamagedError{Where: at.String(), Reason: fmt.Sprintf("frame sum %08x, its manifest says %08x", sum, ref.Sum)}
	}
	s.quarantine(format.BlockID{}, at, err)
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
	at := location{seg, ref.Offset, tailShape(ref)}
	if !at.Fits(at.at, seg.end) {
		return location{}, fmt.Errorf("%s: the segment ends at %d: %w", at, seg.end, ErrMissing)
	}
	return at, nil
}

func (s *Store) readFrame(at location, want format.Wanted, dst []byte) (sum uint32, err error) {
	file, err := s.file(at.seg)
	if err != nil {
		return 0, err
	}
	sum, err = want.Read(file, at.at, at.Shape, dst)
	if err != nil {
		return 0, &DamagedError{Where: at.String(), Reason: err.Error()}
	}
	s.count(func(st *Stats) { st.ReadFrames++; st.ReadBytes += int64(len(dst)) })
	return sum, nil
}

// quarantine forgets a block whose frame turned out damaged, so that it will be
// computed and appended anew. Other errors, and nil, change nothing.
func (s *Store) quarantine(id format.BlockID, at location, err error) {
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
