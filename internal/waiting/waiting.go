// Package waiting has what goroutines wait on: a queue that others fill, and an
// event that others let happen. It knows nothing of what waits.
package waiting

import (
	"context"
	"slices"
	"sync"
)

// Queue hands items out first come first served; some come back to its front. It
// is unbounded: who fills it counts.
type Queue[T comparable] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{}
}

// NewQueue is an empty queue.
func NewQueue[T comparable]() *Queue[T] { return &Queue[T]{wake: make(chan struct{}, 1)} }

// Push puts an item at the end, or in front of all others.
func (q *Queue[T]) Push(s T, front bool) {
	q.mu.Lock()
	if front {
		q.items = append([]T{s}, q.items...)
	} else {
		q.items = append(q.items, s)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Pop waits for the next item; false once ctx is done.
func (q *Queue[T]) Pop(ctx context.Context) (next T, ok bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 && ctx.Err() == nil {
			s := q.items[0]
			q.items = q.items[1:]
			q.mu.Unlock()
			return s, true
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
			return next, false
		}
	}
}

// Remove takes an item out; false if it is not in the queue.
func (q *Queue[T]) Remove(s T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.items, s)
	if i >= 0 {
		q.items = slices.Delete(q.items, i, i+1)
	}
	return i >= 0
}

// Drain empties the queue.
func (q *Queue[T]) Drain() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

// Event wakes everybody who waits for it to happen again.
type Event struct {
	mu sync.Mutex
	ch chan struct{}
}

// Wait gives a channel that is closed at the next Fire.
func (e *Event) Wait() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ch == nil {
		e.ch = make(chan struct{})
	}
	return e.ch
}

// Fire lets it happen.
func (e *Event) Fire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ch != nil {
		close(e.ch)
		e.ch = nil
	}
}
