// Package talk is a conversation whatever dialect it came in: messages, tools and
// what the answer must be, made into a prompt and a constraint, and what the
// model says read back into text, reasoning and calls.
// It leaves field names and events to the dialects, and the turn itself to turn.
package talk

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"mneme/internal/chat"
	"mneme/internal/chat/reply"
	"mneme/internal/constrain"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // a JSON schema; none: any object
	Strict      bool            // arguments must follow the schema even in a call by choice
}

// Mode says whether tools are called.
type Mode uint8

const (
	Auto     Mode = iota // as the model chooses
	None                 // never
	Required             // at least one
	Named                // one, by its name
)

// Choice says which tools are called.
type Choice struct {
	Mode   Mode
	Name   string // with Named
	Single bool   // at most one call
}

// Shape says what the answer's text must be.
type Shape uint8

const (
	Free       Shape = iota
	JSONObject       // any JSON object
	JSONSchema       // a value of a schema
)

// Format is the answer's shape, with its schema.
type Format struct {
	Shape  Shape
	Schema json.RawMessage
	Strict bool // a schema that cannot be held to is refused
}

// Request is a conversation that waits for the assistant.
type Request struct {
	Messages  []chat.Message
	Tools     []Tool
	Choice    Choice
	Format    Format
	Variables map[string]json.RawMessage // of the template
	// Said are texts that the model has said in this conversation, as it said
	// them; nil where none are known.
	Said func() []string
}

// Room is what all conversations with one model share.
type Room struct {
	template   *chat.Template
	syntax     *reply.Syntax
	toolless   bool // the template knows no tools
	nine       bool // the template wants ids of calls of 9 letters and digits
	vocabulary func() *constrain.Vocabulary
	grammars   grammars
}

// NewRoom makes the room of a model.
func NewRoom(t *chat.Template, tok *token.Tokenizer) *Room {
	r := &Room{
		template:   t,
		syntax:     reply.Of(t.Source()),
		nine:       wantsNine.MatchString(t.Source()),
		vocabulary: sync.OnceValue(func() *constrain.Vocabulary { return constrain.NewVocabulary(tok) }),
	}
	if !r.syntax.Calls() {
		r.syntax, r.toolless = reply.Hermes().ThinkingAs(r.syntax), true
	}
	return r
}

// Talk is a conversation at the point where the model is to speak.
type Talk struct {
	Prompt string
	Within sample.Constraint // nil: the model may say anything
	// Thought counts the pieces pushed that were reasoning; the engine gives one for
	// each token.
	Thought int

	parser *reply.Parser
	thinks bool // in the reasoning
	again  func() *Talk
}

// Open renders a conversation. Errors are a *chat.TemplateError or an *Error.
func (r *Room) Open(ctx context.Context, q Request) (*Talk, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	prompt, err := r.render(ctx, q)
	if err != nil {
		return nil, err
	}
	thinking := r.syntax.Opened(prompt)
	grammar, err := r.held(q, thinking)
	if err != nil {
		return nil, err
	}
	syntax := r.syntax
	if len(q.Tools) == 0 || q.Choice.Mode == None {
		syntax = syntax.WithoutCalls()
	}
	return newTalk(prompt, grammar, func() *reply.Parser { return reply.New(syntax, thinking).Offer(q.names()...) }), nil
}

func newTalk(prompt string, grammar *constrain.Grammar, parser func() *reply.Parser) *Talk {
	t := &Talk{Prompt: prompt, parser: parser(), again: func() *Talk { return newTalk(prompt, grammar, parser) }}
	if grammar != nil {
		t.Within = grammar.Begin()
	}
	return t
}

// Again is the same conversation, for another answer to it.
func (t *Talk) Again() *Talk { return t.again() }

// pieceBytes is how much of an answer is read at once: what turns out to be no call
// is looked at again.
const pieceBytes = 256

// Message is a whole answer as the message that clients send back.
func (t *Talk) Message(said string) chat.Message {
	again := t.Again()
	var c reply.Collector
	for piece := range slices.Chunk([]byte(said), pieceBytes) {
		c.Add(again.Push(string(piece))...)
	}
	c.Add(again.Flush()...)
	m := chat.Message{Role: "assistant", Content: c.Text.String()}
	for _, call := range c.Calls {
		m.ToolCalls = append(m.ToolCalls, chat.ToolCall{Function: chat.Function{Name: call.Name, Arguments: json.RawMessage(call.Arguments)}})
	}
	return m
}

// Push takes what the model says and gives the parts that are decided.
func (t *Talk) Push(text string) []reply.Part {
	parts := t.parser.Push(text)
	if n := len(parts); n > 0 {
		t.thinks = parts[n-1].Kind == reply.Reasoning
	}
	if t.thinks {
		t.Thought++
	}
	return parts
}

// Flush gives what is left at the end.
func (t *Talk) Flush() []reply.Part { return t.parser.Flush() }

// Error is a conversation that contradicts itself, or a schema in it that no
// answer can be held to.
type Error struct{ Field, Problem string }

func (e *Error) Error() string { return e.Field + ": " + e.Problem }

func (q *Request) check() error {
	switch {
	case q.Choice.Mode == Required && len(q.Tools) == 0:
		return &Error{"tool_choice", "a tool is required, and there are none"}
	case q.Choice.Mode == Named && q.tool(q.Choice.Name) == nil:
		return &Error{"tool_choice", "there is no tool named " + q.Choice.Name}
	case q.Choice.Mode >= Required && q.Format.Shape != Free:
		return &Error{"response_format", "a tool must be called, and the answer must be JSON: only one can be"}
	}
	return nil
}

func (q *Request) names() []string {
	names := make([]string, len(q.Tools))
	for i := range q.Tools {
		names[i] = q.Tools[i].Name
	}
	return names
}

func (q *Request) tool(name string) *Tool {
	for i := range q.Tools {
		if q.Tools[i].Name == name {
			return &q.Tools[i]
		}
	}
	return nil
}
