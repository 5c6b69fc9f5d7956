package store

import (
	"context"
	"fmt"

	"mneme/internal/store/frames"
)

// writer is the goroutine that makes every change on disk.
type writer struct {
	s      *Store
	out    *frames.Writer
	wanted []chan error // of Collect: told when there is nothing more to collect
	bodies []agentID    // agents whose tokens are in memory, the longest unused first
}

// jobsPerStep jobs in a row are followed by a step of collecting, however many wait.
const jobsPerStep = 16

func (w *writer) loop() {
	w.begin()
	for n := 1; ; n++ {
		j, open := w.s.take(!w.out.More())
		if !open {
			break
		}
		if j != nil {
			j.run(w)
		}
		if j == nil || n%jobsPerStep == 0 {
			w.collect()
		}
	}
	w.out.Close()
	w.tell(ErrClosed)
}

// begin finds out what is named, finishes the deletes that a crash cut short, and
// encrypts what is plain and is not to be.
func (w *writer) begin() {
	w.s.roster.NameAll()
	w.s.frames.DropUnnamedTails()
	if err := w.out.CountForeign(); err != nil {
		w.s.o.Log.Warn("store: count segments of other KV fingerprints", "err", err)
	}
	if gone := w.s.roster.AllGone(); len(gone) > 0 {
		if err := w.eraseGone(gone...); err != nil {
			w.s.o.Log.Warn("store: erase deleted agents", "folders", len(gone), "err", err)
		}
	}
	if err := w.encrypt(); err != nil {
		w.s.o.Log.Warn("store: encrypt what was plain; the next start tries again", "err", err)
	}
	w.out.Look()
}

// collect does a step of it and tells who waits when that was the last.
func (w *writer) collect() {
	if n := len(w.bodies); n > 0 {
		w.compact(w.bodies[n-1])
	}
	err := w.out.Step()
	if err != nil {
		w.s.o.Log.Warn("store: collect", "err", err)
	}
	if !w.out.More() {
		w.tell(err)
	}
}

func (w *writer) tell(err error) {
	for _, done := range w.wanted {
		done <- err
	}
	w.wanted = nil
}

// collection asks the writer for a whole pass.
type collection struct{ done chan error }

// Collect gives disk space back until there is nothing worth it: dead frames,
// and blocks that no agent names when the budget is passed. The writer does so by
// itself; Collect does not spare the open segment, and waits. When ctx ends it
// goes on without the caller.
func (s *Store) Collect(ctx context.Context) error {
	c := &collection{make(chan error, 1)}
	if err := s.enqueue(c); err != nil {
		return fmt.Errorf("store: collect: %w", err)
	}
	select {
	case err := <-c.done:
		if err != nil {
			return fmt.Errorf("store: collect: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *collection) run(w *writer) {
	w.out.Want()
	w.wanted = append(w.wanted, c.done)
}
