package talk

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"mneme/internal/chat/reply"
	g "mneme/internal/constrain"
	"mneme/internal/constrain/schema"
)

// held is what the answer is held to, nil if to nothing.
func (r *Room) held(q Request, thinking bool) (*g.Grammar, error) {
	if !q.constrained() {
		return nil, nil
	}
	key, err := json.Marshal([]any{q.Tools, q.Choice, q.Format, thinking})
	if err != nil {
		return nil, &Error{"tools", err.Error()}
	}
	return r.grammars.get(sha256.Sum256(key), func() (*g.Grammar, error) {
		n, err := r.grammar(q, thinking)
		if err != nil {
			return nil, err
		}
		return g.NewGrammar(r.vocabulary(), n), nil
	})
}

// constrained tells whether not every answer will do.
func (q *Request) constrained() bool {
	if q.Format.Shape != Free || q.Choice.Mode == Required || q.Choice.Mode == Named {
		return true
	}
	if q.Choice.Mode == Auto {
		if q.Choice.Single && len(q.Tools) > 0 {
			return true
		}
		for _, t := range q.Tools {
			if t.Strict {
				return true
			}
		}
	}
	return false
}

func (r *Room) grammar(q Request, thinking bool) (*g.Node, error) {
	answer, err := r.answer(q)
	if err != nil {
		return nil, err
	}
	open, end := r.syntax.Thinking()
	if open == "" {
		return answer, nil
	}
	closing, err := r.vocabulary().Markup(end)
	if err != nil {
		return nil, err
	}
	thought := g.Seq(g.Without(end), closing, g.Repeat(g.OneOf(" \n"), 0, 4))
	if thinking {
		return g.Seq(thought, answer), nil
	}
	opening, err := r.vocabulary().Markup(open)
	if err != nil {
		return nil, err
	}
	return g.Seq(g.Optional(g.Seq(opening, thought)), answer), nil
}

// answer is the grammar behind the reasoning.
func (r *Room) answer(q Request) (*g.Node, error) {
	text, err := r.text(q)
	if err != nil || len(q.Tools) == 0 || q.Choice.Mode == None {
		return text, err
	}
	calls, err := r.calls(q)
	switch {
	case err != nil || q.Choice.Mode != Auto:
		return calls, err
	case q.Format.Shape != Free:
		return g.Any(text, calls), nil
	}
	return g.Seq(text, g.Optional(calls)), nil
}

// text is what an answer that calls nothing must be.
func (r *Room) text(q Request) (*g.Node, error) {
	switch q.Format.Shape {
	case JSONObject:
		return schema.Object(), nil
	case JSONSchema:
		n, err := schema.Compile(q.Format.Schema, fidelity(q.Format.Strict))
		if err != nil {
			return nil, &Error{"response_format", err.Error()}
		}
		return n, nil
	}
	return g.Without(opening(r.syntax.Spelling())), nil
}

// opening is what no text may hold that calls nothing.
func opening(s reply.Spelling) string {
	if s.Begin != "" {
		return s.Begin
	}
	marker, _, _ := strings.Cut(s.Before, "\n")
	return marker
}

func fidelity(strict bool) schema.Fidelity {
	if strict {
		return schema.Strict
	}
	return schema.Loose
}

// calls is one call or several, of the tools that may be called.
func (r *Room) calls(q Request) (*g.Node, error) {
	var ways []*g.Node
	for i := range q.Tools {
		t := &q.Tools[i]
		if q.Choice.Mode == Named && t.Name != q.Choice.Name {
			continue
		}
		n, err := r.call(t)
		if err != nil {
			return nil, &Error{"tools", fmt.Sprintf("tool %s: %v", t.Name, err)}
		}
		ways = append(ways, n)
	}
	s := r.syntax.Spelling()
	parts, err := r.markup(s.Begin, s.Between, s.End)
	if err != nil {
		return nil, err
	}
	one, more := g.Any(ways...), -1
	if q.Choice.Single || q.Choice.Mode == Named {
		more = 0
	}
	return g.Seq(parts[0], one, g.Repeat(g.Seq(parts[1], one), 0, more), parts[2]), nil
}

func (r *Room) markup(texts ...string) ([]*g.Node, error) {
	out := make([]*g.Node, len(texts))
	for i, s := range texts {
		var err error
		if out[i], err = r.vocabulary().Markup(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// call is the grammar of one tool's call.
func (r *Room) call(t *Tool) (*g.Node, error) {
	s := r.syntax.Spelling()
	parts, err := r.markup(s.Before, s.Middle, s.After)
	if err != nil {
		return nil, err
	}
	arguments := schema.Object()
	switch {
	case s.Parameter[0] != "":
		arguments, err = r.parameters(t, s)
	case len(t.Parameters) > 0:
		arguments, err = schema.Compile(t.Parameters, fidelity(t.Strict))
	}
	if err != nil {
		return nil, err
	}
	return g.Seq(parts[0], g.Text(t.Name), parts[1], arguments, parts[2]), nil
}

// parameters are a call's arguments where each is written between tags: the
// required ones, and any of the others, in the schema's order.
func (r *Room) parameters(t *Tool, s reply.Spelling) (*g.Node, error) {
	names, required, err := schema.Properties(t.Parameters)
	if err != nil {
		return nil, err
	}
	parts, err := r.markup(s.Parameter[0], s.Parameter[1], s.Parameter[2])
	if err != nil {
		return nil, err
	}
	var all []*g.Node
	for _, name := range names {
		n := g.Seq(parts[0], g.Text(name), parts[1], g.Without(s.Parameter[2]), parts[2])
		if !required[name] {
			n = g.Optional(n)
		}
		all = append(all, n)
	}
	return g.Seq(all...), nil
}

// grammars keeps the automata that were used last: a client sends the same tools
// with every turn.
type grammars struct {
	mu   sync.Mutex
	all  map[[sha256.Size]byte]*g.Grammar
	used [][sha256.Size]byte // the longest unused first
}

const maxGrammars = 32

func (c *grammars) get(key [sha256.Size]byte, build func() (*g.Grammar, error)) (*g.Grammar, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[[sha256.Size]byte]*g.Grammar{}
	}
	if found := c.all[key]; found != nil {
		c.touch(key)
		return found, nil
	}
	made, err := build()
	if err != nil {
		return nil, err
	}
	if len(c.used) == maxGrammars {
		delete(c.all, c.used[0])
		c.used = c.used[1:]
	}
	c.all[key] = made
	c.used = append(c.used, key)
	return made, nil
}

func (c *grammars) touch(key [sha256.Size]byte) {
	for i, k := range c.used {
		if k == key {
			c.used = append(append(c.used[:i:i], c.used[i+1:]...), key)
			return
		}
	}
}
