package waiting

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

// Items come out as they went in, but for those put in front.
func TestQueueOrder(t *testing.T) {
	q := NewQueue[int]()
	for i := range 3 {
		q.Push(i, false)
	}
	q.Push(9, true)
	if !q.Remove(1) || q.Remove(7) {
		t.Error("removed what is not there, or not what is")
	}
	var got []int
	for range 2 {
		i, ok := q.Pop(t.Context())
		if !ok {
			t.Fatal("the queue ended")
		}
		got = append(got, i)
	}
	got = append(got, q.Drain()...)
	if fmt.Sprint(got) != "[9 0 2]" {
		t.Errorf("order %v", got)
	}
}

// Pop waits for a Push, and gives up with its context, also when there are items.
func TestPopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[string]()
		got := make(chan string)
		go func() { s, _ := q.Pop(context.Background()); got <- s }()
		synctest.Wait()
		q.Push("late", false)
		if s := <-got; s != "late" {
			t.Errorf("popped %q", s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() { _, ok := q.Pop(ctx); ended <- ok }()
		synctest.Wait()
		cancel()
		if <-ended {
			t.Error("popped from nothing")
		}
		q.Push("left", false)
		if _, ok := q.Pop(ctx); ok {
			t.Error("popped after the end")
		}
	})
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
