// Package waiting has what goroutines wait on: a queue that others fill, an event
// that others let happen; and it counts who waits. It knows nothing of what waits.
package waiting

import (
	"context"
	"slices"
	"sync"
)

// Queue keeps items until somebody takes them out, in the order they came. It is
// unbounded: who fills it counts.
type Queue[T comparable] struct {
	mu    sync.Mutex
	items []T
	wake  chan struct{}
}

// NewQueue is an empty queue.
func NewQueue[T comparable]() *Queue[T] { return &Queue[T]{wake: make(chan struct{}, 1)} }

// Push puts an item at the end.
func (q *Queue[T]) Push(s T) {
	q.mu.Lock()
	q.items = append(q.items, s)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Await waits until there is an item; false once ctx is done.
func (q *Queue[T]) Await(ctx context.Context) bool {
	for ctx.Err() == nil {
		if q.Len() > 0 {
			return true
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return false
}

// Len counts the items.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// Items lists what is in the queue now; the caller's to keep.
func (q *Queue[T]) Items() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.items)
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

// Counts is how many there are of each kind. The zero value is ready; a kind of
// which there is none takes no memory.
type Counts[K comparable] struct {
	mu sync.Mutex
	of map[K]int
}

// Add counts one more of a kind, unless there are most already.
func (c *Counts[K]) Add(kind K, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[K]int{}
	}
	if c.of[kind] >= most {
		return false
	}
	c.of[kind]++
	return true
}

// Done counts one less.
func (c *Counts[K]) Done(kind K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[kind]--; c.of[kind] <= 0 {
		delete(c.of, kind)
	}
}

// Of is how many there are of a kind.
func (c *Counts[K]) Of(kind K) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[kind]
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
