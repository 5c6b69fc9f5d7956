package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

var errInjected = errors.New("injected fault")

// faults counts the points that are passed and fails one of them once.
type faults struct {
	mu     sync.Mutex
	passed map[FaultPoint]int
	at     FaultPoint
	nth    int
	hit    bool
	over   bool // the story is told
}

func (f *faults) ask(p FaultPoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return nil
	}
	f.passed[p]++
	if p == f.at && f.passed[p] == f.nth {
		f.hit = true
		return fmt.Errorf("%s %d: %w", p, f.nth, errInjected)
	}
	return nil
}

// faultStory: an agent's restored turn over text, beside a turn of another. It
// gives the agent's answer and error, and the other's answer.
func faultStory(r *rig) (mine, other answer, err error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		other, _ = r.try(context.Background(), sampled(promptOf(200, 8), 60).in("other"))
	})
	mine, err = r.try(context.Background(), textRequest(chatText("Tell me of the sea.", faultAnswer, "And of the wind, of all the winds there are."), 40).as("ada"))
	wg.Wait()
	return mine, other, err
}

// faultAnswer stands for an earlier answer, long enough to fill blocks.
const faultAnswer = "The sea is wide and it is deep, the sea is cold and it is old, and there is more of it than of the land."

// TestSubmitErrorFreesAllLayers: each point where a turn can fail is counted in
// a clean run, then made to fail once. Afterwards pool and tables add up, the
// other request is unharmed, and the same turn can be had again.
func TestSubmitErrorFreesAllLayers(t *testing.T) {
	dir := t.TempDir()
	seed := newRig(t, rigOptions{dir: dir, threads: 1})
	seed.ask(textRequest(chatText("Tell me of the sea."), 20).as("ada"))
	seed.ask(textRequest(chatText("Tell me of the sea.", faultAnswer, "Go on."), 20).as("ada"))
	seed.stop()

	clean := &faults{passed: map[FaultPoint]int{}}
	want, wantOther, err := faultRun(t, copyDir(t, dir), clean)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []FaultPoint{FaultEncode, FaultAllocate, FaultRestore, FaultForward, FaultSample, FaultSave} {
		if clean.passed[p] == 0 {
			t.Errorf("point %s is never passed", p)
		}
		for _, nth := range []int{1, max(1, clean.passed[p]/4), max(1, clean.passed[p]/2)} {
			f := &faults{passed: map[FaultPoint]int{}, at: p, nth: nth}
			got, other, err := faultRun(t, copyDir(t, dir), f)
			if !f.hit {
				t.Errorf("%s %d of %d was not hit", p, nth, clean.passed[p])
			}
			if err != nil && !errors.Is(err, errInjected) {
				t.Errorf("%s %d: %v", p, nth, err)
			}
			if err == nil && !got.same(want) {
				t.Errorf("%s %d: %v, want %v", p, nth, got, want)
			}
			if (p == FaultAllocate || p == FaultRestore || p == FaultSave) && !other.same(wantOther) {
				t.Errorf("%s %d: the other request got %v, want %v", p, nth, other, wantOther)
			}
		}
	}
}

// faultRun tells the story on a server with faults, then asks again without.
func faultRun(t *testing.T, dir string, f *faults) (mine, other answer, err error) {
	t.Helper()
	r := newRig(t, rigOptions{dir: dir, fault: f.ask, threads: 1})
	defer r.stop()
	mine, other, err = faultStory(r)
	r.checkTables()
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	r.draining.Store(false)
	if again, err := r.try(context.Background(), textRequest(chatText("Tell me of the sea.", faultAnswer, "And of the wind, of all the winds there are."), 40).as("ada")); err != nil {
		t.Errorf("%s %d: the same turn again: %v", f.at, f.nth, err)
	} else if err == nil && mine.text != "" && len(mine.ids) == len(again.ids) && !again.same(mine) {
		t.Errorf("%s %d: again %v, first %v", f.at, f.nth, again, mine)
	}
	return mine, other, err
}

// An end of a sequence that does not run is counted and harms nobody.
func TestSurplusCompletion(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	// The loop is asked to end a stranger: it comes cancelled through the door by
	// which admitted sequences come, but was never put in the batch.
	stranger := &sequence{}
	r.ask(greedy(promptOf(50, 3), 5)) // the loop now waits at the door
	if r.remove(stranger) {
		t.Error("a sequence that does not run was removed")
	}
	if n := r.Stats().Surplus; n != 1 {
		t.Errorf("surplus %d, want 1", n)
	}
	r.ask(greedy(promptOf(50, 3), 5))
}
