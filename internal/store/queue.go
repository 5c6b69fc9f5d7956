package store

import (
	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

// Block is a sealed block on its way to disk. Its bytes must not change and
// Tokens must not be touched until Done.
type Block struct {
	Namespace   string // whose key encrypts it, with Options.Ring
	Key, Parent kv.Key
	Group       int
	Form        quant.KVForm
	Tokens      []token.ID
	SizeBytes   int              // of the payload
	Copy        func(dst []byte) // fills the payload; called by the writer, at most once
	Done        func()           // called once: written, already there, dropped or refused
}

func (b *Block) id() format.BlockID { return format.BlockID{Key: b.Key, Group: b.Group} }

func (b *Block) frame() format.Frame {
	return format.Frame{
		Kind: format.Block, Form: b.Form, Group: b.Group, Tokens: b.Tokens,
		PayloadBytes: b.SizeBytes, Key: b.Key, Parent: b.Parent,
	}
}

// job is something for the writer to do. It calls no one back under Store.mu.
type job interface{ run(w *writer) }

type blockJob struct{ block Block }

// Append hands a block to the writer and returns at once. A block that is stored
// or queued already is not written again: Done is called before Append returns,
// as it is after Close. An error while writing drops the block: a later Publish
// that names it fails, and it may be appended anew.
func (s *Store) Append(b Block) {
	if !s.enqueueBlock(b) {
		b.Done()
	}
}

func (s *Store) enqueueBlock(b Block) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.stats.Dropped++
		return false
	}
	if _, queued := s.pending[b.id()]; queued || s.frames.Use(b.id()) {
		return false
	}
	s.pending[b.id()] = struct{}{}
	s.stats.QueuedBytes += int64(b.SizeBytes)
	s.enqueueLocked(&blockJob{b})
	return true
}

func (s *Store) enqueueLocked(j job) {
	s.jobs = append(s.jobs, j)
	s.wake.Signal()
}

// Pressure is how full the queue is: bytes waiting to be written over
// Options.QueueBytes. Above 1 the caller should produce less; nothing is refused.
func (s *Store) Pressure() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.stats.QueuedBytes) / float64(s.o.QueueBytes)
}

// Room tells whether the queue is below its bound.
func (s *Store) Room() bool { return s.Pressure() < 1 }

// take gives the next job, and waits for one if wait; false once the store is
// closed and all are done.
func (s *Store) take(wait bool) (job, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for wait && len(s.jobs) == 0 && !s.closed {
		s.wake.Wait()
	}
	if len(s.jobs) == 0 {
		return nil, !s.closed
	}
	return s.popLocked(), true
}

func (s *Store) popLocked() job {
	j := s.jobs[0]
	s.jobs[0] = nil
	s.jobs = s.jobs[1:]
	return j
}

// takeCommits takes the publishes that are next in the queue, so that they share
// a sync.
func (s *Store) takeCommits(run []*commit) []*commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.jobs) > 0 {
		c, ok := s.jobs[0].(*commit)
		if !ok {
			break
		}
		s.popLocked()
		run = append(run, c)
	}
	return run
}

func (j *blockJob) run(w *writer) {
	b := &j.block
	_, err := w.out.Append(b.Namespace, b.frame(), b.Copy)
	w.s.settle(b, err)
	b.Done()
}

// settle takes a block, which is found by now or dropped, from the queue.
func (s *Store) settle(b *Block, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, b.id())
	s.stats.QueuedBytes -= int64(b.SizeBytes)
	if err != nil {
		s.stats.Dropped++
		s.stats.Errors++
	}
}
