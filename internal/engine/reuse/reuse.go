// Package reuse says of a turn where the KV of its prompt came from, and why the
// rest of it had to be computed. It counts tokens and compares them; where blocks
// are is engine's to know.
package reuse

import (
	"slices"
	"sync"

	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/token"
)

// Source is where KV was.
type Source uint8

const (
	Hot      Source = iota // in memory, of the agent itself
	Shared                 // in memory, of others that begin alike
	Restored               // on disk
)

// Cause says why KV that might have been there was not.
type Cause string

const (
	Nothing     Cause = ""                // all that can be reused was
	FirstTurn   Cause = "first_turn"      // the agent had seen nothing
	Diverged    Cause = "prompt_diverged" // the prompt is not what the agent had seen
	Evicted     Cause = "evicted"         // neither in memory nor on disk any more
	Quarantined Cause = "quarantined"     // damaged on disk
	Recomputed  Cause = "recomputed"      // computing was measured to be cheaper than reading
	OtherFormat Cause = "other_format"    // the agent's KV was of another format
	Scored      Cause = "scored"          // the request asked for the prompt's own logprobs
)

// Ledger counts while a turn is admitted.
type Ledger struct {
	tokens [3]int // by source
	cause  Cause
}

// Add counts tokens that were found.
func (l *Ledger) Add(from Source, tokens int) { l.tokens[from] += tokens }

// Note says why something was not found; the first reason counts.
func (l *Ledger) Note(c Cause) {
	if l.cause == Nothing {
		l.cause = c
	}
}

// Before is what an agent had seen when its turn began.
type Before struct {
	lineage.Lineage
	Keys     []kv.Key
	KVTokens int
}

// Owns tells whether a key was the agent's own i-th block's.
func (b *Before) Owns(i int, key kv.Key) bool { return i < len(b.Keys) && b.Keys[i] == key }

// Report is how a turn's prompt came about, in tokens.
type Report struct {
	Prompt                int
	Hot, Shared, Restored int
	Computed              int
	Cause                 Cause
	Diverged              int    // the first token that differs from what the agent had seen; -1 if none does
	Offset                int    // of it in the text, in bytes
	Known, Asked          string // the text around it, as it was and as it is
}

// around is how many tokens of text are shown before and behind a divergence.
const around = 12

// Explain makes the report of a prompt.
func (l *Ledger) Explain(tok *token.Tokenizer, b *Before, prompt lineage.Lineage) Report {
	n := len(prompt.Tokens)
	r := Report{Prompt: n, Hot: l.tokens[Hot], Shared: l.tokens[Shared], Restored: l.tokens[Restored], Cause: l.cause, Diverged: -1}
	r.Computed = max(0, n-r.Hot-r.Shared-r.Restored)
	at := lineage.CommonPrefix(b.Tokens, prompt.Tokens)
	switch {
	case len(b.Tokens) == 0:
		r.Cause = FirstTurn
	case at < len(b.Tokens):
		r.Diverged = at
		if at > 0 {
			r.Offset = b.Ends[at-1]
		}
		r.Known, r.Asked = near(tok, b.Tokens, at), near(tok, prompt.Tokens, at)
		if at < b.KVTokens {
			r.Cause = Diverged
		}
	}
	return r
}

func near(tok *token.Tokenizer, ids []token.ID, at int) string {
	return token.ValidText(tok.Decode(ids[max(0, at-around):min(len(ids), at+around)]))
}

// Log keeps the latest reports of the agents used last. The zero value is ready.
type Log[K comparable] struct {
	mu    sync.Mutex
	all   map[K]map[int]Report // by turn
	order []K                  // the longest unused first
}

// What a Log keeps.
const (
	maxAgents = 1024
	maxTurns  = 64
)

// Add notes the report of an agent's turn; later turns of the agent are forgotten.
func (g *Log[K]) Add(agent K, turn int, r Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[K]map[int]Report{}
	}
	turns := g.all[agent]
	if turns == nil {
		turns = map[int]Report{}
		g.all[agent] = turns
	}
	for n := range turns {
		if n > turn || n <= turn-maxTurns {
			delete(turns, n)
		}
	}
	turns[turn] = r
	g.touch(agent)
}

func (g *Log[K]) touch(agent K) {
	g.order = append(slices.DeleteFunc(g.order, func(k K) bool { return k == agent }), agent)
	if len(g.order) > maxAgents {
		delete(g.all, g.order[0])
		g.order = g.order[1:]
	}
}

// Of is the report of an agent's turn; false if it is not kept.
func (g *Log[K]) Of(agent K, turn int) (Report, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.all[agent][turn]
	return r, ok
}

// Forget drops an agent's reports.
func (g *Log[K]) Forget(agent K) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.all, agent)
	g.order = slices.DeleteFunc(g.order, func(k K) bool { return k == agent })
}
