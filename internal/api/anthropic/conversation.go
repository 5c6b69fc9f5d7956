package anthropic

import (
	"slices"
	"strconv"
	"strings"

	"mneme/internal/api/fields"
	"mneme/internal/api/talk"
	"mneme/internal/chat"
)

// conversation is what the messages of a request come to.
type conversation struct {
	settings Settings
	tools    []talk.Tool
	messages []chat.Message
	system   int // messages that the system prompt is: none or one
	mark     Mark
	prefill  string
	stripped []string
	called   map[string]string // names of tools, by the ids of their calls
}

// Mark is the last place that the client asked to keep the KV up to.
type Mark struct {
	Kind MarkKind
	At   talk.Place // with MarkInside
}

// MarkKind says where a mark is.
type MarkKind uint8

const (
	NoMark     MarkKind = iota
	MarkInside          // the prompt
	MarkAtEnd           // of the prompt: what the answer begins with is marked
)

// marks tells whether an object has a cache_control.
func marks(n node) bool { return n.Sub("cache_control") != nil }

// last is the message being read.
func (c *conversation) last() *chat.Message { return &c.messages[len(c.messages)-1] }

// markHere is a mark behind all that was read.
func (c *conversation) markHere() {
	at := talk.Place{Index: len(c.messages) - 1}
	if at.Index < 0 {
		return // of a system prompt of which nothing was left
	}
	if at.Bytes = len(c.last().Content); len(c.last().ToolCalls) > 0 {
		at = talk.Place{Index: at.Index + 1} // calls are rendered behind the content
	}
	c.mark = Mark{MarkInside, at}
}

// readSystem makes the system prompt the first message, if there is one.
func (c *conversation) readSystem(top node) {
	if _, isText := top.Value("system").(string); isText || !top.Has("system") {
		c.systemText(top.Text("system", ""))
		c.system = len(c.messages)
		return
	}
	for _, b := range top.each("system") {
		c.systemText(textOf(b))
		if marks(b) {
			c.markHere()
		}
	}
	c.system = len(c.messages)
}

func (c *conversation) systemText(text string) {
	if c.settings.Billing == StripBilling {
		var had bool
		if text, had = stripped(text); had && c.stripped == nil {
			c.stripped = []string{billingHeader}
		}
	}
	if text != "" {
		c.say("system", text, len(c.messages) == 0)
	}
}

// say adds text to the message being read, on a line of its own, or begins one.
func (c *conversation) say(role, text string, begins bool) {
	if begins {
		c.messages = append(c.messages, chat.Message{Role: role, Content: text})
		return
	}
	m := c.last()
	if role != "assistant" { // whose texts are pieces of what the model said
		m.Content += "\n"
	}
	m.Content += text
}

// textOf reads a block that can only be text.
func textOf(b node) string {
	b.Require("type")
	if kind := b.Text("type", "text"); kind != "text" {
		b.Refuse(b.At("type"), `must be "text", not `+strconv.Quote(fields.Clip(kind))+": this model reads text only, no images, documents or files")
	}
	b.Require("text")
	return b.Text("text", "")
}

// readMessages reads the conversation behind the system prompt.
func (c *conversation) readMessages(top node) {
	top.Require("messages")
	list := top.each("messages")
	if len(list) == 0 {
		top.Refuse("messages", "must hold at least one message")
	}
	for _, m := range list {
		c.readMessage(m)
	}
	if marks(top) { // of the request as a whole: up to its last block
		c.markHere()
	}
	c.split(top)
	if len(list) > 0 && len(c.messages) == c.system {
		top.Refuse("messages", "must hold more than the beginning of an answer")
	}
}

func (c *conversation) readMessage(m node) {
	m.Require("role")
	m.Require("content")
	read := map[string]func(node, bool) bool{"user": c.userBlock, "assistant": c.assistantBlock, "system": c.systemBlock}
	role := m.Text("role", "user")
	block, known := read[role]
	if !known {
		m.Refuse(m.At("role"), "must be one of user, assistant, system, not "+strconv.Quote(fields.Clip(role)))
		return
	}
	if text, isText := m.Value("content").(string); isText {
		c.say(role, text, true)
		return
	}
	blocks := m.each("content")
	if len(blocks) == 0 && role != "assistant" {
		m.Refuse(m.At("content"), "must hold at least one block")
	}
	begins := true
	for _, b := range blocks {
		begins = block(b, begins)
		if marks(b) {
			c.markHere()
		}
	}
}

// systemBlock reads a block of a system message within the conversation. Like
// the other readers of blocks it is told whether the block begins a message, and
// says whether the next one does.
func (c *conversation) systemBlock(b node, begins bool) bool {
	c.say("system", textOf(b), begins)
	return false
}

func (c *conversation) userBlock(b node, begins bool) bool {
	if b.Text("type", "") != "tool_result" {
		c.say("user", textOf(b), begins)
		return false
	}
	b.Require("tool_use_id")
	id := b.Text("tool_use_id", "")
	c.messages = append(c.messages, chat.Message{Role: "tool", Name: c.called[id], ToolCallID: id})
	c.readResult(b)
	return true
}

// readResult reads what a tool gave into the last message. That it failed is
// said in words where its own words do not: templates know no errors.
func (c *conversation) readResult(b node) {
	m := c.last()
	failed := b.Bool("is_error", false)
	put := func(text string) {
		if failed && m.Content == "" && !saysError(text) {
			m.Content = "Error: "
		}
		m.Content += text
	}
	if text, isText := b.Value("content").(string); isText {
		put(text)
		return
	}
	for i, part := range b.each("content") {
		if i > 0 {
			m.Content += "\n"
		}
		put(resultText(part))
		if marks(part) {
			c.markHere()
		}
	}
}

// saysError looks at how a text begins.
func saysError(text string) bool {
	return strings.Contains(strings.ToLower(text[:min(len(text), 32)]), "error")
}

// resultText reads a part of a tool's result; a tool that was found is its name.
func resultText(part node) string {
	if part.Text("type", "") == "tool_reference" {
		return part.Text("tool_name", "")
	}
	return textOf(part)
}

func (c *conversation) assistantBlock(b node, begins bool) bool {
	kind := b.Text("type", "")
	if begins {
		c.messages = append(c.messages, chat.Message{Role: "assistant"})
	}
	switch {
	case kind == "thinking":
		c.last().Reasoning += b.Text("thinking", "")
	case kind == "tool_use":
		c.call(b)
	case kind == "redacted_thinking", foreign(kind):
	default:
		c.say("assistant", textOf(b), false)
	}
	return false
}

// foreign tells of blocks about tools that the vendor's servers have run.
func foreign(kind string) bool {
	return kind == "server_tool_use" || kind == "mcp_tool_use" || kind != "tool_result" && strings.HasSuffix(kind, "_tool_result")
}

func (c *conversation) call(b node) {
	b.Require("id")
	b.Require("name")
	call := chat.ToolCall{ID: b.Text("id", ""), Function: chat.Function{Name: b.Text("name", ""), Arguments: b.object("input")}}
	c.last().ToolCalls = append(c.last().ToolCalls, call)
	if c.called == nil {
		c.called = map[string]string{}
	}
	c.called[call.ID] = call.Function.Name
}

// split takes an assistant's message at the end as the beginning of the answer.
func (c *conversation) split(top node) {
	n := len(c.messages) - 1
	if n < 0 || c.messages[n].Role != "assistant" {
		return
	}
	if calls := c.messages[n].ToolCalls; len(calls) > 0 {
		top.Refuse("messages", "must not end with a tool_use: the tool_result of "+strconv.Quote(fields.Clip(calls[0].ID))+" is missing")
	}
	if c.mark.Kind == MarkInside && !c.mark.At.InTools && c.mark.At.Index >= n {
		c.mark.Kind = MarkAtEnd
	}
	c.prefill, c.messages = c.messages[n].Content, slices.Clip(c.messages[:n])
}
