package talk

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"mneme/internal/chat"
)

// render makes the prompt. A template that refuses a conversation gets it once
// more in the simplest form that says the same: one system message at the head,
// users and the assistant by turns.
func (r *Room) render(ctx context.Context, q Request) (string, error) {
	messages := r.prepared(q)
	prompt, err := r.template.RenderContext(ctx, r.request(q, messages))
	var refused *chat.TemplateError
	if errors.As(err, &refused) {
		if plain, again := r.template.RenderContext(ctx, r.request(q, simplified(messages))); again == nil {
			return plain, nil
		}
	}
	return prompt, err
}

func (r *Room) request(q Request, messages []chat.Message) chat.Request {
	out := chat.Request{Messages: messages, AddGenerationPrompt: true, Variables: q.Variables}
	if len(q.Tools) > 0 && q.Choice.Mode != None && !r.toolless {
		out.Tools = toolsJSON(q.Tools)
	}
	return out
}

// prepared are the messages as this model's template can take them: what it said
// itself as it said it, and what it has no words for in words.
func (r *Room) prepared(q Request) []chat.Message {
	messages := r.replayed(q)
	if r.toolless {
		messages = r.told(messages, q)
	}
	if r.nine {
		shorten(messages)
	}
	if !strings.Contains(r.template.Source(), "developer") {
		for i := range messages {
			if messages[i].Role == "developer" {
				messages[i].Role = "system"
			}
		}
	}
	return messages
}

// toolsJSON is the list of tools in the shape that templates are written for.
func toolsJSON(tools []Tool) json.RawMessage {
	type function struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters,omitempty"`
	}
	type tool struct {
		Type     string   `json:"type"`
		Function function `json:"function"`
	}
	list := make([]tool, len(tools))
	for i, t := range tools {
		list[i] = tool{"function", function{t.Name, t.Description, t.Parameters}}
	}
	b, _ := json.Marshal(list) // the schemas were parsed before
	return b
}

// told tells a model whose template knows no tools of them in the system message,
// and writes calls and results as text.
func (r *Room) told(messages []chat.Message, q Request) []chat.Message {
	out := make([]chat.Message, 0, len(messages)+1)
	for _, m := range messages {
		switch {
		case len(m.ToolCalls) > 0:
			m.Content, m.ToolCalls = spelledCalls(m), nil
		case m.Role == "tool":
			m = chat.Message{Role: "user", Content: "<tool_response>\n" + m.Content + "\n</tool_response>"}
		}
		out = append(out, m)
	}
	if len(q.Tools) == 0 || q.Choice.Mode == None {
		return out
	}
	about := toolWords + string(toolsJSON(q.Tools)) + callWords
	if len(out) > 0 && (out[0].Role == "system" || out[0].Role == "developer") {
		out[0].Content += "\n\n" + about
		return out
	}
	return append([]chat.Message{{Role: "system", Content: about}}, out...)
}

const (
	toolWords = "You may call one or more of these functions:\n<tools>\n"
	callWords = "\n</tools>\nTo call one, answer with its name and arguments as JSON between tags:\n<tool_call>\n{\"name\": \"function\", \"arguments\": {}}\n</tool_call>"
)

func spelledCalls(m chat.Message) string {
	var b strings.Builder
	b.WriteString(m.Content)
	for _, c := range m.ToolCalls {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		name, _ := json.Marshal(c.Function.Name)
		b.WriteString("<tool_call>\n{\"name\": " + string(name) + ", \"arguments\": " + argumentsText(c.Function.Arguments) + "}\n</tool_call>")
	}
	return b.String()
}

// argumentsText is a call's arguments as JSON: they may be the text of it.
func argumentsText(raw json.RawMessage) string {
	var inner string
	switch {
	case len(raw) == 0:
		return "{}"
	case json.Unmarshal(raw, &inner) == nil:
		return inner
	}
	return string(raw)
}

// simplified is a conversation for templates that want one system message, if any,
// and then users and the assistant by turns: a later system message is said by
// the user, in tags; neighbours of one role become one message.
func simplified(messages []chat.Message) []chat.Message {
	var out []chat.Message
	for i, m := range messages {
		if i > 0 && (m.Role == "system" || m.Role == "developer") {
			m = chat.Message{Role: "user", Content: "<system>\n" + m.Content + "\n</system>"}
		}
		last := len(out) - 1
		if last >= 0 && out[last].Role == m.Role && m.Role != "tool" {
			out[last].Content = strings.TrimSpace(out[last].Content + "\n\n" + m.Content)
			out[last].ToolCalls = slices.Concat(out[last].ToolCalls, m.ToolCalls)
			continue
		}
		out = append(out, m)
	}
	return out
}
