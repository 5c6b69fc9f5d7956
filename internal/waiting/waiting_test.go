package waiting

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// Items are kept in the order they came; who takes one out says which.
func TestQueueOrder(t *testing.T) {
	q := NewQueue[int]()
	for i := range 3 {
		q.Push(i)
	}
	seen := q.Items()
	if !q.Remove(1) || q.Remove(7) || q.Remove(1) {
		t.Error("removed what is not there, or not what is")
	}
	q.Push(9)
	if got := fmt.Sprint(seen, q.Len(), q.Drain(), q.Len()); got != "[0 1 2] 3 [0 2 9] 0" {
		t.Errorf("order %v", got)
	}
}

// Await waits for a Push, and gives up with its context, also when there are items.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[string]()
		got := make(chan bool)
		go func() { got <- q.Await(context.Background()) }()
		synctest.Wait()
		q.Push("late")
		if !<-got || !q.Await(context.Background()) {
			t.Error("not there")
		}
		q.Drain()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { got <- q.Await(ctx) }()
		synctest.Wait()
		cancel()
		if <-got {
			t.Error("something came of nothing")
		}
		q.Push("left")
		if q.Await(ctx) {
			t.Error("something came after the end")
		}
	})
}

// Two of a kind are most; when one goes another may come. Nothing is kept of a
// kind that is gone.
func TestCounts(t *testing.T) {
	var c Counts[string]
	var taken []bool
	for _, who := range []string{"ada", "ada", "ada", "bob"} {
		taken = append(taken, c.Add(who, 2))
	}
	if want := []bool{true, true, false, true}; !slices.Equal(taken, want) {
		t.Errorf("taken %v, want %v", taken, want)
	}
	c.Done("ada")
	if c.Of("ada") != 1 || c.Of("bob") != 1 || !c.Add("ada", 2) {
		t.Errorf("%d of ada, %d of bob", c.Of("ada"), c.Of("bob"))
	}
	for range 2 {
		c.Done("ada")
	}
	if c.Done("bob"); len(c.of) != 0 {
		t.Errorf("%v is left", c.of)
	}
}

// Everybody who waits is woken by one Fire; who comes later waits for the next.
func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Event
		e.Fire() // nobody waits
		woken := 0
		a, b := e.Wait(), e.Wait()
		go func() { <-a; <-b; woken++ }()
		synctest.Wait()
		if woken != 0 {
			t.Error("woken by nothing")
		}
		e.Fire()
		synctest.Wait()
		if woken != 1 {
			t.Error("not woken")
		}
		select {
		case <-e.Wait():
			t.Error("the next event has happened already")
		default:
		}
	})
}
