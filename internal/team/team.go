// Package team knows how n threads work on one job at once: how they start,
// wait for each other, and what becomes of the others when one fails.
//
// It leaves what the job is, and who does which part of it, to its callers.
package team

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Team runs a function on n threads at once.
//   - The n workers are goroutines of the team, pinned to a thread while they
//     work; the caller of Run only waits (measured: a third less than with the
//     caller as a worker, whose fellow the scheduler is slow to wake).
//   - They spin only in Barrier, and there not for long; between runs they block.
//   - One goroutine at a time may call Run; Close comes after the last one.
type Team struct {
	job     func(Worker)
	wake    []chan struct{} // one for each worker
	seats   []seat          // likewise
	running atomic.Int32    // workers still in this run
	done    chan struct{}   // the last of them says so
	ended   sync.WaitGroup  // goroutines of the team
	barrier barrier

	mu      sync.Mutex
	failure *WorkerPanic // the first of this run
}

// seat is what a worker keeps, on cache lines of its own.
type seat struct {
	patience patience
	place    atomic.Int32 // the CPU where it last woke, plus one; 0 between runs
	_        [116]byte
}

// Worker is one of N in a run.
type Worker struct {
	ID, N int
	team  *Team
}

// WorkerPanic is what Run panics with when a worker did.
type WorkerPanic struct {
	Worker int
	Value  any
	Stack  []byte
}

// Error says what the worker's panic said, and where it was.
func (p WorkerPanic) Error() string {
	return fmt.Sprintf("team: worker %d panicked: %v\n%s", p.Worker, p.Value, p.Stack)
}

// Unwrap is the panic's value if that is an error.
func (p WorkerPanic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// New starts n goroutines; Close ends them.
func New(n int) *Team {
	if n < 1 {
		panic(fmt.Sprintf("team: %d workers", n))
	}
	t := &Team{done: make(chan struct{}, 1), seats: make([]seat, n)}
	for id := range n {
		wake := make(chan struct{}, 1)
		t.wake = append(t.wake, wake)
		t.ended.Go(func() { t.serve(Worker{ID: id, N: n, team: t}, wake) })
	}
	return t
}

// Size is the number of workers.
func (t *Team) Size() int { return len(t.wake) }

// Run calls f once as each worker and returns when all have returned. If one
// panics, the others leave at their next barrier, and Run panics with a
// WorkerPanic; the team can be used again.
func (t *Team) Run(f func(w Worker)) {
	if len(t.wake) == 0 {
		panic("team: run of a closed team")
	}
	t.job = f
	t.running.Store(int32(len(t.wake)))
	for _, wake := range t.wake {
		wake <- struct{}{}
	}
	<-t.done
	t.job = nil
	if failure := t.failure; failure != nil {
		t.failure = nil
		t.barrier.reset()
		panic(*failure)
	}
}

// Close ends the team's goroutines and waits for them.
func (t *Team) Close() {
	for _, wake := range t.wake {
		close(wake)
	}
	t.wake = nil
	t.ended.Wait()
}

// serve is a worker's life. It blocks unpinned, which the scheduler ends sooner.
func (t *Team) serve(w Worker, wake <-chan struct{}) {
	for range wake {
		runtime.LockOSThread()
		t.takePlace(w.ID)
		t.work(w)
		t.seats[w.ID].place.Store(0)
		runtime.UnlockOSThread()
		if t.running.Add(-1) == 0 {
			t.done <- struct{}{}
		}
	}
}

// work runs the job as one worker and keeps its panic.
func (t *Team) work(w Worker) {
	defer func() {
		value := recover()
		if _, left := value.(poisoned); value == nil || left {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.failure == nil {
			t.failure = &WorkerPanic{Worker: w.ID, Value: value, Stack: debug.Stack()}
		}
		t.barrier.fail()
	}()
	t.job(w)
}

// Barrier returns when all workers of the run have called it.
func (w Worker) Barrier() {
	if slept := w.team.barrier.wait(int32(w.N), &w.team.seats[w.ID].patience); slept {
		w.team.takePlace(w.ID)
	}
}
