package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"mneme/internal/kv"
	"mneme/internal/store"
	"mneme/internal/store/format"
)

// LastTurn stands for an agent's last turn.
const LastTurn = -1

// begin takes an agent's turn for an operation that does not wait for others.
func (e *Engine) begin(key agentKey) (leave func(), err error) {
	if e.draining.Load() {
		return nil, ErrDraining
	}
	leave, ok := e.table.turns.TryEnter(key)
	if !ok {
		return nil, ErrAgentBusy
	}
	return leave, nil
}

// vacant is begin for an agent that must not exist yet.
func (e *Engine) vacant(key agentKey) (leave func(), err error) {
	if leave, err = e.begin(key); err != nil {
		return nil, err
	}
	_, err = e.existing(key)
	switch {
	case errors.Is(err, ErrNoAgent):
		return leave, nil
	case err == nil, errors.Is(err, ErrOtherModel):
		err = ErrAgentExists
	}
	leave()
	return nil, err
}

// install publishes an agent as it shall stand and makes that its state. The
// blocks pass to it, also after an error.
func (e *Engine) install(ctx context.Context, key agentKey, m store.Manifest, tail []store.TailBlock, blocks *kv.AgentBlocks) (AgentInfo, error) {
	err := e.store.Publish(ctx, m, tail)
	if err != nil {
		if blocks != nil {
			blocks.Release()
		}
		return AgentInfo{}, err
	}
	state := &agentState{manifest: m, blocks: blocks, saved: true}
	info := state.info()
	if blocks == nil {
		state = nil // read again from disk at its next turn
	}
	e.table.set(key, state)
	e.freed.Fire()
	return info, nil
}

// at is a saved agent as it was after a turn.
func (e *Engine) at(key agentKey, turn int) (m store.Manifest, last bool, err error) {
	state, err := e.load(key)
	switch {
	case err != nil:
		return m, false, err
	case !state.exists():
		return m, false, ErrNoAgent
	case !state.saved:
		return m, false, fmt.Errorf("agent %s: %w", key.id, ErrNotStored)
	}
	// Publish fills what names the tail; the state made from a turn lacks it.
	if m, err = e.store.Load(string(key.namespace), string(key.id)); err != nil {
		return m, false, err
	}
	turns := len(m.Turns)
	if turn == LastTurn {
		turn = turns
	}
	cut, ok := m.At(turn)
	if !ok {
		return m, false, &InputError{Field: "turn", Problem: fmt.Sprintf("%d is none of agent %s, which has %d", turn, key.id, turns)}
	}
	return cut, turn == turns, nil
}

// Fork makes an agent that stands where another stood after a turn (LastTurn for
// its last). It costs a table: blocks are shared in memory and on disk.
func (e *Engine) Fork(ctx context.Context, namespace Namespace, from, to AgentID, turn int) (AgentInfo, error) {
	source, target := agentKey{namespace, from}, agentKey{namespace, to}
	leave, err := e.vacant(target)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	m, last, err := e.at(source, turn)
	if err != nil {
		return AgentInfo{}, err
	}
	m.ID, m.Parent, m.Created = string(to), string(from), e.now()
	m.LastUsed = m.Created
	var blocks *kv.AgentBlocks
	if last {
		blocks = e.retainFor(source, m)
	}
	return e.install(ctx, target, m, nil, blocks)
}

// retainFor shares a hot agent's blocks if they are those of the manifest.
func (e *Engine) retainFor(key agentKey, m store.Manifest) *kv.AgentBlocks {
	blocks := e.table.retain(key)
	if blocks != nil && blocks.Len() != m.KVTokens {
		blocks.Release()
		return nil
	}
	return blocks
}

// Rollback makes an agent stand where it stood after a turn; later turns leave
// its list, their sealed blocks stay as cache.
func (e *Engine) Rollback(ctx context.Context, namespace Namespace, id AgentID, turn int) (AgentInfo, error) {
	key := agentKey{namespace, id}
	leave, err := e.begin(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	m, last, err := e.at(key, turn)
	if err != nil {
		return AgentInfo{}, err
	}
	m.LastUsed = e.now()
	var blocks *kv.AgentBlocks
	if last {
		blocks = e.retainFor(key, m)
	}
	return e.install(ctx, key, m, nil, blocks)
}

// Warm brings an agent's blocks to memory; what cannot be read is left to its
// next turn.
func (e *Engine) Warm(ctx context.Context, namespace Namespace, id AgentID) (AgentInfo, error) {
	key := agentKey{namespace, id}
	leave, err := e.begin(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	state, err := e.existing(key)
	if err != nil || state.blocks != nil || state.manifest.KVTokens == 0 {
		if err != nil {
			return AgentInfo{}, err
		}
		return state.info(), nil
	}
	m := state.manifest
	s := &sequence{ctx: ctx, req: Request{Agent: id, Namespace: namespace}, agent: &key, tokens: m.Tokens, prompt: len(m.Tokens), limit: len(m.Tokens)}
	s.scope = kv.Scope{Fingerprint: e.kvFingerprint, Namespace: string(namespace)}
	s.keys = s.scope.Chain(m.Tokens, kv.BlockTokens)
	for !e.place(s) {
		if !e.evictOne() {
			return AgentInfo{}, &CapacityError{NeedBytes: e.pool.Bytes(e.pool.NeedFor(len(m.Tokens), e.cfg.StepTokens)), PoolBytes: e.pool.BudgetBytes()}
		}
	}
	e.restore(s)
	warm := &agentState{manifest: m, blocks: s.kv.Freeze(), saved: true}
	e.table.set(key, warm)
	return warm.info(), nil
}

// Pin keeps an agent's blocks in memory as long as any other's can go; it does
// not bring them there, see Warm. Pins end with the process.
func (e *Engine) Pin(namespace Namespace, id AgentID, pinned bool) (AgentInfo, error) {
	key := agentKey{namespace, id}
	if _, err := e.manifest(key); err != nil {
		return AgentInfo{}, err
	}
	e.table.mu.Lock()
	if pinned {
		e.table.pinned[key] = true
	} else {
		delete(e.table.pinned, key)
	}
	e.table.mu.Unlock()
	e.freed.Fire()
	return e.Agent(namespace, id)
}

// Export writes an agent as one file, with its KV or without.
func (e *Engine) Export(namespace Namespace, id AgentID, withKV bool, w io.Writer) error {
	m, _, err := e.at(agentKey{namespace, id}, LastTurn)
	if err != nil {
		return err
	}
	return e.store.Export(w, m, withKV)
}

// Import makes an agent of an export, which is checked to its last byte first;
// id "" keeps the name it had. KV of another fingerprint or namespace is left
// out and computed again; another model's agent is refused.
func (e *Engine) Import(ctx context.Context, namespace Namespace, id AgentID, r io.ReaderAt, sizeBytes int64) (AgentInfo, error) {
	in, err := store.ImportReader(r, sizeBytes)
	if err != nil {
		return AgentInfo{}, &InputError{Field: "export", Problem: err.Error()}
	}
	m := in.Stored
	if m.ModelFingerprint != e.model.Fingerprint {
		return AgentInfo{}, fmt.Errorf("export of model %s: %w", m.Model, ErrOtherModel)
	}
	if id == "" {
		id = AgentID(m.ID)
	}
	key := agentKey{namespace, id}
	leave, err := e.vacant(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	var tails []store.TailBlock
	if m.KVFingerprint == e.kvFingerprint && m.Namespace == string(namespace) {
		if tails, err = e.adoptFrames(in); err != nil {
			return AgentInfo{}, &InputError{Field: "export", Problem: err.Error()}
		}
	} else {
		m.Keys, m.Tail, m.KVTokens, m.KVFingerprint = nil, nil, 0, e.kvFingerprint
	}
	m.ID, m.Namespace, m.LastUsed = string(id), string(namespace), e.now()
	return e.install(ctx, key, m, tails, nil)
}

// adoptFrames hands an export's blocks to the write-behind and gives its tails.
func (e *Engine) adoptFrames(in *store.Imported) (tails []store.TailBlock, err error) {
	for f, err := range in.Frames() {
		if err != nil {
			return nil, err
		}
		data := bytes.Clone(f.Payload)
		fill := func(dst []byte) { copy(dst, data) }
		if f.Kind == format.Tail {
			tails = append(tails, store.TailBlock{Group: f.Group, Form: f.Form, Tokens: f.Tokens, SizeBytes: len(data), Copy: fill})
			continue
		}
		e.store.Append(store.Block{
			Key: in.Manifest.Keys[f.Index], Parent: f.Parent, Group: f.Group, Form: f.Form, Tokens: f.Tokens,
			SizeBytes: len(data), Copy: fill, Done: func() {},
		})
	}
	if len(in.Stored.Tail) == 0 {
		return nil, nil
	}
	return tails, nil
}
