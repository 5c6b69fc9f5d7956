package frames

import (
	"fmt"
	"path/filepath"

	"mneme/internal/store/format"
	"mneme/internal/store/segments"
)

// Segments of other KV fingerprints are nobody's cache while this one runs: what no
// agent names in them is the first to go. They count against the budget.

// foreignSeconds is how long what was kept of them is not looked at again.
const foreignSeconds = 600

// foreign is what is known of them; the writer's, but for bytes.
type foreign struct {
	bytes int64  // on disk; under Shelf.mu
	seen  uint32 // when they were last looked at for room
}

// eachForeign visits the folders of other KV fingerprints.
func (s *Shelf) eachForeign(visit func(segments.Folder) error) error {
	infos, err := s.o.Folder.FS.ReadDir(filepath.Dir(s.o.Folder.Dir))
	if err != nil {
		return err
	}
	for _, info := range infos {
		if !info.Dir || info.Name == s.o.Folder.Fingerprint {
			continue
		}
		folder := segments.Folder{FS: s.o.Folder.FS, Dir: filepath.Join(filepath.Dir(s.o.Folder.Dir), info.Name), Fingerprint: info.Name}
		if err := visit(folder); err != nil {
			return fmt.Errorf("segments of KV fingerprint %s: %w", info.Name, err)
		}
	}
	return nil
}

// CountForeign finds out how much of the budget they take.
func (w *Writer) CountForeign() error {
	total := int64(0)
	err := w.s.eachForeign(func(folder segments.Folder) error {
		listed, err := folder.List()
		for _, seg := range listed.Segments {
			total += seg.Bytes
		}
		return err
	})
	if err != nil {
		return err
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.foreign.bytes = total
	return nil
}

// dropForeign removes those in which no agent names anything when the budget is
// passed.
func (w *Writer) dropForeign() error {
	s, now := w.s, w.s.seconds()
	s.mu.Lock()
	wanted := s.foreign.bytes > 0 && s.overLocked() && (s.foreign.seen == 0 || now > s.foreign.seen+foreignSeconds)
	s.mu.Unlock()
	if !wanted {
		return nil
	}
	s.foreign.seen = now
	if err := s.eachForeign(s.dropUnnamed); err != nil {
		return err
	}
	return w.CountForeign()
}

func (s *Shelf) dropUnnamed(folder segments.Folder) error {
	return s.eachSegment(folder, func(number uint32, _ int64, all, named []format.Entry) error {
		if len(named) > 0 {
			return nil
		}
		s.count(func(st *Stats) { st.Evicted += int64(len(all)) })
		if err := folder.Remove(number); err != nil {
			return err
		}
		return folder.FS.SyncDir(folder.Dir)
	})
}

// eraseForeign overwrites what no agent names in them.
func (w *Writer) eraseForeign() error {
	err := w.s.eachForeign(func(folder segments.Folder) error {
		return w.s.eachSegment(folder, func(number uint32, end int64, _, named []format.Entry) error {
			_, err := folder.Erase(number, end, named)
			return err
		})
	})
	if err != nil {
		return err
	}
	return w.CountForeign()
}

// eachSegment reads what the segments of a folder hold, and what of it agents name.
func (s *Shelf) eachSegment(folder segments.Folder, visit func(number uint32, end int64, all, named []format.Entry) error) error {
	listed, err := folder.List()
	if err != nil {
		return err
	}
	for _, seg := range listed.Segments {
		found, err := folder.Load(seg)
		if err != nil {
			return err
		}
		if err := visit(seg.Number, found.End, found.Entries, s.onlyNamed(found.Entries)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shelf) onlyNamed(entries []format.Entry) (named []format.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if s.named[e.ID] > 0 {
			named = append(named, e)
		}
	}
	return named
}
