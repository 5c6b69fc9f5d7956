// Package turnstile lets those who want the same thing have it one at a time, in
// the order they came. It knows keys and their queues, not what is done in turn.
package turnstile

import (
	"context"
	"sync"
)

// Turnstile is a queue per key.
//   - Of those who entered under a key one is inside; the others wait in order.
//   - A key nobody entered or waits for takes no memory.
type Turnstile[K comparable] struct {
	// Left, if set, is told after a key was left, outside of any lock.
	Left func(key K)

	mu    sync.Mutex
	lines map[K]*line
}

type line struct {
	users int           // inside or waiting
	last  chan struct{} // closed when the youngest of them leaves
}

// Enter waits until those before have left. leave must be called once if err is
// nil; more calls do nothing.
func (t *Turnstile[K]) Enter(ctx context.Context, key K) (func(), error) {
	t.mu.Lock()
	before, leave := t.joinLocked(key)
	t.mu.Unlock()
	if before == nil {
		return leave, nil
	}
	select {
	case <-before:
		return leave, nil
	case <-ctx.Done():
		go func() { <-before; leave() }() // ends with the one before
		return nil, ctx.Err()
	}
}

// TryEnter enters if nobody is inside.
func (t *Turnstile[K]) TryEnter(key K) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.lines[key]; busy {
		return nil, false
	}
	_, leave = t.joinLocked(key)
	return leave, true
}

// Busy says whether somebody is inside or waits.
func (t *Turnstile[K]) Busy(key K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, busy := t.lines[key]
	return busy
}

// joinLocked puts the caller behind the youngest.
func (t *Turnstile[K]) joinLocked(key K) (before chan struct{}, leave func()) {
	if t.lines == nil {
		t.lines = map[K]*line{}
	}
	l, ok := t.lines[key]
	if !ok {
		l = &line{}
		t.lines[key] = l
	}
	mine := make(chan struct{})
	before, l.last = l.last, mine
	l.users++
	return before, sync.OnceFunc(func() { t.leave(key, l, mine) })
}

func (t *Turnstile[K]) leave(key K, l *line, mine chan struct{}) {
	t.mu.Lock()
	if l.users--; l.users == 0 {
		delete(t.lines, key)
	}
	t.mu.Unlock()
	close(mine)
	if t.Left != nil {
		t.Left(key)
	}
}
