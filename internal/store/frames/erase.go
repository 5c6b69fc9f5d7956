package frames

import (
	"slices"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/store/segments"
)

// forgetAlone forgets the blocks that nobody but deleted agents had named, and
// all without a name that go on from what they named or from nothing: a turn of
// theirs that was not finished may have left them. Of an agent whose file could not
// be read nobody knows more; then all blocks without a name go.
func (s *Shelf) forgetAlone(unknown bool, deleted []*format.Card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	its := map[kv.Key]bool{{}: true}
	for _, c := range deleted {
		its[kv.Scope{Fingerprint: s.o.Folder.Fingerprint, Namespace: c.Namespace}.Root()] = true
		for _, key := range slices.Concat(c.Keys, c.Former) {
			its[key] = true
		}
	}
	for again := true; again; {
		again = false
		for id, p := range s.index {
			if s.named[id] == 0 && (its[id.Key] || its[p.parent] || unknown) {
				its[id.Key], again = true, true
				s.dropLocked(id)
			}
		}
	}
}

// Erase forgets what only deleted agents had, whose names are taken back, and
// overwrites everything that is not found, here and in the folders of other KV
// fingerprints. Unknown: a file of theirs could not be read.
func (w *Writer) Erase(unknown bool, deleted ...*format.Card) error {
	w.abandon()
	w.s.forgetAlone(unknown, deleted)
	if err := w.eraseDead(); err != nil {
		return err
	}
	return w.eraseForeign()
}

// eraseDead overwrites everything in the segments that the index does not find.
func (w *Writer) eraseDead() error {
	if err := w.Sync(); err != nil {
		return err
	}
	s := w.s
	s.mu.Lock()
	keep := s.entriesLocked(func(seg *segment) bool { return seg.dead() > seg.zeros })
	var dirty []*segment
	for _, seg := range s.segments {
		if seg.dead() > seg.zeros {
			dirty = append(dirty, seg)
		}
	}
	s.mu.Unlock()
	for _, seg := range dirty {
		if err := w.eraseIn(seg, keep[seg]); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) eraseIn(seg *segment, keep []format.Entry) (err error) {
	s := w.s
	var erasedBytes int64
	switch {
	case len(keep) == 0:
		if seg == w.active {
			w.leave()
		}
		return s.removeSegment(seg)
	case seg == w.active:
		erasedBytes, err = segments.EraseGaps(w.file, keep, seg.end)
		if err == nil {
			err = w.file.Sync()
		}
	default:
		erasedBytes, err = s.o.Folder.Erase(seg.number, seg.end, inOrder(keep))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		seg.zeros = seg.dead()
	}
	s.stats.ErasedBytes += erasedBytes
	return err
}

// removeSegment removes a segment in which nothing is found any more, durably.
func (s *Shelf) removeSegment(seg *segment) error {
	err := s.o.Folder.Remove(seg.number)
	if err == nil {
		err = s.o.Folder.FS.SyncDir(s.o.Folder.Dir)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	file := seg.file
	seg.file, seg.gone = nil, true
	delete(s.segments, seg.number)
	s.stats.ErasedBytes += seg.end
	s.mu.Unlock()
	if file != nil {
		return file.Close()
	}
	return nil
}
