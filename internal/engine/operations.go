package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"mneme/internal/engine/roster"
	"mneme/internal/kv"
	"mneme/internal/store"
)

// LastTurn stands for an agent's last turn.
const LastTurn = -1

// begin takes an agent's turn for an operation that does not wait for others.
func (e *Engine) begin(key agentKey) (leave func(), err error) {
	if e.draining.Load() {
		return nil, ErrDraining
	}
	leave, ok := e.roster.Turns.TryEnter(key)
	if !ok {
		return nil, ErrAgentBusy
	}
	return leave, nil
}

// vacant is begin for an agent that must not exist yet, and may be called so.
func (e *Engine) vacant(key agentKey) (leave func(), err error) {
	if err := key.ID.Check(); err != nil {
		return nil, &InputError{Field: "id", Problem: err.Error()}
	}
	if leave, err = e.begin(key); err != nil {
		return nil, err
	}
	_, err = e.roster.Existing(key)
	switch {
	case errors.Is(err, ErrNoAgent):
		return leave, nil
	case err == nil, errors.Is(err, ErrOtherModel):
		err = ErrAgentExists
	}
	leave()
	return nil, err
}

// install makes an agent that was published as it shall stand that agent's state;
// err is the publication's. The blocks pass to it, also after an error.
func (e *Engine) install(m store.Manifest, blocks *kv.AgentBlocks, err error) (AgentInfo, error) {
	if err != nil {
		if blocks != nil {
			blocks.Release()
		}
		return AgentInfo{}, err
	}
	return e.roster.Install(m, blocks)
}

// at is a saved agent as it was after a turn.
func (e *Engine) at(key agentKey, turn int) (m store.Manifest, last bool, err error) {
	if m, err = e.roster.Stored(key); err != nil {
		return m, false, err
	}
	turns := len(m.Turns)
	if turn == LastTurn {
		turn = turns
	}
	cut, ok := m.At(turn)
	if !ok {
		return m, false, &InputError{Field: "turn", Problem: fmt.Sprintf("%d is none of agent %s, which has %d", turn, key.ID, turns)}
	}
	return cut, turn == turns, nil
}

// CreateAgent makes an agent at turn 0, durably.
func (e *Engine) CreateAgent(namespace Namespace, id AgentID) (AgentInfo, error) {
	key := keyOf(namespace, id)
	leave, err := e.vacant(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	m := e.roster.New(key)
	return e.install(m, nil, e.store.Publish(context.Background(), m, nil))
}

// Fork makes an agent that stands where another stood after a turn (LastTurn for
// its last). It costs a table: blocks are shared in memory and on disk.
func (e *Engine) Fork(ctx context.Context, namespace Namespace, from, to AgentID, turn int) (AgentInfo, error) {
	source, target := keyOf(namespace, from), keyOf(namespace, to)
	leave, err := e.vacant(target)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	m, last, err := e.at(source, turn)
	if err != nil {
		return AgentInfo{}, err
	}
	m.ID, m.Parent, m.Created, m.Pinned = string(to), string(from), e.now(), false
	m.LastUsed = m.Created
	var blocks *kv.AgentBlocks
	if last {
		blocks = e.retainFor(source, m)
	}
	return e.install(m, blocks, e.store.Fork(ctx, m))
}

// retainFor shares a hot agent's blocks if they are those of the manifest.
func (e *Engine) retainFor(key agentKey, m store.Manifest) *kv.AgentBlocks {
	blocks := e.roster.Retain(key)
	if blocks != nil && blocks.Len() != m.KVTokens {
		blocks.Release()
		return nil
	}
	return blocks
}

// Rollback makes an agent stand where it stood after a turn; later turns leave
// its list, their sealed blocks stay as cache.
func (e *Engine) Rollback(ctx context.Context, namespace Namespace, id AgentID, turn int) (AgentInfo, error) {
	key := keyOf(namespace, id)
	leave, err := e.begin(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	m, last, err := e.at(key, turn)
	if err != nil {
		return AgentInfo{}, err
	}
	m.LastUsed, m.Pinned = e.now(), e.roster.Pinned(key)
	var blocks *kv.AgentBlocks
	if last {
		blocks = e.retainFor(key, m)
	}
	return e.install(m, blocks, e.store.Publish(ctx, m, nil))
}

// Warm brings an agent's blocks to memory; what cannot be read is left to its
// next turn. Nobody below its share makes room for it.
func (e *Engine) Warm(ctx context.Context, namespace Namespace, id AgentID) (AgentInfo, error) {
	key := keyOf(namespace, id)
	leave, err := e.begin(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	state, err := e.roster.Existing(key)
	if err != nil {
		return AgentInfo{}, err
	}
	if state.Blocks == nil && state.Manifest.KVTokens > 0 {
		if err := e.warm(ctx, key, state.Manifest); err != nil {
			return AgentInfo{}, err
		}
	}
	return e.Agent(namespace, id)
}

// warm reads an agent's blocks, whose turn the caller holds.
func (e *Engine) warm(ctx context.Context, key agentKey, m store.Manifest) error {
	e.settling.Add(1) // others wait for what this gives back
	defer func() { e.settling.Add(-1); e.freed.Fire() }()
	s := &sequence{ctx: ctx, req: Request{Agent: key.ID, Namespace: key.Namespace}, agent: &key, tokens: m.Tokens, prompt: len(m.Tokens), limit: len(m.Tokens), warming: true}
	s.scope = kv.Scope{Fingerprint: e.kvFingerprint, Namespace: string(key.Namespace)}
	s.keys = s.scope.Chain(m.Tokens, kv.BlockTokens)
	for !e.place(s) {
		if !e.roster.Evict(key, roster.Sparing) {
			return &CapacityError{NeedBytes: e.pool.Bytes(e.pool.NeedFor(len(m.Tokens), e.cfg.StepTokens)), PoolBytes: e.pool.BudgetBytes()}
		}
	}
	e.restore(s)
	blocks := s.kv.Freeze()
	if blocks.Len() == 0 {
		blocks.Release()
		blocks = nil
	}
	e.roster.Set(key, &roster.State{Manifest: m, Blocks: blocks, Saved: true})
	return nil
}

// Export writes an agent as one file, with its KV or without.
func (e *Engine) Export(namespace Namespace, id AgentID, withKV bool, w io.Writer) error {
	m, _, err := e.at(keyOf(namespace, id), LastTurn)
	if err != nil {
		return err
	}
	m.Pinned = false // of this memory
	return e.store.Export(w, m, withKV)
}

// Import makes an agent of an export, which is checked to its last byte first;
// id "" keeps the name it had. KV of another fingerprint or namespace is left
// out and computed again; another model's agent is refused.
func (e *Engine) Import(ctx context.Context, namespace Namespace, id AgentID, r io.ReaderAt, sizeBytes int64) (AgentInfo, error) {
	in, err := store.ImportReader(r, sizeBytes)
	if err != nil {
		e.roster.NoteDamaged(err)
		return AgentInfo{}, &InputError{Field: "export", Problem: err.Error()}
	}
	m := in.Stored
	if err := e.roster.CheckImport(&m); err != nil {
		return AgentInfo{}, err
	}
	if id == "" {
		id = AgentID(m.ID)
	}
	key := keyOf(namespace, id)
	leave, err := e.vacant(key)
	if err != nil {
		return AgentInfo{}, err
	}
	defer leave()
	var tails []store.TailBlock
	if m.KVFingerprint == e.kvFingerprint && m.Namespace == string(namespace) {
		if tails, err = e.store.Adopt(ctx, in); err != nil {
			return AgentInfo{}, err
		}
	} else {
		m.Keys, m.Tail, m.KVTokens, m.KVFingerprint = nil, nil, 0, e.kvFingerprint
	}
	m.ID, m.Namespace, m.LastUsed, m.Pinned = string(id), string(namespace), e.now(), false
	return e.install(m, nil, e.store.Publish(ctx, m, tails))
}
