package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/token"
)

// start submits a turn whose outputs nobody reads yet.
func (r *rig) start(req Request) *Stream {
	r.t.Helper()
	s, err := r.Submit(context.Background(), req.in("default"))
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// first waits for a stream's first output.
func (r *rig) first(s *Stream) {
	r.t.Helper()
	if _, ok := s.Next(context.Background()); !ok {
		_, err := s.Result()
		r.t.Fatalf("ended before its first token: %v", err)
	}
}

// hearOut reads a stream to its end.
func (r *rig) hearOut(s *Stream) {
	for {
		if _, ok := s.Next(context.Background()); !ok {
			return
		}
	}
}

// Four agents read prompts of 1,500 tokens, 64 in a step: 94 steps. A turn of 40
// tokens that comes in their midst has its first token few steps later, most of
// which pass before it is admitted.
func TestShortTurnBesideLongPrompts(t *testing.T) {
	var step, first atomic.Int64
	begun := make(chan struct{})
	var once sync.Once
	r := newRig(t, rigOptions{stepTokens: 64, observe: func(Step) {
		if step.Add(1) == 8 {
			once.Do(func() { close(begun) })
		}
		time.Sleep(5 * time.Millisecond) // that of another machine
	}})
	defer r.stop()
	var long []*Stream
	for i := range 4 {
		long = append(long, r.start(greedy(promptOf(1500, 3+i), 1)))
	}
	<-begun
	came := step.Load()
	r.first(r.start(greedy(promptOf(40, 9), 1)))
	first.Store(step.Load())
	if took := first.Load() - came; took > 24 {
		t.Errorf("the short turn's first token came %d steps later, want 24 at most", took)
	}
	for _, s := range long {
		r.hearOut(s)
	}
	if n := step.Load(); n < 94 {
		t.Errorf("%d steps for 6,040 tokens: they were not read in steps of 64", n)
	}
}

// With a gap target prompts are read in smaller pieces while others run, and in
// whole steps when nobody waits.
func TestGapTarget(t *testing.T) {
	r := newRig(t, rigOptions{gap: time.Nanosecond, context: 2048})
	defer r.stop()
	r.ask(greedy(promptOf(600, 3), 1))
	if _, longest := r.steps.largest(); longest != 512 {
		t.Errorf("alone a prompt is read in steps of %d, want 512", longest)
	}
	talker := r.start(greedy(promptOf(20, 4), 2000))
	r.first(talker)
	r.steps.mu.Lock()
	before := len(r.steps.steps)
	r.steps.mu.Unlock()
	s := r.start(greedy(promptOf(300, 5), 1))
	r.first(s)
	r.steps.mu.Lock()
	widest := 0
	for _, st := range r.steps.steps[before:] {
		widest = max(widest, st.LargestChunk)
	}
	r.steps.mu.Unlock()
	if widest != 16 {
		t.Errorf("beside one that generates a prompt is read in steps of %d, want 16", widest)
	}
	talker.Close()
	r.hearOut(talker)
}

// One place: who has it ends, then the highest priority, then who came first.
func TestAdmissionByPriority(t *testing.T) {
	r := newRig(t, rigOptions{maxBatch: 1})
	defer r.stop()
	hold := r.start(greedy(promptOf(70, 3), 300))
	r.first(hold)
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i, priority := range []int{-1, 0, 5, 0} {
		req := greedy(promptOf(70, 10+i), 3)
		req.Priority = priority
		s := r.start(req)
		wg.Go(func() {
			r.first(s)
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			r.hearOut(s)
		})
	}
	r.hearOut(hold)
	wg.Wait()
	if !slices.Equal(order, []int{2, 1, 3, 0}) {
		t.Errorf("first tokens in the order %v, want [2 1 3 0]", order)
	}
}

// Two turns of an agent may run or wait; a third is refused and told when to come
// again. Others are not concerned, and afterwards there is room.
func TestQueueOfAnAgent(t *testing.T) {
	r := newRig(t, rigOptions{queue: 2})
	defer r.stop()
	ctx, cancel := context.WithCancel(context.Background())
	running := r.start(greedy(promptOf(70, 3), 400).as("ada"))
	waiting := make(chan error)
	go func() {
		_, err := r.Submit(ctx, greedy(promptOf(70, 3), 5).as("ada").in("default"))
		waiting <- err
	}()
	waitFor(t, "the second turn", func() bool { return r.perAgent.Of(keyOf("default", "ada")) == 2 })
	_, err := r.Submit(ctx, greedy(promptOf(70, 3), 5).as("ada").in("default"))
	var busy *BusyError
	if !errors.Is(err, ErrAgentQueueFull) || !errors.As(err, &busy) || busy.Retry <= 0 {
		t.Errorf("a third turn: %v", err)
	}
	r.ask(greedy(promptOf(70, 4), 5).as("bob"))
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("the second: %v", err)
	}
	running.Close()
	r.hearOut(running)
	r.ask(greedy(promptOf(70, 3), 5).as("ada"))
}

// A turn is told when its first token is to be expected, once there is a
// measurement; one that cannot be in time is refused at once and leaves nothing.
func TestPrediction(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	s := r.start(greedy(promptOf(600, 3), 1))
	if first, known := s.Predicted(); known {
		t.Errorf("before anything is measured: %v", first)
	}
	r.hearOut(s)
	long := r.start(greedy(promptOf(600, 4), 1))
	r.hearOut(long)
	again := r.start(greedy(promptOf(600, 4), 1))
	r.hearOut(again)
	all, known := long.Predicted()
	little, _ := again.Predicted()
	if !known || all < 5*little || little <= 0 {
		t.Errorf("600 tokens take %v, all but 24 of them cached %v; want much less", all, little)
	}
	req := greedy(promptOf(600, 5), 1).as("ada").in("default")
	req.MaxFirst = time.Microsecond
	_, err := r.Submit(context.Background(), req)
	var busy *BusyError
	if !errors.Is(err, ErrTooLate) || !errors.As(err, &busy) || busy.Predicted < all/3 || busy.Retry != busy.Predicted-req.MaxFirst {
		t.Errorf("a turn that cannot be in time: %v", err)
	}
	req.MaxFirst = time.Hour
	r.ask(req)
}

// A step that takes too long is counted, and the server says that it is not well
// as long as it lasts.
func TestStuckStep(t *testing.T) {
	var slow, sick atomic.Bool
	var r *rig
	r = newRig(t, rigOptions{stepLimit: 400 * time.Millisecond, fault: func(p FaultPoint) error {
		if p == FaultForward && slow.CompareAndSwap(true, false) {
			time.Sleep(600 * time.Millisecond)
			err := r.Ready()
			sick.Store(err != nil && strings.Contains(err.Error(), "a step of 50 tokens of 1 sequences has been running"))
		}
		return nil
	}})
	defer r.stop()
	slow.Store(true)
	r.ask(greedy(promptOf(50, 3), 3))
	if !sick.Load() || r.Ready() != nil || r.Stats().Stuck != 1 {
		t.Errorf("said to be stuck: %v, afterwards %v, %d stuck", sick.Load(), r.Ready(), r.Stats().Stuck)
	}
}

// brittle is a constraint that breaks at the third token.
type brittle struct{ tokens int }

func (*brittle) Allows(token.ID) bool { return true }
func (*brittle) Mask() []uint64       { return nil }
func (b *brittle) Take(token.ID) {
	if b.tokens++; b.tokens == 3 {
		panic("the constraint has a defect")
	}
}

// What panics while one turn is computed ends that turn. A worker of the forward
// pass takes the batch with it; whoever comes later has what it always has.
func TestPanics(t *testing.T) {
	var at atomic.Value // FaultPoint at which the fault panics
	at.Store(FaultPoint(""))
	var r *rig
	var poison atomic.Bool
	r = newRig(t, rigOptions{
		fault: func(p FaultPoint) error {
			if at.CompareAndSwap(p, FaultPoint("")) {
				panic(fmt.Sprintf("%s: a defect", p))
			}
			return nil
		},
		observe: func(Step) {
			if poison.CompareAndSwap(true, false) {
				r.Engine.spans[0].Tokens = []token.ID{1 << 30} // no such row of the embedding
			}
		},
	})
	defer r.stop()
	text := textRequest(chatText("Tell me of the sea."), 5).as("ada")
	want := r.ask(text)
	fails := func(what string, req Request) {
		t.Helper()
		other := r.start(greedy(promptOf(200, 3), 40))
		if _, err := r.try(context.Background(), req); !errors.Is(err, errPanic) {
			t.Errorf("%s: %v", what, err)
		}
		r.hearOut(other)
		if _, err := other.Result(); err != nil {
			t.Errorf("%s: the other turn ended with %v", what, err)
		}
		if got := r.ask(text.in(Namespace(what))); got.text != want.text {
			t.Errorf("after %s: %q, want %q", what, got.text, want.text)
		}
	}
	at.Store(FaultEncode)
	fails("encode", text)
	strict := text
	strict.Within = &brittle{}
	fails("constraint", strict)
	for range 3 {
		s := r.start(greedy(promptOf(100, 7), 2000))
		r.first(s)
		poison.Store(true)
		r.hearOut(s)
		if _, err := s.Result(); !errors.Is(err, errPanic) {
			t.Errorf("a worker's panic: %v", err)
		}
		fails("constraint", func() Request { q := text; q.Within = &brittle{}; return q }())
	}
	if n := r.Stats().Surplus; n != 0 {
		t.Errorf("%d ends of sequences that did not run", n)
	}
}
