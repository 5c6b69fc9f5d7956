// Package diagnose says which part of a conversation changed since an earlier one:
// its model, system prompt, tools, messages, or only how the template renders it.
// It keeps prints of conversations, hashes and lengths without a word of them.
// Where the KV of a prompt came from is the engine's to say, and how a vendor
// calls the reasons the dialects'.
package diagnose

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"mneme/internal/api/talk"
	"mneme/internal/chat"
)

// Digest stands for a text.
type Digest uint64

func digestOf(parts ...string) Digest {
	h := sha256.New()
	for _, p := range parts {
		var length [8]byte
		binary.LittleEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return Digest(binary.LittleEndian.Uint64(h.Sum(nil)))
}

// Tool is a tool's name and all that the model is told of it.
type Tool struct{ name, rest Digest }

// Span is a text from the prompt's beginning on.
type Span struct {
	Bytes  int
	Digest Digest
}

func spanOf(text string) Span { return Span{len(text), digestOf(text)} }

// begins tells whether a text begins with what the span is of.
func (s Span) begins(text string) bool {
	return s.Bytes <= len(text) && digestOf(text[:s.Bytes]) == s.Digest
}

// Print is what is kept of a conversation.
type Print struct {
	Model     Digest
	System    Digest   // the system messages before all others
	Tools     []Tool   // that the model is told of
	Messages  []Digest // the others
	Variables Digest   // of the template

	Prompt Span
	Whole  Span // the prompt and the answer as it was said; zero without one
	Answer Digest
	Tokens int // of both that have KV
}

// Of is the print of a conversation before it has a prompt.
func Of(model string, q talk.Request) Print {
	p := Print{Model: digestOf(model), Variables: variables(q)}
	if q.Choice.Mode != talk.None {
		p.Tools = tools(q.Tools)
	}
	n := 0
	var system []string
	for n < len(q.Messages) && (q.Messages[n].Role == "system" || q.Messages[n].Role == "developer") {
		system = append(system, q.Messages[n].Content)
		n++
	}
	p.System = digestOf(system...)
	for _, m := range q.Messages[n:] {
		p.Messages = append(p.Messages, message(m))
	}
	return p
}

// Prompted is the print with its prompt.
func (p Print) Prompted(prompt string) Print {
	p.Prompt = spanOf(prompt)
	return p
}

// Answered is the print of the conversation with an answer, as it was said and
// as a message.
func (p Print) Answered(prompt, said string, m chat.Message, tokens int) Print {
	p.Whole, p.Answer, p.Tokens = spanOf(prompt+said), message(m), tokens
	return p
}

// said are the messages and the answer.
func (p Print) said() []Digest { return append(slices.Clip(p.Messages), p.Answer) }

func tools(list []talk.Tool) []Tool {
	out := make([]Tool, len(list))
	for i, t := range list {
		out[i] = Tool{digestOf(t.Name), digestOf(t.Description, string(t.Parameters))}
	}
	return out
}

// message is what a message says, whatever the client's white space around it and
// in its calls. Reasoning and the ids of calls say nothing.
func message(m chat.Message) Digest {
	parts := []string{m.Role, m.Name, strings.TrimSpace(m.Content)}
	for _, c := range m.ToolCalls {
		parts = append(parts, c.Function.Name, talk.Meant(c.Function.Arguments))
	}
	return digestOf(parts...)
}

func variables(q talk.Request) Digest {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(q.Variables)) {
		parts = append(parts, name, string(q.Variables[name]))
	}
	return digestOf(parts...)
}

func byDigest(a, b Tool) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.rest, b.rest))
}
