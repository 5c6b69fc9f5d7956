package turnstile

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Three come for "ada" while one is inside; they go in as they came.
func TestOneAtATimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Turnstile[string]
		first, err := s.Enter(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				leave, err := s.Enter(context.Background(), "ada")
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				leave()
				leave() // does nothing
			})
			synctest.Wait()
		}
		if _, ok := s.TryEnter("ada"); ok || len(order) > 0 || !s.Busy("ada") {
			t.Error("somebody went in beside the first")
		}
		if leave, ok := s.TryEnter("bob"); !ok {
			t.Error("another key waits")
		} else {
			leave()
		}
		first()
		wg.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("order %v", order)
		}
		if len(s.lines) != 0 || s.Busy("ada") {
			t.Errorf("%d lines are kept", len(s.lines))
		}
	})
}

// One that gives up in the queue is passed over; the next waits for the first.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left atomic.Int32
		s := Turnstile[int]{Left: func(int) { left.Add(1) }}
		first, _ := s.Enter(t.Context(), 1)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() { _, err := s.Enter(ctx, 1); gaveUp <- err }()
		synctest.Wait()
		inside := make(chan func())
		go func() { leave, _ := s.Enter(context.Background(), 1); inside <- leave }()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
		synctest.Wait()
		select {
		case <-inside:
			t.Fatal("the last went in beside the first")
		default:
		}
		first()
		(<-inside)()
		synctest.Wait()
		if left.Load() != 3 || s.Busy(1) {
			t.Errorf("%d left", left.Load())
		}
	})
}
