package openai

import (
	"encoding/json"
	"strconv"

	"mneme/internal/api/fields"
	"mneme/internal/api/openai/ask"
	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/chat"
)

// maxChoices bounds n: they run together.
const maxChoices = 8

// Chat is a decoded POST /v1/chat/completions.
type Chat struct {
	turn.Ask
	Form
	Model    string // "" when omitted
	Talk     talk.Request
	Names    wire.Names
	N        int // choices
	Logprobs bool
	Earlier  string // the answer whose conversation this one is compared with; "" for none
}

// DecodeChat reads a chat request of a model with vocab tokens. Unknown
// members are ignored, as the vendor does. Every error is a *fields.Error.
func DecodeChat(body []byte, vocab int) (Chat, error) {
	o, err := fields.Parse(body)
	if err != nil {
		return Chat{}, err
	}
	c := Chat{
		Ask:      ask.Turn(o, vocab),
		Form:     form(o),
		Model:    o.Text("model", ""),
		Talk:     conversation(o),
		Names:    ask.Names(o),
		N:        int(o.Int("n", 1, 1, maxChoices)),
		Logprobs: o.Bool("logprobs", false),
		Earlier:  ask.Earlier(o),
	}
	c.MaxTokens = maxTokens(o)
	c.Sampling.Logprobs = alternatives(o, c.Logprobs)
	refuseFunctions(o)
	if err := o.Err(); err != nil {
		return Chat{}, err
	}
	return c, ask.Checked(c.Sampling)
}

func conversation(o *fields.Object) talk.Request {
	return talk.Request{
		Messages:  messages(o),
		Tools:     tools(o),
		Choice:    ask.Choice(o),
		Format:    ask.Format(o.Sub("response_format")),
		Variables: ask.Variables(o, o.Text("reasoning_effort", "")),
	}
}

// alternatives is what sample.Params.Logprobs wants: -1 for none.
func alternatives(o *fields.Object, logprobs bool) int {
	n := int(o.Int("top_logprobs", 0, 0, ask.MaxTopLogprobs))
	if logprobs {
		return n
	}
	if o.Has("top_logprobs") && n > 0 {
		o.Refuse("top_logprobs", "needs logprobs to be true")
	}
	return -1
}

// maxTokens reads the newer name, else the older one; 0 when neither is there.
func maxTokens(o *fields.Object) int {
	older := o.Int("max_tokens", 0, 1, ask.MaxInt)
	return int(o.Int("max_completion_tokens", older, 1, ask.MaxInt))
}

// refuseFunctions says what took the place of functions.
func refuseFunctions(o *fields.Object) {
	if len(o.List("functions")) > 0 {
		o.Refuse("functions", "must be absent or empty: send tools, which took their place")
	}
}

func tools(o *fields.Object) []talk.Tool {
	var tools []talk.Tool
	for _, t := range o.Objects("tools") {
		if kind := t.Text("type", "function"); kind != "function" {
			t.Refuse(t.At("type"), `must be "function", not `+strconv.Quote(fields.Clip(kind)))
		}
		t.Require("function")
		if f := t.Sub("function"); f != nil {
			tools = append(tools, ask.Function(f))
		}
	}
	ask.Unique(o, tools)
	return tools
}

// messages reads the conversation.
func messages(o *fields.Object) []chat.Message {
	o.Require("messages")
	list := o.Objects("messages")
	if len(list) == 0 {
		o.Refuse("messages", "must hold at least one message")
	}
	messages := make([]chat.Message, len(list))
	for i, m := range list {
		messages[i] = message(m)
	}
	return messages
}

func message(o *fields.Object) chat.Message {
	o.Require("role")
	m := chat.Message{Role: o.Text("role", "user"), Name: o.Text("name", "")}
	switch m.Role {
	case "system", "developer", "user":
		m.Content = ask.Content(o, "content", "text")
	case "assistant":
		said(o, &m)
	case "tool":
		o.Require("tool_call_id")
		m.ToolCallID = o.Text("tool_call_id", "")
		m.Content = ask.Content(o, "content", "text")
	default:
		o.Refuse(o.At("role"), "must be one of system, developer, user, assistant, tool, not "+strconv.Quote(fields.Clip(m.Role)))
	}
	return m
}

// said reads what the assistant answered, in text, calls or both.
func said(o *fields.Object, m *chat.Message) {
	m.Reasoning = o.Text("reasoning_content", o.Text("reasoning", ""))
	for _, call := range o.Objects("tool_calls") {
		m.ToolCalls = append(m.ToolCalls, toolCall(call))
	}
	if o.Has("content") || len(m.ToolCalls) == 0 {
		m.Content = ask.Content(o, "content", "text", "refusal")
	}
}

// toolCall reads a call; its arguments are the text of JSON.
func toolCall(o *fields.Object) chat.ToolCall {
	c := chat.ToolCall{ID: o.Text("id", "")}
	o.Require("function")
	if f := o.Sub("function"); f != nil {
		f.Require("name")
		c.Function.Name = f.Text("name", "")
		c.Function.Arguments, _ = json.Marshal(f.Text("arguments", "{}")) // a string
	}
	return c
}
