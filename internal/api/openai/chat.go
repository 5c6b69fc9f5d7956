package openai

import (
	"net/http"

	"mneme/internal/api/openai/ask"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// chatTurn is one chat request and what its answer is made of.
type chatTurn struct {
	desk    *turn.Desk
	tok     *token.Tokenizer
	ask     Chat
	head    Head
	choices []*choice
}

// ChatCompletions is the handler of POST /v1/chat/completions.
func ChatCompletions(d *turn.Desk) error {
	d.Input = "messages"
	if err := d.NameAgent(); err != nil {
		return err
	}
	t, err := newChatTurn(d)
	if err != nil {
		return err
	}
	if t.ask.Stream {
		return t.streamed()
	}
	return t.whole()
}

// newChatTurn reads the request and renders its prompt.
func newChatTurn(d *turn.Desk) (*chatTurn, error) {
	body, err := d.Body()
	if err != nil {
		return nil, err
	}
	t := &chatTurn{desk: d, tok: d.Engine.Info().Tokenizer, head: newHead(d, "chatcmpl-", objectChat)}
	if t.ask, err = DecodeChat(body, t.tok.Size()); err != nil {
		return nil, err
	}
	if err := d.CheckModel(t.ask.Model); err != nil {
		return nil, err
	}
	d.Answer = t.head.ID
	d.NameFamily(t.ask.Names)
	opened, err := d.Open(t.ask.Talk)
	if err != nil {
		return nil, err
	}
	for i := range t.ask.N {
		if i > 0 {
			opened = opened.Again()
		}
		t.choices = append(t.choices, newChoice(t, i, opened))
	}
	return t, nil
}

// run takes the turns of all choices.
func (t *chatTurn) run(sink func(*choice) turn.Sink) error {
	requests, to := make([]engine.Request, len(t.choices)), make([]turn.Sink, len(t.choices))
	for i, c := range t.choices {
		requests[i], to[i] = c.request, sink(c)
	}
	all, err := t.desk.RunAll(requests, to)
	if err != nil {
		return err
	}
	for i, c := range t.choices {
		c.done = all[i]
	}
	if len(t.choices[0].said.Calls) > 0 {
		t.desk.Await()
	}
	return nil
}

// diagnostics are those that the request asked for.
func (t *chatTurn) diagnostics() *ask.Diagnostics {
	return ask.Diagnose(t.desk, t.ask.Earlier, t.choices[0].done.Usage)
}

// usage is that of all choices.
func (t *chatTurn) usage() Usage {
	var sum engine.Usage
	thought := 0
	for _, c := range t.choices {
		sum.Prompt += c.done.Usage.Prompt
		sum.Cached += c.done.Usage.Cached
		sum.Completion += c.done.Usage.Completion
		thought += c.talk.Thought
	}
	u := newUsage(sum)
	if thought > 0 {
		u.Generated = &CompletionDetails{thought}
	}
	return u
}

// whole answers with one JSON body.
func (t *chatTurn) whole() error {
	if err := t.run(func(c *choice) turn.Sink { return c }); err != nil {
		return err
	}
	answer := Completion{
		Head: t.head, Usage: t.usage(), Note: turn.NoteOf(t.choices[0].done), Diagnostics: t.diagnostics(), PromptTokenIDs: t.ask.ids(t.choices[0].prompt),
	}
	for _, c := range t.choices {
		answer.Choices = append(answer.Choices, c.answer())
	}
	return t.desk.JSON(http.StatusOK, answer)
}

// streamed answers with events: of each choice the role and what is said as it
// comes; then the finish of each, the usage if asked for.
func (t *chatTurn) streamed() error {
	t.head.Object = objectChunk
	events := t.desk.Stream()
	defer events.Close()
	sink := func(c *choice) turn.Sink { return &chatEvents{choice: c, events: events} }
	if err := t.run(sink); err != nil {
		return err
	}
	for _, c := range t.choices {
		if err := c.finish(&chatEvents{choice: c, events: events}); err != nil {
			return err
		}
	}
	if t.ask.IncludeUsage {
		usage := Chunk{Head: t.head, Choices: []ChunkChoice{}, Usage: t.usage().raw()}
		if err := events.Send(wire.Event{Data: usage}); err != nil {
			return err
		}
	}
	return events.SendText(doneText)
}

func (t *chatTurn) chunk(choice ChunkChoice) Chunk {
	chunk := Chunk{Head: t.head, Choices: []ChunkChoice{choice}}
	if t.ask.IncludeUsage {
		chunk.Usage = noUsage
	}
	return chunk
}

// logprobs are those of outputs when the request asked for them, else nil.
func (t *chatTurn) logprobs(outputs ...engine.Output) *Logprobs {
	if !t.ask.Logprobs {
		return nil
	}
	l := &Logprobs{Content: []TokenLogprob{}}
	for _, out := range outputs {
		entry := TokenLogprob{likely: t.likely(out.ID, out.Logprob), Top: []likely{}}
		for _, other := range out.Top {
			entry.Top = append(entry.Top, t.likely(other.ID, other.Logprob))
		}
		l.Content = append(l.Content, entry)
	}
	return l
}

func (t *chatTurn) likely(id token.ID, logprob float64) likely {
	return newLikely(t.tok.Bytes(id), logprob)
}
