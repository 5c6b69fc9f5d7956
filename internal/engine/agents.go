package engine

import (
	"context"
	"time"

	"mneme/internal/engine/roster"
)

// What is asked of agents and done to them without a turn is roster's; here it is
// part of the engine's face.

// agentKey names an agent within its namespace.
type agentKey = roster.Key

func keyOf(namespace Namespace, id AgentID) agentKey {
	return agentKey{Namespace: namespace, ID: id}
}

// Agents lists a namespace's agents by name.
func (e *Engine) Agents(namespace Namespace) []AgentInfo { return e.roster.List(namespace) }

// Agent describes one agent: as it is in memory, else as the store has it.
func (e *Engine) Agent(namespace Namespace, id AgentID) (AgentInfo, error) {
	return e.roster.Info(keyOf(namespace, id))
}

// Turns lists an agent's published turns.
func (e *Engine) Turns(namespace Namespace, id AgentID) ([]TurnInfo, error) {
	m, err := e.roster.Last(keyOf(namespace, id))
	if err != nil {
		return nil, err
	}
	out := make([]TurnInfo, 0, len(m.Turns))
	for _, t := range m.Turns {
		out = append(out, TurnInfo{Turn: t.Turn, Tokens: t.Tokens, Prompt: t.Prompt, Cached: t.Cached, Completion: t.Completion, Finish: FinishReason(t.Finish), Created: t.Created})
	}
	return out, nil
}

// DeleteAgent forgets an agent, durably; nothing of it stays findable.
func (e *Engine) DeleteAgent(namespace Namespace, id AgentID) error {
	err := e.roster.Delete(keyOf(namespace, id))
	if err == nil {
		e.reuses.Forget(keyOf(namespace, id))
	}
	return err
}

// Evict drops an agent's blocks from memory; its next turn is a restored start.
// ErrNotStored when they are nowhere else.
func (e *Engine) Evict(_ context.Context, namespace Namespace, id AgentID) error {
	return e.roster.Drop(keyOf(namespace, id))
}

// Await says that an agent waits for a tool's result: until then, or until its
// next turn is there, it is not idle.
func (e *Engine) Await(namespace Namespace, id AgentID, until time.Time) {
	e.roster.Await(keyOf(namespace, id), until)
}

// Pin keeps an agent's blocks in memory as long as any other's can go; it does
// not bring them there, see Warm. It outlasts the process: it is durable when Pin
// returns, but for an agent in mid-turn, whose turn makes it so at its end.
func (e *Engine) Pin(namespace Namespace, id AgentID, pinned bool) (AgentInfo, error) {
	if e.draining.Load() {
		return AgentInfo{}, ErrDraining
	}
	key := keyOf(namespace, id)
	later, err := e.roster.Pin(key, pinned)
	if err != nil {
		return AgentInfo{}, err
	}
	if later {
		e.wg.Go(func() { e.roster.KeepPin(e.stop, key) })
	}
	e.freed.Fire()
	return e.roster.Info(key)
}

// makeRoom has one agent give its blocks up for a turn of another, or of none
// (nil); false if none may. Those that are protected are asked only when nothing
// else would ever make room: then no turn of the batch but ours holds blocks
// (own is 1 if ours is in it), none is being published, no block being written.
func (e *Engine) makeRoom(room *agentKey, own int64) bool {
	mode := roster.Sparing
	if e.admitted.Load() == own && e.settling.Load() == 0 && e.writing.Load() == 0 {
		mode = roster.Overruling
	}
	var of agentKey
	if room != nil {
		of = *room
	}
	return e.roster.Evict(of, mode)
}

// expiry looks for agents that were unused for too long until the engine stops.
func (e *Engine) expiry() {
	look := time.NewTicker(min(max(e.cfg.AgentTTL/8, time.Second), time.Minute))
	defer look.Stop()
	for {
		select {
		case <-look.C:
			e.roster.Expire(e.cfg.AgentTTL, e.draining.Load)
		case <-e.stop.Done():
			return
		}
	}
}
