// Package chat turns messages into the prompt text that a model was trained on.
//
// It knows chat templates: the Jinja programs inside model files, the variables
// they expect and the functions they call. A template is foreign code: its size
// is limited, and so are the time, the memory and the depth of calls that a
// render takes; no failure of it reaches the caller as more than an error. It
// leaves token ids to token, and what roles a request may have to api.
package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/ardanlabs/jinja"

	"mneme/internal/chat/source"
)

// maxTemplateBytes is several times what the longest known templates have.
const maxTemplateBytes = 128 << 10

// Options is what a template needs beside the messages.
type Options struct {
	BOS, EOS string           // spelled, as bos_token and eos_token
	Now      func() time.Time // the clock of strftime_now; nil means time.Now
}

// Message is one message of a conversation, as the template sees it. What is
// empty is left out, Role and Content aside.
type Message struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	Reasoning  string     `json:"reasoning_content,omitempty"` // of an assistant: what it thought before
	Name       string     `json:"name,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`   // of an assistant
	ToolCallID string     `json:"tool_call_id,omitempty"` // of a tool: the call that it answers
}

// ToolCall is a function that the model wants called.
type ToolCall struct {
	ID       string   `json:"id,omitempty"`
	Function Function `json:"function"`
}

// Function is which, and with what: JSON, an object or the text of one.
type Function struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

// Request is what a template renders. JSON keeps the order of its keys.
type Request struct {
	Messages            []Message
	Tools               json.RawMessage            // a list as the client sent it; empty, null and [] are none
	AddGenerationPrompt bool                       // end where the answer begins
	Variables           map[string]json.RawMessage // further ones that the template knows
}

// Template is a compiled chat template, safe for concurrent use.
type Template struct {
	program *jinja.Template
	options Options
	text    string
}

// Source is the template as the model file holds it.
func (t *Template) Source() string { return t.text }

// TemplateError is a refusal that the template itself raised: the conversation
// is not one that the model knows.
type TemplateError struct{ Message string }

func (e *TemplateError) Error() string { return e.Message }

// Compile compiles a template as the model file holds it.
func Compile(text string, o Options) (t *Template, err error) {
	defer recovered("compile", &err)
	if len(text) > maxTemplateBytes {
		return nil, fmt.Errorf("chat: template has %d bytes, at most %d are allowed", len(text), maxTemplateBytes)
	}
	prepared, err := source.Prepare(text)
	if err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	program, err := jinja.Compile(prepared)
	if err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Template{program: program, options: o, text: text}, nil
}

// Render is RenderContext for messages alone.
func (t *Template) Render(messages []Message, addGenerationPrompt bool) (text string, err error) {
	return t.RenderContext(context.Background(), Request{Messages: messages, AddGenerationPrompt: addGenerationPrompt})
}

// RenderContext returns the prompt for a request. The texts of messages come out
// as they are, whatever they look like. The error is a *TemplateError where the
// template refuses the request; one of ctx where that ends the render.
func (t *Template) RenderContext(ctx context.Context, q Request) (text string, err error) {
	defer recovered("render", &err)
	variables, err := t.variables(q)
	if err != nil {
		return "", err
	}
	ctx, stop := context.WithTimeoutCause(ctx, maxTime, errSlow)
	defer stop()
	r := newRun(ctx, q.size())
	maps.Copy(variables, r.functions())
	var refusal *TemplateError
	variables["raise_exception"] = raiseException(&refusal)
	text, err = t.program.RenderValues(variables)
	switch {
	case refusal != nil:
		return "", refusal
	case r.fault != nil:
		return "", fmt.Errorf("chat: render: %w", r.fault)
	case err != nil:
		return "", fmt.Errorf("chat: render: %w", err)
	}
	return text, nil
}

// size is about how many bytes a request brings.
func (q Request) size() int {
	n := len(q.Tools)
	for _, m := range q.Messages {
		n += len(m.Role) + len(m.Content) + len(m.Reasoning) + len(m.Name) + len(m.ToolCallID) + 64
		for _, c := range m.ToolCalls {
			n += len(c.ID) + len(c.Function.Name) + len(c.Function.Arguments)
		}
	}
	for _, v := range q.Variables {
		n += len(v)
	}
	return n
}

// recovered turns a panic of the template engine into an error.
func recovered(step string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("chat: %s: template engine: %v", step, p)
	}
}
