package engine

import (
	"context"
	"slices"
	"sync"
)

// queue holds sequences that wait for admission, first come first served;
// preempted ones come back to its front.
type queue struct {
	mu    sync.Mutex
	items []*sequence
	wake  chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(s *sequence, front bool) {
	q.mu.Lock()
	if front {
		q.items = append([]*sequence{s}, q.items...)
	} else {
		q.items = append(q.items, s)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop waits for the next sequence; false once ctx is done.
func (q *queue) pop(ctx context.Context) (*sequence, bool) {
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
			return nil, false
		}
	}
}

// remove takes a sequence out; false if it is not in the queue.
func (q *queue) remove(s *sequence) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.items, s)
	if i >= 0 {
		q.items = slices.Delete(q.items, i, i+1)
	}
	return i >= 0
}

// drain empties the queue.
func (q *queue) drain() []*sequence {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = nil
	return items
}

// event wakes everybody who waits for it to happen again.
type event struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait gives a channel that is closed at the next fire.
func (e *event) wait() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ch == nil {
		e.ch = make(chan struct{})
	}
	return e.ch
}

func (e *event) fire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ch != nil {
		close(e.ch)
		e.ch = nil
	}
}
