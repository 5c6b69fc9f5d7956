package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// Each phase of a turn is made to last: its agent's turn before, a block from disk,
// a step, another step, the publication. What is known at the first token, and the
// whole, tell them apart.
func TestTimings(t *testing.T) {
	const slow = 20 * time.Millisecond
	var steps, slowly atomic.Int64
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	_, history := r.tell("ada", promptOf(150, 3), 4)
	r.stop()
	r = newRig(t, rigOptions{dir: dir, fault: func(at FaultPoint) error {
		if slowly.Load() != 0 && at != FaultEncode && at != FaultSample && (at != FaultForward || steps.Add(1) <= 2) {
			time.Sleep(slow)
		}
		return nil
	}})
	defer r.stop()
	slowly.Store(1)
	began := time.Now()
	req := greedy(append(history, promptOf(40, 5)...), 3).as("ada")
	req.Namespace = "default"
	s, err := r.Submit(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, ok := s.Next(t.Context()); ok; _, ok = s.Next(t.Context()) {
	}
	done, err := s.Result()
	took := time.Since(began)
	if err != nil || done.Start != StartRestored {
		t.Fatalf("%+v, %v", done, err)
	}
	got := done.Timings
	for phase, d := range map[string]time.Duration{"queue": got.Queue, "restore": got.Restore, "prefill": got.Prefill, "decode": got.Decode, "save": got.Save} {
		if d < slow {
			t.Errorf("%s took %v, at least %v was spent there", phase, d, slow)
		}
	}
	first := got.Queue + got.Restore + got.Prefill
	if first != done.TimeToFirst || first+got.Decode+got.Save > took {
		t.Errorf("%+v: first token after %v, all %v", got, done.TimeToFirst, took)
	}
	if early := s.Timings(); early != (Timings{Queue: got.Queue, Restore: got.Restore, Prefill: got.Prefill}) {
		t.Errorf("at the first token %+v, at the end %+v", early, got)
	}
}

// A turn that fails in its first step says where its time went until then.
func TestTimingsOfFailure(t *testing.T) {
	r := newRig(t, rigOptions{fault: func(at FaultPoint) error {
		if at == FaultForward {
			return errors.New("no")
		}
		return nil
	}})
	defer r.stop()
	s, err := r.Submit(context.Background(), greedy(promptOf(40, 5), 3).in("default"))
	if err != nil {
		t.Fatal(err)
	}
	_, more := s.Next(t.Context())
	done, err := s.Result()
	if got := done.Timings; more || err == nil || got.Queue <= 0 || got.Prefill <= 0 || got.Decode != 0 || got.Save != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
