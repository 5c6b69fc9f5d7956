package team

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// 1,000 rounds: between two barriers everyone sees what everyone wrote.
func TestBarrierKeepsRoundsApart(t *testing.T) {
	defer goleak.VerifyNone(t)
	for n := 1; n <= 4; n++ {
		team := New(n)
		written := make([]int, n) // by its worker only
		var early atomic.Int32
		team.Run(func(w Worker) {
			for round := 1; round <= 1000; round++ {
				written[w.ID] = round
				w.Barrier()
				for _, other := range written {
					if other != round {
						early.Add(1)
					}
				}
				w.Barrier()
			}
		})
		if early.Load() != 0 || team.Size() != n {
			t.Errorf("team of %d: %d early readers", n, early.Load())
		}
		team.Close()
	}
}

func TestRunIsOncePerWorker(t *testing.T) {
	defer goleak.VerifyNone(t)
	team := New(3)
	var calls [3]int
	for range 100 {
		team.Run(func(w Worker) {
			if w.N != 3 {
				panic(w.N)
			}
			calls[w.ID]++
		})
	}
	if calls != [3]int{100, 100, 100} {
		t.Errorf("calls %v", calls)
	}
	team.Close()
	team.Close() // nothing left to end
}

// Whoever panics, and whether the others wait at a barrier or are on their way
// to one: Run panics with its words, and the team works on.
func TestPanicOfOneWorker(t *testing.T) {
	defer goleak.VerifyNone(t)
	broken := errors.New("broken")
	team := New(3)
	defer team.Close()
	for culprit := range 3 {
		failure := panicOf(func() {
			team.Run(func(w Worker) {
				w.Barrier()
				if w.ID == culprit {
					panic(broken)
				}
				w.Barrier()
				w.Barrier()
			})
		})
		if failure.Worker != culprit || !errors.Is(failure, broken) || !strings.Contains(string(failure.Stack), "team_test.go") {
			t.Errorf("culprit %d: %v", culprit, failure)
		}
		var sum atomic.Int32
		team.Run(func(w Worker) {
			sum.Add(1)
			w.Barrier()
			if sum.Load() != 3 {
				t.Errorf("after the panic: %d", sum.Load())
			}
		})
	}
}

func TestPanicOfAll(t *testing.T) {
	team := New(2)
	defer team.Close()
	if failure := panicOf(func() { team.Run(func(Worker) { panic("all") }) }); failure.Value != "all" {
		t.Errorf("%v", failure)
	}
}

func panicOf(f func()) (p WorkerPanic) {
	defer func() { p, _ = recover().(WorkerPanic) }()
	f()
	return WorkerPanic{Worker: -1}
}

func TestRunAllocatesNothing(t *testing.T) {
	team := New(2)
	defer team.Close()
	job := func(w Worker) { w.Barrier() }
	if n := testing.AllocsPerRun(100, func() { team.Run(job) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
