// Package chat turns messages into the prompt text that a model was trained on.
//
// It knows chat templates: the Jinja programs inside model files, the variables
// they expect and the functions they call. A template is foreign code: its size
// is limited, and no failure of it reaches the caller as more than an error. It
// leaves token ids to token, and what roles a request may have to api.
package chat

import (
	"fmt"
	"time"

	"github.com/ardanlabs/jinja"
)

// maxTemplateBytes is several times what the longest known templates have.
const maxTemplateBytes = 128 << 10

// Options is what a template needs beside the messages.
type Options struct {
	BOS, EOS string           // spelled, as bos_token and eos_token
	Now      func() time.Time // the clock of strftime_now; nil means time.Now
}

// Message is one message of a conversation, as the template sees it.
type Message struct {
	Role    string
	Content string
	Name    string // left out when empty
}

// Template is a compiled chat template, safe for concurrent use.
type Template struct {
	program *jinja.Template
	options Options
}

// TemplateError is a refusal that the template itself raised: the conversation
// is not one that the model knows.
type TemplateError struct{ Message string }

func (e *TemplateError) Error() string { return e.Message }

// Compile compiles a template as the model file holds it.
func Compile(source string, o Options) (t *Template, err error) {
	defer recovered("compile", &err)
	if len(source) > maxTemplateBytes {
		return nil, fmt.Errorf("chat: template has %d bytes, at most %d are allowed", len(source), maxTemplateBytes)
	}
	prepared, err := prepare(source)
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
	return &Template{program: program, options: o}, nil
}

// Render returns the prompt for messages; with addGenerationPrompt it ends where
// the answer begins. The texts of messages come out as they are, whatever they
// look like. The error is a *TemplateError where the template refuses them.
func (t *Template) Render(messages []Message, addGenerationPrompt bool) (text string, err error) {
	defer recovered("render", &err)
	var refusal *TemplateError
	variables := t.variables(messages, addGenerationPrompt)
	variables["raise_exception"] = raiseException(&refusal)
	text, err = t.program.RenderValues(variables)
	if refusal != nil {
		return "", refusal
	}
	if err != nil {
		return "", fmt.Errorf("chat: render: %w", err)
	}
	return text, nil
}

// recovered turns a panic of the template engine into an error.
func recovered(step string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("chat: %s: template engine: %v", step, p)
	}
}
