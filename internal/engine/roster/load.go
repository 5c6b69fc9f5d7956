package roster

import (
	"errors"
	"fmt"
	"slices"

	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/store"
)

var (
	// ErrNoAgent is returned for an agent nobody made.
	ErrNoAgent = errors.New("no such agent")
	// ErrOtherModel is returned for an agent that belongs to another model.
	ErrOtherModel = errors.New("agent belongs to another model")
	// ErrNotStored is returned when memory has the only copy of a turn.
	ErrNotStored = errors.New("the agent's last turn is not on disk")
	// ErrBusy is returned when an operation would race a running turn.
	ErrBusy = errors.New("agent has a turn running")
)

// Served is what agents have to fit to.
type Served struct{ Name, Fingerprint, KVFingerprint string }

// Load gives an agent's state, read from disk at first use; a new agent has
// turn 0. The caller holds the agent's turn.
func (r *Roster) Load(key Key) (*State, error) {
	if state := r.State(key); state != nil {
		return state, nil
	}
	m, err := r.store.Load(string(key.Namespace), string(key.ID))
	switch {
	case errors.Is(err, store.ErrNoAgent):
		return &State{Manifest: r.New(key)}, nil
	case err != nil:
		return nil, err
	}
	if err := r.checkModel(&m); err != nil {
		r.counters.refused.Add(1)
		r.o.Log.Warn("agent refused", "agent", key.ID, "because", err)
		return nil, fmt.Errorf("agent %s: %w", key.ID, err)
	}
	state := &State{Manifest: m, Saved: true}
	r.Set(key, state)
	return state, nil
}

// New is an agent at turn 0.
func (r *Roster) New(key Key) store.Manifest {
	now, by := r.o.Clock(), r.o.Served
	return store.Manifest{
		Namespace: string(key.Namespace), ID: string(key.ID), Model: by.Name, ModelFingerprint: by.Fingerprint, KVFingerprint: by.KVFingerprint,
		Groups: len(r.pool.Spec().Groups), Created: now, LastUsed: now,
	}
}

// Existing is Load for agents that must exist.
func (r *Roster) Existing(key Key) (*State, error) {
	state, err := r.Load(key)
	if err == nil && !state.Exists() {
		return nil, ErrNoAgent
	}
	return state, err
}

// Stored is an agent as it is on disk, where all of it must be; it names no KV but
// such as is of our format and there. The caller need not hold the agent's turn.
func (r *Roster) Stored(key Key) (store.Manifest, error) {
	state, err := r.Existing(key)
	switch {
	case err != nil:
		return store.Manifest{}, err
	case !state.Saved:
		return store.Manifest{}, fmt.Errorf("agent %s: %w", key.ID, ErrNotStored)
	}
	m, err := r.withTail(key, state)
	if m.KVFingerprint != r.o.Served.KVFingerprint {
		m.Keys, m.Tail, m.KVTokens, m.KVFingerprint = nil, nil, 0, r.o.Served.KVFingerprint
	}
	return r.AsStored(m), err
}

// AsStored leaves out KV that is not on disk, or not any more, and what follows it:
// it is computed again.
func (r *Roster) AsStored(m store.Manifest) store.Manifest {
	n := 0
	for n < len(m.Keys) && r.stored(m.Keys[n]) {
		n++
	}
	if n < len(m.Keys) || !r.tailStored(&m) {
		m.Keys, m.KVTokens, m.Tail = m.Keys[:n:n], n*kv.BlockTokens, nil
	}
	return m
}

// stored tells whether a block of all groups is on disk, which is not to use it.
func (r *Roster) stored(key kv.Key) bool {
	for g := range r.pool.Spec().Groups {
		if !r.store.Stored(key, g) {
			return false
		}
	}
	return true
}

// tailStored is the same of the tokens behind the last sealed block, if there are any.
func (r *Roster) tailStored(m *store.Manifest) bool {
	missing := func(t store.TailRef) bool { return !r.store.Stored(t.Key, t.Group) }
	return m.KVTokens%kv.BlockTokens == 0 || len(m.Tail) > 0 && !slices.ContainsFunc(m.Tail, missing)
}

// withTail is a saved agent's manifest with what names the tail. Publish fills
// that, the state made from a turn lacks it: it is read from disk once, all else
// stays one copy for the agent and its forks.
func (r *Roster) withTail(key Key, state *State) (store.Manifest, error) {
	m := state.Manifest
	if len(m.Tail) > 0 || m.KVTokens%kv.BlockTokens == 0 {
		return m, nil
	}
	stored, err := r.store.Load(string(key.Namespace), string(key.ID))
	if err != nil || len(stored.Turns) != len(m.Turns) || len(stored.Tokens) != len(m.Tokens) {
		return stored, err // it has lost turns, or another has been published meanwhile
	}
	m.Tail = stored.Tail
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.states[key] == state {
		r.states[key] = &State{Manifest: m, Blocks: state.Blocks, Saved: true}
	}
	return m, nil
}

// Last is an agent's last state, running turns aside.
func (r *Roster) Last(key Key) (store.Manifest, error) {
	if s := r.State(key); s.Exists() {
		return s.Manifest, nil
	}
	m, err := r.store.Load(string(key.Namespace), string(key.ID))
	if errors.Is(err, store.ErrNoAgent) {
		err = ErrNoAgent
	}
	return m, err
}

// KeptTurns are the turns whose tokens, or whose visible text, the new prompt
// still begins with; a request that rolled the agent back leaves later ones out.
func (r *Roster) KeptTurns(m *store.Manifest, prompt lineage.Lineage) []store.Turn {
	tokens := lineage.CommonPrefix(m.Tokens, prompt.Tokens)
	text := lineage.CommonText(r.o.Tokens, lineage.Lineage{Tokens: m.Tokens, Ends: m.Ends}, prompt)
	n := 0
	for n < len(m.Turns) && (m.Turns[n].Tokens <= tokens || m.Turns[n].TextEnd <= text) {
		n++
	}
	return append([]store.Turn(nil), m.Turns[:n]...)
}

// --- refusals ---

// checkModel is nil, or ErrOtherModel with both models' names.
func (r *Roster) checkModel(m *store.Manifest) error {
	ours := r.o.Served
	if m.ModelFingerprint == ours.Fingerprint {
		return nil
	}
	short := func(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }
	return fmt.Errorf("%w: %s with fingerprint %s, served is %s with %s; weights or tokenizer differ",
		ErrOtherModel, m.Model, short(m.ModelFingerprint), ours.Name, short(ours.Fingerprint))
}

// CheckImport refuses an export of another model.
func (r *Roster) CheckImport(m *store.Manifest) error {
	err := r.checkModel(m)
	if err == nil {
		return nil
	}
	r.counters.refusedImports.Add(1)
	r.o.Log.Warn("import refused", "agent", m.ID, "because", err)
	return fmt.Errorf("export of agent %s: %w", m.ID, err)
}

// NoteDamaged says that an export was refused because it cannot be read.
func (r *Roster) NoteDamaged(err error) {
	r.counters.refusedDamaged.Add(1)
	r.o.Log.Warn("import refused", "because", err)
}

// NoteFormat says that blocks of an agent as it was, which a turn has computed
// again, are on disk in another KV format.
func (r *Roster) NoteFormat(m *store.Manifest) {
	if m.KVFingerprint == r.o.Served.KVFingerprint || len(m.Keys) == 0 {
		return
	}
	r.counters.otherFormat.Add(int64(len(m.Keys)))
	r.o.Log.Info("an agent's KV on disk is of another format, it was computed again", "agent", m.ID, "blocks", len(m.Keys))
}

// --- death ---

// Delete deletes an agent, durably, unless a turn of it runs or waits (ErrBusy).
func (r *Roster) Delete(key Key) error {
	leave, ok := r.Turns.TryEnter(key)
	if !ok {
		return ErrBusy
	}
	defer leave()
	return r.erase(key)
}

// erase deletes an agent whose turn the caller holds; nothing of it stays findable.
func (r *Roster) erase(key Key) error {
	if _, err := r.Existing(key); err != nil && !deletable(err) {
		return err
	}
	if err := r.store.Delete(string(key.Namespace), string(key.ID)); err != nil && !errors.Is(err, store.ErrNoAgent) {
		return err
	}
	r.forget(key)
	return nil
}

// deletable: the agent is there, though no turn can go on from it.
func deletable(err error) bool {
	var damaged *store.DamagedError
	return errors.Is(err, ErrOtherModel) || errors.As(err, &damaged)
}

// Drop takes an agent's blocks out of memory; its next turn is a restored start.
// ErrNotStored when they are nowhere else, ErrBusy beside a turn.
func (r *Roster) Drop(key Key) error {
	leave, ok := r.Turns.TryEnter(key)
	if !ok {
		return ErrBusy
	}
	defer leave()
	state, err := r.Existing(key)
	if err != nil {
		return err
	}
	if !state.Saved {
		return fmt.Errorf("agent %s: %w", key.ID, ErrNotStored)
	}
	r.Set(key, nil)
	r.pool.Forget(state.Manifest.Keys)
	return nil
}
