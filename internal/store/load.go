package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

// loadSegments fills the index from the folder of the KV fingerprint, oldest
// segment first, so that of two frames of a block the newer one is used. The
// name of a segment that has frames is durable: it was synced before the first.
func (s *Store) loadSegments() error {
	infos, err := s.o.FS.ReadDir(s.kvDir)
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	for _, info := range infos {
		if strings.HasSuffix(info.Name, vfs.AsideSuffix) { // an index that did not come to be
			if err := s.o.FS.Remove(filepath.Join(s.kvDir, info.Name)); err != nil {
				return fmt.Errorf("tidy segments: %w", err)
			}
			continue
		}
		number, ok := segmentNumber(info.Name)
		if !ok {
			continue
		}
		if err := s.loadSegment(number, info.Size); err != nil {
			return fmt.Errorf("segment %s: %w", info.Name, err)
		}
	}
	return nil
}

func (s *Store) loadSegment(number uint32, sizeBytes int64) error {
	seg := &segment{number: number, path: segmentPath(s.kvDir, number), end: format.SegmentHeadBytes}
	s.lastTaken = max(s.lastTaken, number)
	entries, end, err := s.readIndex(number, sizeBytes)
	if err != nil {
		s.o.Log.Info("store: scan segment", "segment", seg.path, "because", err)
		if entries, end, err = s.scanSegment(seg, sizeBytes); err != nil {
			return err
		}
	}
	if len(entries) == 0 {
		return s.o.FS.Remove(seg.path)
	}
	seg.end = end
	s.segments[number] = seg
	s.addBlocks(seg, entries)
	return nil
}

func (s *Store) addBlocks(seg *segment, entries []format.Entry) {
	for _, e := range entries {
		if e.Kind == format.Block {
			s.index[e.ID] = location{seg, e.Offset, e.Shape}
		}
	}
}

func (s *Store) readIndex(number uint32, sizeBytes int64) ([]format.Entry, int64, error) {
	b, err := vfs.ReadFile(s.o.FS, indexPath(s.kvDir, number))
	if err != nil {
		return nil, 0, err
	}
	return format.DecodeIndex(b, number, sizeBytes)
}

// scanSegment reads a segment that has no usable index: what a crash left, or
// one whose index is damaged. It is synced, for its writer may not have come to
// that, and closed with an index.
func (s *Store) scanSegment(seg *segment, sizeBytes int64) ([]format.Entry, int64, error) {
	file, err := s.o.FS.OpenFile(seg.path, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	if err := s.checkHead(seg, file, sizeBytes); err != nil {
		return nil, 0, err
	}
	found, err := format.Scan(file, sizeBytes)
	if err != nil || len(found.Entries) == 0 {
		return nil, 0, err
	}
	if found.Damaged > 0 {
		s.stats.Quarantined += int64(found.Damaged)
		s.o.Log.Warn("store: segment has damaged stretches", "segment", seg.path, "stretches", found.Damaged)
	}
	if err := file.Sync(); err != nil {
		return nil, 0, fmt.Errorf("sync: %w", err)
	}
	s.writeIndex(seg.number, found.End, found.Entries)
	return found.Entries, found.End, nil
}

// checkHead refuses a segment of another version. A damaged head is only said:
// frames prove themselves.
func (s *Store) checkHead(seg *segment, file vfs.File, sizeBytes int64) error {
	if sizeBytes < format.SegmentHeadBytes {
		return nil
	}
	err := format.CheckSegmentHead(file, seg.path, seg.number, s.o.KVFingerprint)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		s.o.Log.Warn("store: segment head", "err", err)
		return nil
	}
	return err
}

// writeIndex spares the next Open a scan; without it nothing is lost.
func (s *Store) writeIndex(number uint32, end int64, entries []format.Entry) {
	err := vfs.WriteFile(s.o.FS, indexPath(s.kvDir, number), format.EncodeIndex(number, end, entries))
	if err != nil {
		s.o.Log.Warn("store: write segment index", "segment", number, "err", err)
	}
}
