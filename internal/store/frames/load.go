package frames

import (
	"fmt"

	"mneme/internal/store/format"
	"mneme/internal/store/segments"
)

// loadSegments fills the index from the folder of the KV fingerprint, oldest
// segment first, so that of two frames of a block the newer one is used. The
// name of a segment that has frames is durable: it was synced before the first.
func (s *Shelf) loadSegments() error {
	listed, err := s.o.Folder.List()
	if err != nil {
		return err
	}
	for _, path := range listed.Stray {
		if err := s.o.Folder.FS.Remove(path); err != nil {
			return fmt.Errorf("tidy segments: %w", err)
		}
	}
	for _, seg := range listed.Segments {
		if err := s.loadSegment(seg); err != nil {
			return fmt.Errorf("segment %06d: %w", seg.Number, err)
		}
	}
	return nil
}

func (s *Shelf) loadSegment(file segments.Segment) error {
	s.lastTaken = max(s.lastTaken, file.Number)
	found, err := s.o.Folder.Load(file)
	if err != nil {
		return err
	}
	seg := &segment{number: file.Number, path: s.o.Folder.Path(file.Number), end: found.End}
	s.say(seg, found)
	if len(found.Entries) == 0 {
		return s.o.Folder.Remove(file.Number)
	}
	s.segments[file.Number] = seg
	s.addFrames(seg, found.Entries)
	return nil
}

// say logs and counts what is not as it should be in a segment.
func (s *Shelf) say(seg *segment, found segments.Found) {
	if found.Why != nil {
		s.o.Log.Info("store: scanned segment", "segment", seg.path, "because", found.Why)
	}
	if found.Head != nil {
		s.o.Log.Warn("store: segment head", "err", found.Head)
	}
	if found.Damaged > 0 {
		s.stats.Quarantined += int64(found.Damaged)
		s.noteLocked(Damage{Where: seg.path, Reason: fmt.Sprintf("%d stretches hold no whole frame", found.Damaged)})
		s.o.Log.Warn("store: segment has damaged stretches", "segment", seg.path, "stretches", found.Damaged)
	}
}

func (s *Shelf) addFrames(seg *segment, entries []format.Entry) {
	for _, e := range entries {
		if !s.readable(e.Cover, e.EncryptedBy) {
			continue
		}
		s.putLocked(e.ID, storedAt(location{seg, e.Offset, e.Shape}, e, e.Used))
	}
}

// writeIndex spares the next Open a scan; without it nothing is lost.
func (s *Shelf) writeIndex(seg *segment, end int64, entries []format.Entry) {
	if err := s.o.Folder.WriteIndex(seg.number, end, entries); err != nil {
		s.o.Log.Warn("store: write segment index", "segment", seg.path, "err", err)
	}
}
