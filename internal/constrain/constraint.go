package constrain

import (
	"sync"

	"mneme/internal/token"
)

// Grammar is an automaton over a vocabulary, for any number of outputs at once.
type Grammar struct {
	vocabulary *Vocabulary
	mu         sync.Mutex
	machine    *Machine
}

// NewGrammar makes the automaton of a node over a vocabulary.
func NewGrammar(v *Vocabulary, n *Node) *Grammar {
	return &Grammar{vocabulary: v, machine: NewMachine(n)}
}

// Constraint is one output under a grammar.
type Constraint struct {
	grammar *Grammar
	at      *state
	ended   bool
}

// Begin is an output at its beginning.
func (g *Grammar) Begin() *Constraint { return &Constraint{grammar: g, at: g.machine.start} }

// Allows tells whether a token may come next.
func (c *Constraint) Allows(id token.ID) bool {
	c.grammar.mu.Lock()
	defer c.grammar.mu.Unlock()
	_, ok := c.after(id)
	return ok
}

// after is the state behind a token; for an end token the state stays.
func (c *Constraint) after(id token.ID) (*state, bool) {
	t := c.grammar.vocabulary.tokens
	switch {
	case c.ended:
		return dead, false
	case t.IsEnd(id):
		return c.at, c.at.accepts
	}
	spelled := c.grammar.vocabulary.spelling(id)
	next := c.grammar.machine.walk(c.at, spelled)
	return next, len(spelled) > 0 && next != dead
}

// Mask has a bit for each token id that may come next; it must not be changed.
func (c *Constraint) Mask() []uint64 {
	c.grammar.mu.Lock()
	defer c.grammar.mu.Unlock()
	return c.grammar.vocabulary.mask(c.grammar.machine, c.at)
}

// Take says that a token has come, one that may.
func (c *Constraint) Take(id token.ID) {
	c.grammar.mu.Lock()
	defer c.grammar.mu.Unlock()
	c.at, _ = c.after(id)
	if c.grammar.vocabulary.tokens.IsEnd(id) {
		c.at, c.ended = dead, true
	}
}

// Complete tells whether the output may end here, or has.
func (c *Constraint) Complete() bool { return c.ended || c.at.accepts }
