package engine

import "mneme/internal/engine/roster"

// What is asked of agents and done to them without a turn is roster's, and part of
// the engine's face.

// agentKey names an agent within its namespace.
type agentKey = roster.Key

func keyOf(namespace Namespace, id AgentID) agentKey {
	return agentKey{Namespace: namespace, ID: id}
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
