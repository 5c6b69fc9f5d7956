package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/store"
	"mneme/internal/turnstile"
)

// agentKey names an agent within its namespace.
type agentKey struct {
	namespace Namespace
	id        AgentID
}

// agentState is an agent after a turn; a new turn makes a new value.
type agentState struct {
	manifest store.Manifest
	blocks   *kv.AgentBlocks // nil: warm
	saved    bool            // the manifest is on disk
}

func (s *agentState) lineage() lineage.Lineage {
	return lineage.Lineage{Tokens: s.manifest.Tokens, Ends: s.manifest.Ends}
}

// exists: made by CreateAgent or by a turn, and not deleted.
func (s *agentState) exists() bool { return s != nil && (s.saved || len(s.manifest.Turns) > 0) }

// agentTable holds the states of agents used since the start.
//   - Turns of an agent run one at a time, in the order they came (turns).
//   - A state is replaced only by who has the agent's turn, in one assignment;
//     anyone may cool it.
//
// Lock order: the table's mutex before the pool's and the turnstile's.
type agentTable struct {
	turns turnstile.Turnstile[agentKey]

	mu     sync.Mutex
	states map[agentKey]*agentState
	pinned map[agentKey]bool
	recent lineage.Recent
}

// remember keeps what a turn's text was made of.
func (t *agentTable) remember(namespace Namespace, l lineage.Lineage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recent.Add(string(namespace), l)
}

func (t *agentTable) remembered(namespace Namespace) []lineage.Lineage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent.Of(string(namespace))
}

// --- states ---

func (t *agentTable) stateOf(key agentKey) *agentState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.states[key]
}

// set replaces an agent's state, nil forgets it, and gives the blocks of the
// one before back. They are released here, under the mutex, and in coolLocked
// only.
func (t *agentTable) set(key agentKey, s *agentState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.states[key]; before != nil && before.blocks != nil {
		before.blocks.Release()
	}
	t.states[key] = s
	if s == nil {
		delete(t.states, key)
	}
}

// retain gives a second value of the agent's blocks, the caller's to release,
// or nil: others may cool the agent at any time.
func (t *agentTable) retain(key agentKey) *kv.AgentBlocks {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.states[key]; s != nil && s.blocks != nil {
		return s.blocks.Retain()
	}
	return nil
}

// load gives the agent's state, read from disk at first use; a new agent has
// turn 0. The caller holds the agent's turn.
func (e *Engine) load(key agentKey) (*agentState, error) {
	if state := e.table.stateOf(key); state != nil {
		return state, nil
	}
	m, err := e.store.Load(string(key.namespace), string(key.id))
	switch {
	case errors.Is(err, store.ErrNoAgent):
		return &agentState{manifest: e.newManifest(key)}, nil
	case err != nil:
		return nil, err
	case m.ModelFingerprint != e.model.Fingerprint:
		return nil, fmt.Errorf("agent %s: %w", key.id, ErrOtherModel)
	}
	state := &agentState{manifest: m, saved: true}
	e.table.set(key, state)
	return state, nil
}

func (e *Engine) newManifest(key agentKey) store.Manifest {
	now := e.now()
	return store.Manifest{Namespace: string(key.namespace), ID: string(key.id), Model: e.cfg.Name, ModelFingerprint: e.model.Fingerprint, KVFingerprint: e.kvFingerprint, Groups: len(e.pool.Spec().Groups), Created: now, LastUsed: now}
}

// existing is load for agents that must exist.
func (e *Engine) existing(key agentKey) (*agentState, error) {
	state, err := e.load(key)
	if err == nil && !state.exists() {
		return nil, ErrNoAgent
	}
	return state, err
}

// coolLocked drops an agent's blocks from memory. What is on disk is read again
// at its next turn; of a turn that could not be stored the tokens stay.
func (t *agentTable) coolLocked(key agentKey) {
	s := t.states[key]
	s.blocks.Release()
	delete(t.states, key)
	if !s.saved {
		t.states[key] = &agentState{manifest: s.manifest}
	}
}

// evictOne makes room by cooling one agent; false if none has blocks. Idle ones
// come first, then those whose turn waits or runs (it holds what it uses
// itself), then those that could not be stored, and pinned ones only when nothing
// else is left, for a pin must not stop the server; of each the one unused longest.
func (e *Engine) evictOne() bool {
	t := &e.table
	t.mu.Lock()
	defer t.mu.Unlock()
	var best agentKey
	var bestState *agentState
	for key, s := range t.states {
		if s.blocks == nil {
			continue
		}
		order := 0
		if bestState != nil {
			order = cmp.Or(cmp.Compare(t.evictRank(key, s), t.evictRank(best, bestState)), s.manifest.LastUsed.Compare(bestState.manifest.LastUsed))
		}
		if bestState == nil || order < 0 {
			best, bestState = key, s
		}
	}
	if bestState == nil {
		return false
	}
	if t.pinned[best] {
		e.log.Warn("a pinned agent gives its blocks up: nothing else had room", "agent", best.id)
	}
	if !bestState.saved {
		e.log.Warn("blocks dropped that could not be stored; they are computed again", "agent", best.id)
	}
	t.coolLocked(best)
	return true
}

func (t *agentTable) evictRank(key agentKey, s *agentState) int {
	switch {
	case t.pinned[key]:
		return 3
	case !s.saved:
		return 2
	case t.turns.Busy(key):
		return 1
	}
	return 0
}

// --- operations ---

// Agents lists a namespace's agents by name.
func (e *Engine) Agents(namespace Namespace) []AgentInfo {
	ids := e.table.ids(namespace)
	for _, h := range e.store.List() {
		if h.Namespace == string(namespace) {
			ids[AgentID(h.ID)] = true
		}
	}
	out := make([]AgentInfo, 0, len(ids))
	for id := range ids {
		if info, err := e.Agent(namespace, id); err == nil { // else it was deleted meanwhile
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b AgentInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// ids are the loaded agents of a namespace that exist.
func (t *agentTable) ids(namespace Namespace) map[AgentID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[AgentID]bool{}
	for key, s := range t.states {
		if key.namespace == namespace && s.exists() {
			out[key.id] = true
		}
	}
	return out
}

// Agent describes one agent: as it is in memory, else as the store has it.
func (e *Engine) Agent(namespace Namespace, id AgentID) (AgentInfo, error) {
	h, stored := e.store.Header(string(namespace), string(id))
	info, loaded, pinned := e.table.describe(agentKey{namespace, id})
	switch {
	case !loaded && !stored:
		return AgentInfo{}, ErrNoAgent
	case !loaded:
		info = AgentInfo{ID: id, Namespace: namespace, Model: h.Model, Tokens: h.Tokens, Turns: h.Turns, Tier: kv.TierWarm, Parent: AgentID(h.Parent), Created: h.Created, LastUsed: h.LastUsed}
	}
	info.BytesDisk, info.Pinned = h.DiskBytes, pinned
	return info, nil
}

// describe gives what the table knows of an agent, if it is loaded and exists.
func (t *agentTable) describe(key agentKey) (info AgentInfo, loaded, pinned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.states[key]; s.exists() {
		info, loaded = s.info(), true
	}
	return info, loaded, t.pinned[key]
}

func (s *agentState) info() AgentInfo {
	m := &s.manifest
	info := AgentInfo{ID: AgentID(m.ID), Namespace: Namespace(m.Namespace), Model: m.Model, Tokens: len(m.Tokens), Turns: len(m.Turns), Tier: kv.TierWarm, Parent: AgentID(m.Parent), Created: m.Created, LastUsed: m.LastUsed}
	if s.blocks != nil {
		info.Tier = kv.TierHot
		info.BytesHot, info.BytesShare = s.blocks.Bytes()
	}
	return info
}

// Turns lists an agent's published turns.
func (e *Engine) Turns(namespace Namespace, id AgentID) ([]TurnInfo, error) {
	m, err := e.manifest(agentKey{namespace, id})
	if err != nil {
		return nil, err
	}
	out := make([]TurnInfo, 0, len(m.Turns))
	for _, t := range m.Turns {
		out = append(out, TurnInfo{Turn: t.Turn, Tokens: t.Tokens, Prompt: t.Prompt, Cached: t.Cached, Completion: t.Completion, Finish: FinishReason(t.Finish), Created: t.Created})
	}
	return out, nil
}

// manifest reads an agent's last state, running turns aside.
func (e *Engine) manifest(key agentKey) (store.Manifest, error) {
	if s := e.table.stateOf(key); s.exists() {
		return s.manifest, nil
	}
	m, err := e.store.Load(string(key.namespace), string(key.id))
	if errors.Is(err, store.ErrNoAgent) {
		err = ErrNoAgent
	}
	return m, err
}

// CreateAgent makes an agent at turn 0, durably.
func (e *Engine) CreateAgent(namespace Namespace, id AgentID) (AgentInfo, error) {
	key := agentKey{namespace, id}
	leave, err := e.vacant(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	return e.install(context.Background(), key, e.newManifest(key), nil, nil)
}

// DeleteAgent forgets an agent, durably.
func (e *Engine) DeleteAgent(namespace Namespace, id AgentID) error {
	key := agentKey{namespace, id}
	leave, ok := e.table.turns.TryEnter(key)
	if !ok {
		return ErrAgentBusy
	}
	defer leave()
	if _, err := e.existing(key); err != nil && !errors.Is(err, ErrOtherModel) {
		return err
	}
	if err := e.store.Delete(string(namespace), string(id)); err != nil && !errors.Is(err, store.ErrNoAgent) {
		return err
	}
	e.table.set(key, nil)
	e.freed.Fire()
	return nil
}

// Evict drops an agent's blocks from memory; its next turn is a restored start.
// ErrNotStored when they are nowhere else.
func (e *Engine) Evict(_ context.Context, namespace Namespace, id AgentID) error {
	key := agentKey{namespace, id}
	leave, ok := e.table.turns.TryEnter(key)
	if !ok {
		return ErrAgentBusy
	}
	defer leave()
	state, err := e.existing(key)
	if err != nil {
		return err
	}
	if !state.saved {
		return fmt.Errorf("agent %s: %w", id, ErrNotStored)
	}
	e.table.set(key, nil)
	e.pool.Forget(state.manifest.Keys)
	e.freed.Fire()
	return nil
}
