package roster

import (
	"context"
	"maps"
	"time"
)

// What keeps agents in memory, and in being: pins, waits for tools, and the time
// they may be unused.

// Pin keeps an agent's blocks in memory as long as any other's can go, or ends
// that. It is durable when Pin returns nil, unless a turn runs (later): then it
// holds, and KeepPin makes it durable behind that turn.
func (r *Roster) Pin(key Key, pinned bool) (later bool, err error) {
	if _, err := r.Last(key); err != nil {
		return false, err
	}
	before := r.setPinned(key, pinned)
	leave, ok := r.Turns.TryEnter(key)
	if !ok {
		return true, nil
	}
	defer leave()
	if err := r.storePin(key); err != nil {
		r.setPinned(key, before)
		return false, err
	}
	return false, nil
}

// KeepPin makes a pin durable that the turn under way may have come too late for.
func (r *Roster) KeepPin(ctx context.Context, key Key) {
	leave, err := r.Turns.Enter(ctx, key)
	if err != nil {
		return
	}
	defer leave()
	if err := r.storePin(key); err != nil {
		r.o.Log.Warn("pin not stored", "agent", key.ID, "err", err)
	}
}

// storePin publishes whether an agent, whose turn the caller holds, is pinned. Of
// one that is not stored its next turn's publication says so.
func (r *Roster) storePin(key Key) error {
	h, stored := r.store.Header(string(key.Namespace), string(key.ID))
	pinned := r.Pinned(key)
	if s := r.State(key); !stored || h.Pinned == pinned || s.Exists() && !s.Saved {
		return nil
	}
	m, err := r.Stored(key)
	if err != nil {
		return err
	}
	m.Pinned = pinned
	return r.store.Publish(context.Background(), m, nil)
}

func (r *Roster) setPinned(key Key, pinned bool) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.pinned[key]
	if delete(r.pinned, key); pinned {
		r.pinned[key] = true
	}
	return before
}

// Pinned says whether an agent is pinned.
func (r *Roster) Pinned(key Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pinned[key]
}

// Await notes that an agent waits for a tool's result until then, or its next turn.
func (r *Roster) Await(key Key, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awaited[key] = until
	now := r.o.Clock()
	maps.DeleteFunc(r.awaited, func(_ Key, until time.Time) bool { return !until.After(now) })
}

func (r *Roster) isAwaited(key Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.awaited[key].After(r.o.Clock())
}

// --- time to live ---

// KeepExpiring looks for agents that were unused for ttl until ctx is done.
func (r *Roster) KeepExpiring(ctx context.Context, ttl time.Duration, stop func() bool) {
	look := time.NewTicker(min(max(ttl/8, time.Second), time.Minute))
	defer look.Stop()
	for {
		select {
		case <-look.C:
			r.Expire(ttl, stop)
		case <-ctx.Done():
			return
		}
	}
}

// Expire deletes the agents that were last used longer than ttl ago, in use,
// pinned and awaited ones aside, until stop says so.
func (r *Roster) Expire(ttl time.Duration, stop func() bool) {
	limit := r.o.Clock().Add(-ttl)
	for key := range r.known() {
		if stop() {
			return
		}
		if err := r.expire(key, limit); err != nil {
			r.o.Log.Warn("agent unused for too long cannot be deleted", "agent", key.ID, "err", err)
		}
	}
}

func (r *Roster) expire(key Key, limit time.Time) error {
	leave, ok := r.Turns.TryEnter(key)
	if !ok {
		return nil
	}
	defer leave()
	info, err := r.Info(key)
	if err != nil || info.LastUsed.IsZero() || !info.LastUsed.Before(limit) || info.Pinned || r.isAwaited(key) {
		return nil
	}
	if err := r.erase(key); err != nil {
		return err
	}
	r.counters.expired.Add(1)
	r.o.Log.Info("agent deleted: unused for too long", "agent", key.ID, "last_used", info.LastUsed)
	return nil
}
