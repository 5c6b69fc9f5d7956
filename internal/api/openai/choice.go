package openai

import (
	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/chat/reply"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// choice is one of the answers to a chat: choice 0 is the agent's turn, the others
// are nobody's.
type choice struct {
	*chatTurn
	index   int
	talk    *talk.Talk
	request engine.Request

	prompt  []token.ID
	said    reply.Collector
	callIDs []string
	outputs []engine.Output
	done    engine.Completed
}

func newChoice(t *chatTurn, index int, opened *talk.Talk) *choice {
	c := &choice{chatTurn: t, index: index, talk: opened, request: t.desk.NewTurn(t.ask.Ask)}
	c.request.Text, c.request.Within = opened.Prompt, opened.Within
	if index > 0 {
		c.request.Agent, c.request.Parent = "", ""
		c.request.Sampling.Seed += uint64(index) // else all would say the same
	}
	return c
}

// Begin implements turn.Sink.
func (c *choice) Begin(prompt []token.ID) error {
	c.prompt = prompt
	return nil
}

// Output implements turn.Sink.
func (c *choice) Output(out engine.Output) error {
	c.hearAll(c.talk.Push(out.Text))
	c.outputs = append(c.outputs, out)
	return nil
}

func (c *choice) hearAll(parts []reply.Part) {
	for _, p := range parts {
		c.hear(p)
	}
}

// hear takes a part, and gives it as clients are to have it; false where it is
// nothing to them. A call without arguments has empty ones.
func (c *choice) hear(p reply.Part) (reply.Part, bool) {
	switch p.Kind {
	case reply.CallBegin:
		c.callIDs = append(c.callIDs, "call_"+c.desk.NewID())
	case reply.CallEnd:
		p = reply.Part{Kind: reply.Arguments, Text: c.missing()}
	}
	c.said.Add(p)
	return p, p.Text != ""
}

// missing is what the last call lacks to have arguments.
func (c *choice) missing() string {
	if c.said.Calls[len(c.said.Calls)-1].Arguments == "" {
		return "{}"
	}
	return ""
}

// answer is the whole choice.
func (c *choice) answer() Choice {
	c.hearAll(c.talk.Flush())
	m := Message{Role: "assistant", Reasoning: c.said.Reasoning.String(), ToolCalls: c.calls()}
	if text := c.said.Text.String(); text != "" || len(m.ToolCalls) == 0 {
		m.Content = &text
	}
	return Choice{
		Index:        c.index,
		Message:      m,
		Logprobs:     c.logprobs(c.outputs...),
		FinishReason: c.reason(),
		TokenIDs:     c.ask.ids(turn.IDs(c.outputs)),
	}
}

func (c *choice) calls() []ToolCall {
	var calls []ToolCall
	for i, call := range c.said.Calls {
		calls = append(calls, ToolCall{c.callIDs[i], "function", Function{call.Name, call.Arguments}})
	}
	return calls
}

// reason is why the choice ended.
func (c *choice) reason() string {
	if c.done.Finish == engine.FinishStop && len(c.said.Calls) > 0 {
		return "tool_calls"
	}
	return string(c.done.Finish)
}
