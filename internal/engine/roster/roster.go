// Package roster is the list of agents: how each stands after its last turn, in
// memory or on disk, whose turn it is, who is pinned, awaited or unused for too
// long, and who gives blocks up when there is no room. It leaves turns and
// admission to engine, files to store, blocks to kv.
package roster

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/store"
	"mneme/internal/token"
	"mneme/internal/turnstile"
)

// State is an agent after a turn; a new turn makes a new value.
type State struct {
	Manifest store.Manifest
	Blocks   *kv.AgentBlocks // nil: warm
	Saved    bool            // the manifest is on disk
}

// Lineage is what the model saw of the agent.
func (s *State) Lineage() lineage.Lineage {
	return lineage.Lineage{Tokens: s.Manifest.Tokens, Ends: s.Manifest.Ends}
}

// Exists: made by an operation or by a turn, and not deleted.
func (s *State) Exists() bool { return s != nil && (s.Saved || len(s.Manifest.Turns) > 0) }

// Roster holds the states of agents used since the start.
//   - Turns of an agent run one at a time, in the order they came (Turns).
//   - A state is replaced only by who has the agent's turn, in one assignment;
//     anyone may cool it, or note where its tail is.
//   - What is pinned or awaited is known also of agents that have no state.
//
// Lock order: its mutex before the pool's and the turnstile's.
type Roster struct {
	Turns  turnstile.Turnstile[Key]
	Forgot func(Key) // if set, is told of agents that are deleted, outside of any lock

	o        Options
	pool     *kv.Pool
	store    *store.Store
	counters counters

	mu      sync.Mutex
	states  map[Key]*State
	pinned  map[Key]bool
	awaited map[Key]time.Time // until when
	recent  lineage.Recent
	claims  map[Key]claim // what agents of families were chosen for and have not answered yet
	holders []int32       // by block: the tables that have it; scratch of chargesLocked
}

// Options are what a roster is made of.
type Options struct {
	Pool   *kv.Pool     // of the agents' blocks
	Store  *store.Store // where they are when they are not in memory
	Tokens *token.Tokenizer
	Served Served
	Clock  func() time.Time
	Log    *slog.Logger
}

// Open lists the agents that the store has; none is in memory. Who was pinned is
// pinned.
func Open(o Options) *Roster {
	r := &Roster{o: o, pool: o.Pool, store: o.Store, states: map[Key]*State{}, pinned: map[Key]bool{}, awaited: map[Key]time.Time{}, claims: map[Key]claim{}}
	for _, h := range o.Store.List() {
		if h.Pinned {
			r.pinned[Key{Namespace(h.Namespace), ID(h.ID)}] = true
		}
	}
	return r
}

type counters struct {
	overruled, expired                      atomic.Int64 // agents
	refused, refusedImports, refusedDamaged atomic.Int64
	otherFormat                             atomic.Int64 // blocks
}

// Stats counts since the start.
type Stats struct {
	Overruled   int64 // agents below their share that had to give their blocks up
	Expired     int64 // agents deleted because they were unused for too long
	OtherFormat int64 // blocks that were on disk in another KV format and were computed again
	Refused     Refused
}

// Refused counts what was refused, by reason.
type Refused struct {
	Agents  int64 // uses of an agent of another model
	Imports int64 // exports of another model
	Damaged int64 // exports that cannot be read
}

// Stats takes the counters.
func (r *Roster) Stats() Stats {
	c := &r.counters
	return Stats{
		Overruled: c.overruled.Load(), Expired: c.expired.Load(), OtherFormat: c.otherFormat.Load(),
		Refused: Refused{Agents: c.refused.Load(), Imports: c.refusedImports.Load(), Damaged: c.refusedDamaged.Load()},
	}
}

// Remember keeps what a turn's text was made of; of is its agent, or only where
// one without an agent ran.
func (r *Roster) Remember(of Key, l lineage.Lineage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent.Add(string(of.Namespace), string(of.ID), l)
}

// Remembered lists a namespace's latest lineages, the newest first.
func (r *Roster) Remembered(namespace Namespace) []lineage.Lineage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recent.Of(string(namespace))
}

// --- states ---

// State is an agent's, nil if it was not used since the start.
func (r *Roster) State(key Key) *State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[key]
}

// Set replaces an agent's state, nil lets it be read from disk again, and gives
// the blocks of the one before back. They are released here, under the mutex,
// and in coolLocked only.
func (r *Roster) Set(key Key, s *State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setLocked(key, s)
}

func (r *Roster) setLocked(key Key, s *State) {
	if before := r.states[key]; before != nil && before.Blocks != nil {
		before.Blocks.Release()
	}
	r.states[key] = s
	if s == nil {
		delete(r.states, key)
	}
}

// Publish is Set for the state that a turn has made: it waits for nothing now.
func (r *Roster) Publish(key Key, s *State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setLocked(key, s)
	delete(r.awaited, key)
	delete(r.claims, key)
}

// forget is for an agent that is deleted: nothing of its name is left, and no block
// in memory that went with it from the disk.
func (r *Roster) forget(key Key) {
	r.forgetName(key)
	r.pool.Forget(slices.DeleteFunc(r.pool.Cached(), r.stored))
	if r.Forgot != nil {
		r.Forgot(key)
	}
}

func (r *Roster) forgetName(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.setLocked(key, nil)
	delete(r.pinned, key)
	delete(r.awaited, key)
	delete(r.claims, key)
	r.recent.Forget(string(key.Namespace), string(key.ID))
}

// Install sets the state of a saved agent that no turn made, and describes it.
// Without blocks it is read from disk at its next turn.
func (r *Roster) Install(m store.Manifest, blocks *kv.AgentBlocks) (Info, error) {
	key := Key{Namespace(m.Namespace), ID(m.ID)}
	var s *State
	if blocks != nil {
		s = &State{Manifest: m, Blocks: blocks, Saved: true}
	}
	r.Set(key, s)
	return r.Info(key)
}

// Retain gives a second value of the agent's blocks, the caller's to release,
// or nil: others may cool the agent at any time.
func (r *Roster) Retain(key Key) *kv.AgentBlocks {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.states[key]; s != nil && s.Blocks != nil {
		return s.Blocks.Retain()
	}
	return nil
}

// coolLocked drops an agent's blocks from memory. What is on disk is read again
// at its next turn; of a turn that could not be stored the tokens stay.
func (r *Roster) coolLocked(key Key) {
	s := r.states[key]
	s.Blocks.Release()
	delete(r.states, key)
	if !s.Saved {
		r.states[key] = &State{Manifest: s.Manifest}
	}
}

// CoolAll drops everybody's blocks.
func (r *Roster) CoolAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, s := range r.states {
		if s.Blocks != nil {
			r.coolLocked(key)
		}
	}
}

// Inspect shows all tables, which stay as they are meanwhile.
func (r *Roster) Inspect(see func(tables []*kv.AgentBlocks) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*kv.AgentBlocks
	for _, s := range r.states {
		if s.Blocks != nil {
			all = append(all, s.Blocks)
		}
	}
	return see(all)
}

// Check verifies every table.
func (r *Roster) Check() error {
	return r.Inspect(func(tables []*kv.AgentBlocks) error {
		var errs []error
		for _, t := range tables {
			errs = append(errs, t.Check())
		}
		return errors.Join(errs...)
	})
}

// --- eviction ---

// Evict makes room by cooling one agent; false if none has blocks that may go.
// Room is the agent that wants it, or none.
func (r *Roster) Evict(room Key, mode Mode) bool {
	key, claim, saved, ok := r.evict(room, mode)
	switch {
	case !ok:
		return false
	case claim == Protected:
		r.counters.overruled.Add(1)
		r.o.Log.Warn("an agent below its share gives its blocks up: nothing else had room", "agent", key.ID)
	case claim == Last:
		r.o.Log.Warn("a pinned agent gives its blocks up: nothing else had room", "agent", key.ID)
	}
	if !saved {
		r.o.Log.Warn("blocks dropped that could not be stored; they are computed again", "agent", key.ID)
	}
	return true
}

func (r *Roster) evict(room Key, mode Mode) (key Key, claim Claim, saved, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, all := r.candidatesLocked(room)
	at, claim, ok := Next(r.pool.BudgetBytes(), all, mode)
	if ok {
		key = keys[at]
		saved = r.states[key].Saved
		r.coolLocked(key)
	}
	return key, claim, saved, ok
}

func (r *Roster) candidatesLocked(room Key) (keys []Key, all []Candidate) {
	now := r.o.Clock()
	var tables []*kv.AgentBlocks
	for key, s := range r.states {
		if s.Blocks == nil {
			continue
		}
		keys, tables = append(keys, key), append(tables, s.Blocks)
		all = append(all, Candidate{Namespace: key.Namespace, Use: r.useLocked(key, room), Hold: r.holdLocked(key, now), LastUsed: s.Manifest.LastUsed})
	}
	for i, n := range r.chargesLocked(tables) {
		all[i].Bytes = n
	}
	return keys, all
}

func (r *Roster) useLocked(key, room Key) Use {
	switch {
	case !r.states[key].Saved:
		return Unsaved
	case key == room:
		return Own
	case r.Turns.Busy(key):
		return Busy
	}
	return Idle
}

func (r *Roster) holdLocked(key Key, now time.Time) Hold {
	switch {
	case r.pinned[key]:
		return Pinned
	case r.awaited[key].After(now):
		return Awaited
	}
	return Free
}

// chargesLocked is what each table costs: of a block that k of them have, a k-th.
func (r *Roster) chargesLocked(tables []*kv.AgentBlocks) []int64 {
	clear(r.holders)
	groups := len(r.pool.Spec().Groups)
	for _, t := range tables {
		eachBlock(t, groups, func(id kv.BlockID) {
			if more := int(id) + 1 - len(r.holders); more > 0 {
				r.holders = append(r.holders, make([]int32, more)...)
			}
			r.holders[id]++
		})
	}
	out := make([]int64, len(tables))
	for i, t := range tables {
		eachBlock(t, groups, func(id kv.BlockID) { out[i] += int64(r.pool.SizeOf(id)) / int64(r.holders[id]) })
	}
	return out
}

func eachBlock(t *kv.AgentBlocks, groups int, visit func(kv.BlockID)) {
	for g := range groups {
		for i := range t.Keys() {
			if id := t.SealedBlock(g, i); id != kv.NoBlock {
				visit(id)
			}
		}
		if id, n := t.OpenBlock(g); n > 0 {
			visit(id)
		}
	}
}
