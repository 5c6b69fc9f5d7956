package roster

import (
	"context"
	"time"

	"mneme/internal/engine/stream"
)

// Face is what is asked of agents, and done to them, without a turn: a part of the
// engine's face.
type Face struct{ roster *Roster }

// FaceOf is a roster's.
func FaceOf(r *Roster) Face { return Face{r} }

// Turn is one published turn of an agent.
type Turn struct {
	Turn       int
	Tokens     int // of the lineage after it
	Prompt     int
	Cached     int
	Completion int
	Finish     stream.FinishReason
	Created    time.Time
}

// Agents lists a namespace's agents by name.
func (f Face) Agents(namespace Namespace) []Info { return f.roster.List(namespace) }

// Agent describes one agent: as it is in memory, else as the store has it.
func (f Face) Agent(namespace Namespace, id ID) (Info, error) {
	return f.roster.Info(Key{namespace, id})
}

// Turns lists an agent's published turns.
func (f Face) Turns(namespace Namespace, id ID) ([]Turn, error) {
	m, err := f.roster.Last(Key{namespace, id})
	if err != nil {
		return nil, err
	}
	out := make([]Turn, 0, len(m.Turns))
	for _, t := range m.Turns {
		out = append(out, Turn{Turn: t.Turn, Tokens: t.Tokens, Prompt: t.Prompt, Cached: t.Cached, Completion: t.Completion, Finish: stream.FinishReason(t.Finish), Created: t.Created})
	}
	return out, nil
}

// DeleteAgent forgets an agent, durably; nothing of it stays findable.
func (f Face) DeleteAgent(namespace Namespace, id ID) error {
	return f.roster.Delete(Key{namespace, id})
}

// Evict drops an agent's blocks from memory; its next turn is a restored start.
// ErrNotStored when they are nowhere else.
func (f Face) Evict(_ context.Context, namespace Namespace, id ID) error {
	return f.roster.Drop(Key{namespace, id})
}

// Await says that an agent waits for a tool's result: until then, or until its
// next turn is there, it is not idle.
func (f Face) Await(namespace Namespace, id ID, until time.Time) {
	f.roster.Await(Key{namespace, id}, until)
}

// Member chooses the agent of a family (a client's session, say) that a prompt is
// of, by what each has seen; a new one has a parent where the family has members.
// It should be followed by the turn.
func (f Face) Member(namespace Namespace, family ID, text string) (id, parent ID) {
	return f.roster.Member(namespace, family, text)
}

// Said lists what the model has said in an agent's turns, as it said it.
func (f Face) Said(namespace Namespace, id ID) []string {
	return f.roster.Said(Key{namespace, id})
}
