package anthropic

import (
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// The events of a stream, each with its name as its type.
type (
	messageStart struct {
		Type    string  `json:"type"`
		Message Message `json:"message"`
	}
	blockStart struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
		Block Block  `json:"content_block"`
	}
	blockDelta struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
		Delta Delta  `json:"delta"`
	}
	blockStop struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}
	messageDelta struct {
		Type  string     `json:"type"`
		Delta End        `json:"delta"`
		Usage Usage      `json:"usage"`
		Note  *turn.Note `json:"mneme,omitempty"`
	}
	bare struct {
		Type string `json:"type"`
	}
)

// streamed answers with events: the message's beginning, its blocks as they
// come, its end. Pings fill the time until the prompt is computed.
func (t *speech) streamed(r engine.Request) error {
	events := t.desk.Stream()
	defer events.Close()
	if err := events.PingWith(wire.Event{Name: "ping", Data: bare{"ping"}}); err != nil {
		return err
	}
	to := streamed{t, events}
	t.composer = composer{to: to, newID: t.desk.NewID}
	done, err := t.desk.Run(r, to)
	if err != nil {
		return err
	}
	end, err := t.finish(done)
	if err != nil {
		return err
	}
	last := messageDelta{"message_delta", end, newUsage(done.Usage, t.marked), turn.NoteOf(done)}
	if err := to.send(last.Type, last); err != nil {
		return err
	}
	return to.send("message_stop", bare{"message_stop"})
}

// streamed sends a turn while it runs.
type streamed struct {
	*speech
	events *wire.Events
}

// Started implements turn.Started: only now is it known what the prompt cost.
func (t streamed) Started(cachedTokens int) error {
	usage := newUsage(engine.Usage{Prompt: t.prompt, Cached: cachedTokens}, t.marked)
	return t.send("message_start", messageStart{"message_start", t.message(usage)})
}

func (t streamed) open(index int, b Block) error {
	return t.send("content_block_start", blockStart{"content_block_start", index, b})
}

func (t streamed) more(index int, d Delta) error {
	return t.send("content_block_delta", blockDelta{"content_block_delta", index, d})
}

func (t streamed) shut(index int) error {
	return t.send("content_block_stop", blockStop{"content_block_stop", index})
}

func (t streamed) send(name string, data any) error {
	return t.events.Send(wire.Event{Name: name, Data: data})
}
