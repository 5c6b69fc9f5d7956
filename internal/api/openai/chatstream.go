package openai

import (
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/chat/reply"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// chatEvents sends a choice while it runs.
type chatEvents struct {
	*choice
	events *wire.Events
}

// Begin sends the role.
func (e *chatEvents) Begin(prompt []token.ID) error {
	first := e.piece(ChunkChoice{Delta: Delta{Role: "assistant", Content: new(string)}})
	if e.index == 0 {
		first.PromptTokenIDs = e.ask.ids(prompt)
	}
	return e.events.Send(wire.Event{Data: first})
}

// Output leaves out what adds nothing, as half a character does.
func (e *chatEvents) Output(out engine.Output) error {
	deltas := e.deltas(e.talk.Push(out.Text))
	if len(deltas) == 0 && (e.ask.Logprobs || e.ask.ReturnTokenIDs) {
		deltas = []Delta{{Content: new(string)}}
	}
	for i, d := range deltas {
		c := ChunkChoice{Delta: d}
		if i == 0 {
			c.Logprobs, c.TokenIDs = e.logprobs(out), e.ask.ids([]token.ID{out.ID})
		}
		if err := e.events.Send(wire.Event{Data: e.piece(c)}); err != nil {
			return err
		}
	}
	return nil
}

// finish sends what was kept back, and why the choice ended.
func (c *choice) finish(e *chatEvents) error {
	for _, d := range e.deltas(c.talk.Flush()) {
		if err := e.events.Send(wire.Event{Data: e.piece(ChunkChoice{Delta: d})}); err != nil {
			return err
		}
	}
	reason := c.reason()
	last := e.piece(ChunkChoice{FinishReason: &reason})
	if c.index == 0 {
		last.Note, last.Diagnostics = turn.NoteOf(c.done), c.diagnostics()
	}
	return e.events.Send(wire.Event{Data: last})
}

func (e *chatEvents) deltas(parts []reply.Part) []Delta {
	var deltas []Delta
	for _, p := range parts {
		if p, ok := e.hear(p); ok {
			deltas = append(deltas, e.delta(p))
		}
	}
	return deltas
}

// delta is a part that was just heard.
func (e *chatEvents) delta(p reply.Part) Delta {
	last := len(e.said.Calls) - 1
	switch p.Kind {
	case reply.Reasoning:
		return Delta{Reasoning: p.Text}
	case reply.CallBegin:
		return Delta{ToolCalls: []ToolCallDelta{{last, e.callIDs[last], "function", FunctionDelta{Name: p.Text}}}}
	case reply.Arguments:
		return Delta{ToolCalls: []ToolCallDelta{{Index: last, Function: FunctionDelta{Arguments: p.Text}}}}
	}
	return Delta{Content: &p.Text}
}

func (e *chatEvents) piece(c ChunkChoice) Chunk {
	c.Index = e.index
	return e.chunk(c)
}
