package frames

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"mneme/internal/store/format"
)

const (
	stepBytes    = 4 << 20 // moved in one step
	graceSeconds = 30      // what was used since is about to be named
)

// collector is the writer's part that gives disk space back, a step at a time:
//   - over budget, segments of other KV fingerprints that no agent names go, then
//     blocks that no agent names are forgotten, the longest unused first, until
//     what is left fills three quarters of it;
//   - a segment of which less than half is found (three quarters, over budget)
//     has the rest copied to the open segment, synced, and is removed.
type collector struct {
	more    bool // there may be something to do
	all     bool // the open segment too
	moving  *move
	trimmed int64 // bytes in use when trimming last found too little
}

// move is a segment on its way into the open one.
type move struct {
	from *segment
	rest []format.BlockID
	done []moved
}

type moved struct {
	id       format.BlockID
	old, now *stored
}

// More tells whether there may be something to collect.
func (w *Writer) More() bool { return w.more }

// Look makes More true: something was named or let go.
func (w *Writer) Look() { w.more = true }

// Want asks for a whole pass, the open segment included.
func (w *Writer) Want() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, seg := range w.s.segments {
		seg.stuck = false
	}
	w.more, w.all, w.trimmed, w.s.foreign.seen = true, true, 0, 0
}

// Step does a bounded piece of collecting. After it, More tells whether there is
// more; an error ends it for now.
func (w *Writer) Step() error {
	if !w.more {
		return nil
	}
	if w.moving == nil {
		if err := w.dropForeign(); err != nil {
			w.s.o.Log.Warn("store: make room among other KV fingerprints", "err", err)
		}
		w.trim()
		seg := w.pick()
		if seg == nil {
			w.more, w.all = false, false
			return nil
		}
		w.moving = w.s.moveOf(seg)
	}
	if err := w.moveSome(); err != nil {
		w.s.stick(w.moving.from)
		err = fmt.Errorf("collect segment %s: %w", w.moving.from.path, err)
		w.abandon()
		w.more, w.all = false, false
		return err
	}
	return nil
}

// copies are those of the segment on its way that are not found yet.
func (w *Writer) copies() []moved {
	if w.moving == nil {
		return nil
	}
	return w.moving.done
}

// abandon leaves a segment where it is; copies made of its frames are dead.
func (w *Writer) abandon() { w.moving = nil }

func (s *Shelf) stick(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.stuck = true
}

// usedLocked is what the segments take on disk.
func (s *Shelf) usedLocked() (usedBytes, liveBytes int64) {
	for _, seg := range s.segments {
		usedBytes += seg.end
		liveBytes += seg.live
	}
	return usedBytes, liveBytes
}

func (s *Shelf) overLocked() bool {
	used, _ := s.usedLocked()
	return s.o.BudgetBytes > 0 && used+s.foreign.bytes > s.o.BudgetBytes
}

// trim forgets blocks that nobody names when the budget is passed.
func (w *Writer) trim() {
	s := w.s
	now := s.seconds()
	s.mu.Lock()
	defer s.mu.Unlock()
	used, live := s.usedLocked()
	target := s.o.BudgetBytes/4*3 - s.foreign.bytes
	if !s.overLocked() || live <= target || used < w.trimmed {
		return
	}
	for _, id := range s.unnamedLocked(now) {
		if live <= target {
			return
		}
		live -= s.index[id].FrameBytes()
		s.dropLocked(id)
		s.stats.Evicted++
	}
	w.trimmed = used + s.o.BudgetBytes/64
}

// unnamedLocked lists blocks that nobody names and nobody is about to, the
// longest unused first; of these the latest: the end of a sequence goes before its
// beginning.
func (s *Shelf) unnamedLocked(now uint32) []format.BlockID {
	var ids []format.BlockID
	for id, p := range s.index {
		if p.kind == format.Block && s.named[id] == 0 && p.used+graceSeconds <= now {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b format.BlockID) int {
		p, q := s.index[a], s.index[b]
		return cmp.Or(cmp.Compare(p.used, q.used), cmp.Compare(q.seg.number, p.seg.number), cmp.Compare(q.at, p.at))
	})
	return ids
}

// pick gives the segment that is most worth collecting, nil for none. The open
// one is closed for it only when somebody asks or the budget is passed: dead
// tails are not worth moving blocks again and again.
func (w *Writer) pick() *segment {
	open := w.active
	if w.all {
		open = nil
	}
	best := w.s.mostDead(open)
	if best == nil || best != w.active {
		return best
	}
	w.Retire()
	return w.s.mostDead(nil)
}

// mostDead gives the segment with the most dead bytes of those worth collecting;
// open is one only over budget.
func (s *Shelf) mostDead(open *segment) (best *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	worth := int64(2) // of so many parts, more than one is dead
	over := s.overLocked()
	if over {
		worth = 4
	}
	for _, seg := range s.segments {
		if seg.stuck || seg == open && !over || seg.dead()*worth <= seg.end-format.SegmentHeadBytes {
			continue
		}
		if best == nil || seg.dead() > best.dead() {
			best = seg
		}
	}
	return best
}

func (s *Shelf) moveOf(seg *segment) *move {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &move{from: seg}
	for _, e := range inOrder(s.entriesLocked(func(other *segment) bool { return other == seg })[seg]) {
		m.rest = append(m.rest, e.ID)
	}
	return m
}

// moveSome copies a step's worth of frames; after the last, the segment goes.
func (w *Writer) moveSome() error {
	m := w.moving
	for copiedBytes := int64(0); len(m.rest) > 0 && copiedBytes < stepBytes; {
		id := m.rest[0]
		m.rest = m.rest[1:]
		p, ok := w.s.find(id)
		if !ok || p.seg != m.from {
			continue
		}
		if err := w.copyFrame(m, id, p); err != nil {
			return err
		}
		copiedBytes += p.FrameBytes()
	}
	if len(m.rest) > 0 {
		return nil
	}
	return w.finishMove(m)
}

// copyFrame checks a frame and appends it as it is. A damaged one is forgotten.
func (w *Writer) copyFrame(m *move, id format.BlockID, p *stored) error {
	frame, err := w.s.rawFrame(id, p)
	if _, there := w.s.find(id); !there {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := w.write(id, p.Shape, func(b []byte) error { copy(b, frame); return nil })
	if err != nil {
		return err
	}
	m.done = append(m.done, moved{id, p, &stored{location: at, kind: p.kind, parent: p.parent, key: p.key}})
	return nil
}

// finishMove makes the copies durable, lets them be found, and removes the
// segment. A crash before that leaves two of each frame.
func (w *Writer) finishMove(m *move) error {
	if err := w.Sync(); err != nil {
		return err
	}
	if err := w.s.switchOver(m); err != nil {
		return err
	}
	w.moving = nil
	if m.from == w.active {
		w.leave()
	}
	w.s.count(func(st *Stats) { st.Collected++ })
	if err := w.s.removeSegment(m.from); err != nil {
		w.moving = m
		return err
	}
	return nil
}

func (s *Shelf) switchOver(m *move) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range m.done {
		if lost := f.now.seg.lost; lost != nil {
			return lost
		}
	}
	for _, f := range m.done {
		if s.index[f.id] == f.old {
			f.now.used, f.now.noted = f.old.used, f.old.noted
			s.putLocked(f.id, f.now)
		}
	}
	if m.from.live != 0 {
		return errors.New("a frame of it was not copied")
	}
	return nil
}
