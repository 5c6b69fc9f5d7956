package engine

import (
	"mneme/internal/engine/reuse"
	"mneme/internal/lineage"
)

// Count is how many tokens a text has as the prompt of an agent's next turn, or
// of a turn without an agent ("").
func (e *Engine) Count(namespace Namespace, id AgentID, text string) (int, error) {
	var own []lineage.Lineage
	if m, err := e.roster.Last(keyOf(namespace, id)); id != "" && err == nil {
		own = append(own, lineage.Lineage{Tokens: m.Tokens, Ends: m.Ends})
	}
	l, err := e.resolve(Request{Namespace: namespace, Text: text}, own)
	return len(l.Tokens), err
}

// Reuse says where the KV of a turn's prompt came from, and why it was not all
// there; false for a turn that is too long ago, or before the start.
func (e *Engine) Reuse(namespace Namespace, id AgentID, turn int) (reuse.Report, bool) {
	return e.reuses.Of(keyOf(namespace, id), turn)
}
