package api_test

import (
	"context"
	"fmt"
	"io"

	"mneme/internal/engine"
	"mneme/internal/kv"
)

// cut is an agent as it was after a turn.
func (a *fakeAgent) cut(id engine.AgentID, turn int) (*fakeAgent, error) {
	if turn == engine.LastTurn {
		turn = len(a.turns)
	}
	if turn > len(a.turns) {
		return nil, &engine.InputError{Field: "turn", Problem: fmt.Sprintf("%d is none of agent %s, which has %d", turn, id, len(a.turns))}
	}
	other := *a
	other.turns, other.lineage = a.turns[:turn], nil
	if turn > 0 {
		other.lineage = a.lineage[:a.turns[turn-1].Tokens]
	}
	return &other, nil
}

// operate finds an agent that an operation is about.
func (f *fake) operate(id engine.AgentID) (*fakeAgent, error) {
	switch {
	case f.refuses != nil:
		return nil, f.refuses
	case f.agents[string(id)] == nil:
		return nil, engine.ErrNoAgent
	}
	return f.agents[string(id)], nil
}

func (f *fake) Fork(ctx context.Context, namespace engine.Namespace, from, to engine.AgentID, turn int) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[string(to)] != nil {
		return engine.AgentInfo{}, engine.ErrAgentExists
	}
	a, err := f.operate(from)
	if err != nil {
		return engine.AgentInfo{}, err
	}
	if a, err = a.cut(from, turn); err != nil {
		return engine.AgentInfo{}, err
	}
	a.parent = from
	f.agents[string(to)] = a
	return f.info(string(to))
}

func (f *fake) Rollback(ctx context.Context, namespace engine.Namespace, id engine.AgentID, turn int) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.operate(id)
	if err != nil {
		return engine.AgentInfo{}, err
	}
	if a, err = a.cut(id, turn); err != nil {
		return engine.AgentInfo{}, err
	}
	f.agents[string(id)] = a
	return f.info(string(id))
}

func (f *fake) Warm(ctx context.Context, namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.operate(id)
	if err != nil {
		return engine.AgentInfo{}, err
	}
	a.tier = kv.TierHot
	return f.info(string(id))
}

func (f *fake) Pin(namespace engine.Namespace, id engine.AgentID, pinned bool) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.operate(id)
	if err != nil {
		return engine.AgentInfo{}, err
	}
	a.pinned = pinned
	return f.info(string(id))
}

func (f *fake) Export(namespace engine.Namespace, id engine.AgentID, withKV bool, w io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.operate(id); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "kv=%v ", withKV); err != nil {
		return err
	}
	if _, err := w.Write(f.exported); err != nil {
		return err
	}
	return f.exportErr
}

func (f *fake) Import(ctx context.Context, namespace engine.Namespace, id engine.AgentID, r io.ReaderAt, sizeBytes int64) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := io.ReadAll(io.NewSectionReader(r, 0, sizeBytes))
	switch {
	case err != nil:
		return engine.AgentInfo{}, err
	case f.refuses != nil:
		return engine.AgentInfo{}, f.refuses
	case string(data) != "kv=true an agent":
		return engine.AgentInfo{}, &engine.InputError{Field: "export", Problem: fmt.Sprintf("%q is none", data)}
	}
	if id == "" {
		id = engine.AgentID(f.imported)
	}
	if f.agents[string(id)] != nil {
		return engine.AgentInfo{}, engine.ErrAgentExists
	}
	f.agents[string(id)] = &fakeAgent{tier: kv.TierWarm}
	return f.info(string(id))
}
