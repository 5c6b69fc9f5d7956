package frames

import (
	"iter"
	"sync/atomic"

	"mneme/internal/kv"
	"mneme/internal/store/format"
)

// stored is a frame as the index finds it; only its uses, and failures, change.
type stored struct {
	location
	kind   format.Kind
	parent kv.Key
	key    format.KeyID // that it is encrypted by
	used   uint32       // seconds since 1970, to coarseSeconds
	noted  uint32       // the use that is worth writing down, to savedSeconds
	unread atomic.Int32 // how often the disk did not read it
}

const (
	coarseSeconds = 10   // uses closer than this are one
	savedSeconds  = 3600 // and closer than this, after a restart
)

func (s *Shelf) seconds() uint32 { return uint32(max(0, s.o.Clock().Unix())) }

func storedAt(at location, e format.Entry, used uint32) *stored {
	return &stored{location: at, kind: e.Kind, parent: e.Parent, key: e.EncryptedBy, used: used, noted: used}
}

func (p *stored) entry(id format.BlockID) format.Entry {
	return format.Entry{Kind: p.kind, ID: id, Parent: p.parent, Offset: p.at, Used: p.used, Shape: p.Shape, EncryptedBy: p.key}
}

// putLocked makes a frame the one that is found.
func (s *Shelf) putLocked(id format.BlockID, p *stored) {
	s.dropLocked(id)
	s.index[id] = p
	p.seg.live += p.FrameBytes()
	if p.kind == format.Block {
		s.stats.Blocks++
	}
	if s.named[id] > 0 {
		s.namedBytes += p.FrameBytes()
	}
}

// dropLocked forgets a frame: its bytes are dead.
func (s *Shelf) dropLocked(id format.BlockID) {
	p := s.index[id]
	if p == nil {
		return
	}
	delete(s.index, id)
	p.seg.live -= p.FrameBytes()
	if p.kind == format.Block {
		s.stats.Blocks--
	}
	if s.named[id] > 0 {
		s.namedBytes -= p.FrameBytes()
	}
}

// Name counts what an agent names.
func (s *Shelf) Name(ids iter.Seq[format.BlockID]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids {
		s.named[id]++
		if p := s.index[id]; p != nil && s.named[id] == 1 {
			s.namedBytes += p.FrameBytes()
		}
	}
}

// Unname takes that back. A tail that nobody names is dead; a block is cached,
// and new in that.
func (s *Shelf) Unname(ids iter.Seq[format.BlockID]) {
	now := s.seconds()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids {
		if s.named[id]--; s.named[id] > 0 {
			continue
		}
		delete(s.named, id)
		if p := s.index[id]; p != nil {
			s.namedBytes -= p.FrameBytes()
			s.touchLocked(p, now)
			s.dropTailLocked(id, p)
		}
	}
}

func (s *Shelf) dropTailLocked(id format.BlockID, p *stored) {
	if p.kind == format.Tail && s.named[id] == 0 {
		s.dropLocked(id)
	}
}

// DropUnnamedTails forgets the tails of earlier turns, and of turns that were not
// published.
func (s *Shelf) DropUnnamedTails() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.index {
		s.dropTailLocked(id, p)
	}
}

// readable is false for a frame of which the key is not there: it is dead.
func (s *Shelf) readable(c format.Cover, key format.KeyID) bool {
	return c == format.Plain || s.o.Ring != nil && s.o.Ring.Has(key)
}

// DropUnreadable forgets the frames of erased keys.
func (s *Shelf) DropUnreadable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.index {
		if !s.readable(p.Cover, p.key) {
			s.dropLocked(id)
		}
	}
}

// DropTails is DropUnnamedTails for some.
func (s *Shelf) DropTails(tails []format.TailRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tails {
		if p := s.index[t.ID()]; p != nil {
			s.dropTailLocked(t.ID(), p)
		}
	}
}

func (s *Shelf) touchLocked(p *stored, now uint32) {
	if now > p.used+coarseSeconds {
		p.used = now
	}
	if now > p.noted+savedSeconds {
		p.noted, p.seg.touched = now, true
	}
}

// use finds a frame for somebody who wants it.
func (s *Shelf) use(id format.BlockID) (*stored, bool) {
	now := s.seconds()
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.index[id]
	if ok {
		s.touchLocked(p, now)
	}
	return p, ok
}

// Use tells whether a frame is found, and counts as using it.
func (s *Shelf) Use(id format.BlockID) bool {
	_, ok := s.use(id)
	return ok
}

// Has is Use without the trace.
func (s *Shelf) Has(id format.BlockID) bool {
	_, ok := s.find(id)
	return ok
}

// HasShape is Has for a frame of just that size, under any cover.
func (s *Shelf) HasShape(id format.BlockID, shape format.Shape) bool {
	p, ok := s.find(id)
	return ok && p.Under(shape.Cover) == shape
}

// Missing gives the first frame that is not found; false when all are.
func (s *Shelf) Missing(ids iter.Seq[format.BlockID]) (format.BlockID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids {
		if s.index[id] == nil {
			return id, true
		}
	}
	return format.BlockID{}, false
}

// BytesOf is what frames take on disk.
func (s *Shelf) BytesOf(ids iter.Seq[format.BlockID]) (total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids {
		if p := s.index[id]; p != nil {
			total += p.FrameBytes()
		}
	}
	return total
}

// find is use without the trace.
func (s *Shelf) find(id format.BlockID) (*stored, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.index[id]
	return p, ok
}

// entriesLocked lists what is found in each segment that wanted says yes to.
func (s *Shelf) entriesLocked(wanted func(*segment) bool) map[*segment][]format.Entry {
	out := map[*segment][]format.Entry{}
	for id, p := range s.index {
		if wanted(p.seg) {
			out[p.seg] = append(out[p.seg], p.entry(id))
		}
	}
	return out
}
