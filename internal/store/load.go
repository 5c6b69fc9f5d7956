package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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

func segmentNumber(name string) (number uint32, ok bool) {
	digits, found := strings.CutSuffix(name, ".seg")
	if !found || len(digits) < 6 {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &number)
	return number, err == nil && filepath.Base(segmentPath("", number)) == name
}

func (s *Store) loadSegment(number uint32, sizeBytes int64) error {
	seg := &segment{number: number, path: segmentPath(s.kvDir, number), end: segmentHeadBytes}
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
	for _, e := range entries {
		if e.kind == kindBlock {
			s.index[e.id] = location{seg, e.at, e.shape}
		}
	}
	return nil
}

func (s *Store) readIndex(number uint32, sizeBytes int64) ([]entry, int64, error) {
	b, err := vfs.ReadFile(s.o.FS, indexPath(s.kvDir, number))
	if err != nil {
		return nil, 0, err
	}
	return decodeIndex(b, number, sizeBytes)
}

// scanSegment reads a segment that has no usable index: what a crash left, or
// one whose index is damaged. It is synced, for its writer may not have come to
// that, and closed with an index.
func (s *Store) scanSegment(seg *segment, sizeBytes int64) ([]entry, int64, error) {
	file, err := s.o.FS.OpenFile(seg.path, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	if err := s.checkHead(seg, file, sizeBytes); err != nil {
		return nil, 0, err
	}
	found, err := scan(&window{file: file, size: sizeBytes})
	if err != nil || len(found.entries) == 0 {
		return nil, 0, err
	}
	if found.damaged > 0 {
		s.stats.Quarantined += int64(found.damaged)
		s.o.Log.Warn("store: segment has damaged stretches", "segment", seg.path, "stretches", found.damaged)
	}
	if err := file.Sync(); err != nil {
		return nil, 0, fmt.Errorf("sync: %w", err)
	}
	s.writeIndex(seg.number, found.end, found.entries)
	return found.entries, found.end, nil
}

// checkHead refuses a segment of another version. A damaged head is only said:
// frames prove themselves.
func (s *Store) checkHead(seg *segment, file vfs.File, sizeBytes int64) error {
	if sizeBytes < segmentHeadBytes {
		return nil
	}
	head := make([]byte, segmentHeadBytes)
	if err := readFull(file, head, 0); err != nil {
		return err
	}
	err := checkSegmentHead(head, seg.path, seg.number, s.o.KVFingerprint)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		s.o.Log.Warn("store: segment head", "err", err)
		return nil
	}
	return err
}

// writeIndex spares the next Open a scan; without it nothing is lost.
func (s *Store) writeIndex(number uint32, end int64, entries []entry) {
	err := vfs.WriteFile(s.o.FS, indexPath(s.kvDir, number), encodeIndex(number, end, entries))
	if err != nil {
		s.o.Log.Warn("store: write segment index", "segment", number, "err", err)
	}
}
