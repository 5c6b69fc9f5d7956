package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/store"
)

// agentKey names an agent within its namespace.
type agentKey struct{ namespace, id string }

// agent is one agent's place in the table; the table's mutex guards it.
//   - Turns of an agent run one at a time, in the order they entered.
//   - state changes only while its turn is held, in one assignment.
type agent struct {
	key   agentKey
	state *agentState   // nil until loaded
	users int           // turns that run or wait
	last  chan struct{} // closed when the youngest of them leaves
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

// agentTable holds the agents used since the start. Lock order: the table's
// mutex before the pool's.
type agentTable struct {
	mu     sync.Mutex
	agents map[agentKey]*agent
	recent lineage.Recent
	left   func() // told when an agent's turn was left
}

// enter waits until the turns before this one have left. leave must be called
// once if err is nil.
func (t *agentTable) enter(ctx context.Context, key agentKey) (a *agent, leave func(), err error) {
	t.mu.Lock()
	a, before, leave := t.joinLocked(key)
	t.mu.Unlock()
	if before == nil {
		return a, leave, nil
	}
	select {
	case <-before:
		return a, leave, nil
	case <-ctx.Done():
		go func() { <-before; leave() }() // ends with the turn before
		return nil, nil, ctx.Err()
	}
}

// tryEnter is enter for operations that do not wait.
func (t *agentTable) tryEnter(key agentKey) (a *agent, leave func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a, ok := t.agents[key]; ok && a.users > 0 {
		return nil, nil, ErrAgentBusy
	}
	a, _, leave = t.joinLocked(key)
	return a, leave, nil
}

// joinLocked puts the caller behind the agent's youngest user.
func (t *agentTable) joinLocked(key agentKey) (a *agent, before chan struct{}, leave func()) {
	a, ok := t.agents[key]
	if !ok {
		a = &agent{key: key}
		t.agents[key] = a
	}
	mine := make(chan struct{})
	if a.users > 0 {
		before = a.last
	}
	a.last = mine
	a.users++
	return a, before, sync.OnceFunc(func() { t.leave(a, mine) })
}

// leave forgets an agent that nobody uses and that does not exist.
func (t *agentTable) leave(a *agent, mine chan struct{}) {
	t.mu.Lock()
	if a.users--; a.users == 0 && !a.state.exists() {
		delete(t.agents, a.key)
	}
	t.mu.Unlock()
	close(mine)
	t.left()
}

// remember keeps what a turn's text was made of.
func (t *agentTable) remember(namespace string, l lineage.Lineage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recent.Add(namespace, l)
}

func (t *agentTable) remembered(namespace string) []lineage.Lineage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.recent.Of(namespace)
}

// --- states ---

func (t *agentTable) stateOf(a *agent) *agentState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.state
}

// set replaces an agent's state and gives the blocks of the one before back.
// They are released here, under the mutex, and in coolLocked only.
func (t *agentTable) set(a *agent, s *agentState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.state != nil && a.state.blocks != nil {
		a.state.blocks.Release()
	}
	a.state = s
}

// retain gives a second value of the agent's blocks, the caller's to release,
// or nil: others may cool the agent at any time.
func (t *agentTable) retain(a *agent) *kv.AgentBlocks {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.state == nil || a.state.blocks == nil {
		return nil
	}
	return a.state.blocks.Retain()
}

// load gives the agent's state, read from disk at first use; a new agent has
// turn 0. The caller holds the agent's turn.
func (e *Engine) load(a *agent) (*agentState, error) {
	if state := e.table.stateOf(a); state != nil {
		return state, nil
	}
	m, err := e.store.Load(a.key.namespace, a.key.id)
	state := &agentState{manifest: m, saved: true}
	switch {
	case errors.Is(err, store.ErrNoAgent):
		state = &agentState{manifest: e.newManifest(a.key)}
	case err != nil:
		return nil, err
	case m.ModelFingerprint != e.model.Fingerprint:
		return nil, fmt.Errorf("agent %s: %w", a.key.id, ErrOtherModel)
	}
	e.table.set(a, state)
	return state, nil
}

func (e *Engine) newManifest(key agentKey) store.Manifest {
	now := e.now()
	return store.Manifest{Namespace: key.namespace, ID: key.id, Model: e.cfg.Name, ModelFingerprint: e.model.Fingerprint, KVFingerprint: e.kvFingerprint, Groups: len(e.pool.Spec().Groups), Created: now, LastUsed: now}
}

// existing is load for agents that must exist.
func (e *Engine) existing(a *agent) (*agentState, error) {
	state, err := e.load(a)
	if err == nil && !state.exists() {
		return nil, ErrNoAgent
	}
	return state, err
}

// coolLocked drops an agent's blocks from memory. What is on disk is read again
// at its next turn; of a turn that could not be stored the tokens stay.
func (a *agent) coolLocked() {
	s := a.state
	s.blocks.Release()
	a.state = nil
	if !s.saved {
		a.state = &agentState{manifest: s.manifest}
	}
}

// evictOne makes room by cooling one agent; false if none has blocks. Idle ones
// come first, then those whose turn waits or runs (it holds what it uses
// itself), last those that could not be stored; of each the one unused longest.
func (e *Engine) evictOne() bool {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	var best *agent
	for _, a := range e.table.agents {
		if a.state == nil || a.state.blocks == nil {
			continue
		}
		if best == nil || a.evictRank() < best.evictRank() ||
			a.evictRank() == best.evictRank() && a.state.manifest.LastUsed.Before(best.state.manifest.LastUsed) {
			best = a
		}
	}
	if best == nil {
		return false
	}
	if !best.state.saved {
		e.log.Warn("blocks dropped that could not be stored; they are computed again", "agent", best.key.id)
	}
	best.coolLocked()
	if best.users == 0 && best.state == nil {
		delete(e.table.agents, best.key) // read again when it is used again
	}
	return true
}

func (a *agent) evictRank() int {
	switch {
	case !a.state.saved:
		return 2
	case a.users > 0:
		return 1
	}
	return 0
}

// --- operations ---

// Agents lists a namespace's agents by name.
func (e *Engine) Agents(namespace string) []AgentInfo {
	byID := map[string]AgentInfo{}
	for _, h := range e.store.List() {
		if h.Namespace == namespace {
			byID[h.ID] = AgentInfo{ID: h.ID, Namespace: namespace, Model: h.Model, Tokens: h.Tokens, Turns: h.Turns, Tier: kv.TierWarm, BytesDisk: h.DiskBytes, Parent: h.Parent, Created: h.Created, LastUsed: h.LastUsed}
		}
	}
	for id, info := range e.table.infos(namespace) {
		info.BytesDisk = byID[id].BytesDisk
		byID[id] = info
	}
	out := make([]AgentInfo, 0, len(byID))
	for _, info := range byID {
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b AgentInfo) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// infos describes the loaded agents of a namespace that exist.
func (t *agentTable) infos(namespace string) map[string]AgentInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]AgentInfo{}
	for key, a := range t.agents {
		if key.namespace == namespace && a.state.exists() {
			out[key.id] = a.state.info()
		}
	}
	return out
}

func (s *agentState) info() AgentInfo {
	m := &s.manifest
	info := AgentInfo{ID: m.ID, Namespace: m.Namespace, Model: m.Model, Tokens: len(m.Tokens), Turns: len(m.Turns), Tier: kv.TierWarm, Parent: m.Parent, Created: m.Created, LastUsed: m.LastUsed}
	if s.blocks != nil {
		info.Tier = kv.TierHot
		info.BytesHot, info.BytesShare = s.blocks.Bytes()
	}
	return info
}

// Agent describes one agent.
func (e *Engine) Agent(namespace, id string) (AgentInfo, error) {
	for _, info := range e.Agents(namespace) {
		if info.ID == id {
			return info, nil
		}
	}
	return AgentInfo{}, ErrNoAgent
}

// Turns lists an agent's published turns.
func (e *Engine) Turns(namespace, id string) ([]TurnInfo, error) {
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
	e.table.mu.Lock()
	a := e.table.agents[key]
	if a != nil && a.state.exists() {
		defer e.table.mu.Unlock()
		return a.state.manifest, nil
	}
	e.table.mu.Unlock()
	m, err := e.store.Load(key.namespace, key.id)
	if errors.Is(err, store.ErrNoAgent) {
		err = ErrNoAgent
	}
	return m, err
}

// CreateAgent makes an agent at turn 0, durably.
func (e *Engine) CreateAgent(namespace, id string) (AgentInfo, error) {
	a, leave, err := e.table.tryEnter(agentKey{namespace, id})
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	if _, err := e.existing(a); err == nil || errors.Is(err, ErrOtherModel) {
		return AgentInfo{}, ErrAgentExists
	} else if !errors.Is(err, ErrNoAgent) {
		return AgentInfo{}, err
	}
	state := &agentState{manifest: e.newManifest(a.key), saved: true}
	if err := e.store.Publish(context.Background(), state.manifest, nil); err != nil {
		return AgentInfo{}, err
	}
	e.table.set(a, state)
	return state.info(), nil
}

// DeleteAgent forgets an agent, durably.
func (e *Engine) DeleteAgent(namespace, id string) error {
	a, leave, err := e.table.tryEnter(agentKey{namespace, id})
	if err != nil {
		return err
	}
	defer leave()
	if _, err := e.existing(a); err != nil && !errors.Is(err, ErrOtherModel) {
		return err
	}
	if err := e.store.Delete(namespace, id); err != nil && !errors.Is(err, store.ErrNoAgent) {
		return err
	}
	e.table.set(a, nil)
	e.freed.fire()
	return nil
}

// Evict drops an agent's blocks from memory; its next turn is a restored start.
// ErrNotStored when they are nowhere else.
func (e *Engine) Evict(_ context.Context, namespace, id string) error {
	a, leave, err := e.table.tryEnter(agentKey{namespace, id})
	if err != nil {
		return err
	}
	defer leave()
	state, err := e.existing(a)
	if err != nil {
		return err
	}
	if !state.saved {
		return fmt.Errorf("agent %s: %w", id, ErrNotStored)
	}
	e.table.set(a, nil)
	e.pool.Forget(state.manifest.Keys)
	e.freed.fire()
	return nil
}
