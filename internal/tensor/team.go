package tensor

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
//   - They spin only in Barrier; between runs they block.
//   - One goroutine at a time may call Run; Close comes after the last one.
type Team struct {
	job     func(Worker)
	wake    []chan struct{} // one for each worker
	running atomic.Int32    // workers still in this run
	done    chan struct{}   // the last of them says so
	ended   sync.WaitGroup  // goroutines of the team
	barrier barrier

	mu      sync.Mutex
	failure *WorkerPanic // the first of this run
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
	return fmt.Sprintf("tensor: worker %d panicked: %v\n%s", p.Worker, p.Value, p.Stack)
}

// Unwrap is the panic's value if that is an error.
func (p WorkerPanic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// NewTeam starts n goroutines; Close ends them.
func NewTeam(n int) *Team {
	if n < 1 {
		panic(fmt.Sprintf("tensor: team of %d", n))
	}
	t := &Team{done: make(chan struct{}, 1)}
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
		panic("tensor: run of a closed team")
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
		t.work(w)
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
		t.barrier.poison.Store(true)
	}()
	t.job(w)
}

// Barrier returns when all workers of the run have called it.
func (w Worker) Barrier() { w.team.barrier.wait(int32(w.N)) }

// poisoned is what a worker leaves a run with when another has failed.
type poisoned struct{}

// barrier counts arrivals; the last one turns the generation, which the
// others watch. The fields lie on cache lines of their own.
type barrier struct {
	_          [64]byte
	arrived    atomic.Int32
	_          [60]byte
	generation atomic.Uint32
	poison     atomic.Bool // read as rarely as written: it may share the line
	_          [56]byte
}

func (b *barrier) wait(n int32) {
	generation := b.generation.Load()
	b.leaveIfPoisoned()
	if b.arrived.Add(1) == n {
		b.arrived.Store(0)
		b.generation.Add(1)
		return
	}
	for spins := 1; b.generation.Load() == generation; spins++ {
		if spin(spins) {
			b.leaveIfPoisoned()
		}
	}
}

// leaveIfPoisoned unwinds a worker from a run that is lost.
func (b *barrier) leaveIfPoisoned() {
	if b.poison.Load() {
		panic(poisoned{})
	}
}

func (b *barrier) reset() {
	b.arrived.Store(0)
	b.poison.Store(false)
}

const spinsPerYield = 1024

// spin is one turn of waiting; now and then it lets other goroutines have the
// core, and says so.
func spin(turn int) (yielded bool) {
	pause()
	if turn%spinsPerYield != 0 {
		return false
	}
	runtime.Gosched()
	return true
}
