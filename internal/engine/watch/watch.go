// Package watch notices a step that does not end. It knows when steps begin and
// end, not what they do; and it can do nothing about it but say so.
package watch

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Watch is told of each step. One step runs at a time.
type Watch struct {
	limit time.Duration
	log   *slog.Logger

	mu      sync.Mutex
	began   time.Time // of the step that runs; zero when none does
	step    step      // what it computes
	noticed bool      // it is counted
	stuck   int64     // steps that took longer than limit
}

// step is what a step computes.
type step struct{ sequences, tokens int }

func (s step) String() string { return fmt.Sprintf("%d tokens of %d sequences", s.tokens, s.sequences) }

// New makes a watch of steps that should take less than limit.
func New(limit time.Duration, log *slog.Logger) *Watch { return &Watch{limit: limit, log: log} }

// Begin says that a step begins.
func (w *Watch) Begin(sequences, tokens int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began, w.noticed, w.step = time.Now(), false, step{sequences, tokens}
}

// End says that it has ended.
func (w *Watch) End() {
	w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noticed {
		w.log.Warn("the step that was stuck has ended", "step", w.step.String(), "took", time.Since(w.began))
	}
	w.began = time.Time{}
}

// Run looks at the steps until done.
func (w *Watch) Run(done <-chan struct{}) {
	tick := time.NewTicker(w.limit / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look()
		case <-done:
			return
		}
	}
}

// look counts and logs a step that is stuck, once.
func (w *Watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noticed || w.began.IsZero() || time.Since(w.began) < w.limit {
		return
	}
	w.noticed = true
	w.stuck++
	w.log.Error("a step is stuck", "step", w.step.String(), "for", time.Since(w.began), "limit", w.limit)
}

// Stuck counts the steps that took longer than the limit.
func (w *Watch) Stuck() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stuck
}

// Err says that a step is stuck now, or is nil.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() {
		return nil
	}
	if ran := time.Since(w.began); ran >= w.limit {
		return fmt.Errorf("a step of %s has been running for %v", w.step, ran.Round(time.Second))
	}
	return nil
}
