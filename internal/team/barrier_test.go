package team

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// awaitAsleep returns when n workers of the team are asleep.
func (t *Team) awaitAsleep(n int32) {
	for t.barrier.asleep.Load() != n {
		time.Sleep(time.Millisecond)
	}
}

// The last one comes long after the others have gone to sleep, each worker in
// turn: all pass every barrier together.
func TestLateWorkerWakesTheSleepers(t *testing.T) {
	defer goleak.VerifyNone(t)
	team := New(3)
	defer team.Close()
	const rounds = 12
	var passed [3]int
	team.Run(func(w Worker) {
		for round := range rounds {
			if round%w.N == w.ID {
				team.awaitAsleep(2)
			}
			w.Barrier()
			passed[w.ID]++
			w.Barrier()
			if passed != [3]int{round + 1, round + 1, round + 1} {
				t.Errorf("round %d: passed %v", round, passed)
			}
			w.Barrier()
		}
	})
	if asleep := team.barrier.asleep.Load(); asleep != 0 {
		t.Errorf("%d asleep after the run", asleep)
	}
}

// A worker that fails while the others sleep wakes them.
func TestPanicWakesTheSleepers(t *testing.T) {
	defer goleak.VerifyNone(t)
	broken := errors.New("broken")
	team := New(3)
	defer team.Close()
	for culprit := range 3 {
		failure := panicOf(func() {
			team.Run(func(w Worker) {
				if w.ID == culprit {
					team.awaitAsleep(2)
					panic(broken)
				}
				w.Barrier()
				t.Errorf("worker %d passed a barrier without %d", w.ID, culprit)
			})
		})
		if failure.Worker != culprit || !errors.Is(failure, broken) {
			t.Errorf("culprit %d: %v", culprit, failure)
		}
		team.Run(func(w Worker) { w.Barrier() })
	}
}

// More workers than CPUs: no barrier can pass unless those that wait let go.
func TestManyWorkersOnFewCPUs(t *testing.T) {
	defer goleak.VerifyNone(t)
	team := New(32)
	defer team.Close()
	const rounds = 200
	var passed [32]int
	team.Run(func(w Worker) {
		for range rounds {
			w.Barrier()
			passed[w.ID]++
		}
	})
	for id, n := range passed {
		if n != rounds {
			t.Errorf("worker %d passed %d barriers of %d", id, n, rounds)
		}
	}
}

// 256 µs, half as long after each wait in vain until 2 µs, whole again after a
// fruitful wait and after 64 in vain.
func TestPatience(t *testing.T) {
	var p patience
	var limits []time.Duration
	for range 9 {
		limits = append(limits, p.limit()/time.Microsecond)
		p.exhausted()
	}
	if want := []time.Duration{256, 128, 64, 32, 16, 8, 4, 2, 2}; !slices.Equal(limits, want) {
		t.Errorf("limits %d, want %d", limits, want)
	}
	for range retryPatience - 9 - 1 {
		p.exhausted()
	}
	if p.limit() != mostPatience>>mostHalvings {
		t.Errorf("before the retry: %v", p.limit())
	}
	if p.exhausted(); p.limit() != mostPatience {
		t.Errorf("at the retry: %v", p.limit())
	}
	p.exhausted()
	if p.rewarded(); p.limit() != mostPatience {
		t.Errorf("after a fruitful wait: %v", p.limit())
	}
}
