package api

import (
	"math/rand/v2"
	"net/http"
	"strings"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// chatTurn is one chat request and what its answer is made of.
type chatTurn struct {
	x       *exchange
	info    engine.Info
	ask     openai.Chat
	request engine.Request
	head    openai.Head
}

func chatCompletions(x *exchange) error {
	if err := x.nameAgent(); err != nil {
		return err
	}
	t, err := x.chatTurn()
	if err != nil {
		return err
	}
	if t.ask.Stream {
		return t.streamed()
	}
	return t.whole()
}

// chatTurn reads the request and renders its prompt.
func (x *exchange) chatTurn() (*chatTurn, error) {
	body, err := x.body()
	if err != nil {
		return nil, err
	}
	t := &chatTurn{x: x, info: x.engine.Info()}
	if t.ask, err = openai.DecodeChat(body, t.info.Tokenizer.Size()); err != nil {
		return nil, err
	}
	if err := x.server.checkModel(t.ask.Model, t.info); err != nil {
		return nil, err
	}
	t.head = x.server.head(t.info)
	return t, t.render()
}

// render makes the engine's request.
func (t *chatTurn) render() error {
	if t.info.Template == nil {
		return openai.Invalid("messages", "the model %q has no chat template", t.info.Model)
	}
	prompt, err := t.info.Template.Render(t.ask.Messages, true)
	if err != nil {
		return err
	}
	if !t.ask.Seeded {
		t.ask.Sampling.Seed = rand.Uint64()
	}
	t.request = engine.Request{
		Agent:     engine.AgentID(t.x.agent),
		Namespace: namespace,
		Text:      prompt,
		MaxTokens: t.ask.MaxTokens,
		Sampling:  t.ask.Sampling,
		Stop:      t.ask.Stop,
		IgnoreEOS: t.ask.IgnoreEOS,
	}
	return nil
}

func (s *Server) head(info engine.Info) openai.Head {
	return openai.Head{
		ID:          "chatcmpl-" + s.options.NewID(),
		Object:      openai.ObjectCompletion,
		Created:     s.options.Clock().Unix(),
		Model:       info.Model,
		Fingerprint: "fp_" + info.Fingerprint[:min(12, len(info.Fingerprint))],
	}
}

// run submits the turn, hands every output to each and enters the turn in the
// ledger. It returns once the turn is published. accepted is called before the
// first output.
func (t *chatTurn) run(accepted func(prompt []token.ID) error, each func(engine.Output) error) (engine.Completed, error) {
	ctx := t.x.r.Context()
	stream, err := t.x.engine.Submit(ctx, t.request)
	if err != nil {
		return engine.Completed{}, err
	}
	defer stream.Close()
	if err := accepted(stream.Prompt()); err != nil {
		return engine.Completed{}, err
	}
	for out, ok := stream.Next(ctx); ok; out, ok = stream.Next(ctx) {
		if err := each(out); err != nil {
			return engine.Completed{}, err
		}
	}
	done, err := stream.Result()
	if err == nil {
		t.x.completed(done)
	}
	return done, err
}

// whole answers with one JSON body.
func (t *chatTurn) whole() error {
	answer := openai.Completion{Head: t.head}
	choice := openai.Choice{Logprobs: t.logprobs()}
	var text strings.Builder
	done, err := t.run(func(prompt []token.ID) error {
		answer.PromptTokenIDs, choice.TokenIDs = t.ids(prompt), t.ids(nil)
		return nil
	}, func(out engine.Output) error {
		text.WriteString(out.Text)
		choice.TokenIDs = append(choice.TokenIDs, t.ids([]token.ID{out.ID})...)
		t.add(choice.Logprobs, out)
		return nil
	})
	if err != nil {
		return err
	}
	choice.Message = openai.Message{Role: "assistant", Content: text.String()}
	choice.FinishReason = string(done.Finish)
	answer.Choices = []openai.Choice{choice}
	answer.Usage = usage(done)
	answer.Note = note(done)
	return t.x.json(http.StatusOK, answer)
}

// streamed answers with events: the role, the text as it comes, the finish, the
// usage if asked for.
func (t *chatTurn) streamed() error {
	t.head.Object = openai.ObjectChunk
	events := t.x.stream()
	defer events.close()
	done, err := t.run(
		func(prompt []token.ID) error { return events.send(t.first(prompt)) },
		func(out engine.Output) error { return t.sendOutput(events, out) },
	)
	if err != nil {
		return err
	}
	if err := events.send(t.last(done)); err != nil {
		return err
	}
	if t.ask.IncludeUsage {
		if err := events.send(t.usageChunk(done)); err != nil {
			return err
		}
	}
	return events.done()
}

// sendOutput leaves out what adds nothing, as half a character does.
func (t *chatTurn) sendOutput(events *events, out engine.Output) error {
	if out.Text == "" && !t.ask.Logprobs && !t.ask.ReturnTokenIDs {
		return nil
	}
	choice := openai.ChunkChoice{
		Delta:    openai.Delta{Content: &out.Text},
		Logprobs: t.logprobs(),
		TokenIDs: t.ids([]token.ID{out.ID}),
	}
	t.add(choice.Logprobs, out)
	return events.send(t.chunk(choice))
}

func (t *chatTurn) first(prompt []token.ID) openai.Chunk {
	chunk := t.chunk(openai.ChunkChoice{Delta: openai.Delta{Role: "assistant", Content: new(string)}})
	chunk.PromptTokenIDs = t.ids(prompt)
	return chunk
}

func (t *chatTurn) last(done engine.Completed) openai.Chunk {
	finish := string(done.Finish)
	chunk := t.chunk(openai.ChunkChoice{FinishReason: &finish})
	chunk.Note = note(done)
	return chunk
}

func (t *chatTurn) usageChunk(done engine.Completed) openai.Chunk {
	return openai.Chunk{Head: t.head, Choices: []openai.ChunkChoice{}, Usage: usage(done).Raw()}
}

func (t *chatTurn) chunk(choice openai.ChunkChoice) openai.Chunk {
	chunk := openai.Chunk{Head: t.head, Choices: []openai.ChunkChoice{choice}}
	if t.ask.IncludeUsage {
		chunk.Usage = openai.NoUsage
	}
	return chunk
}

// ids is a copy of ids when the request asked for them, else nil.
func (t *chatTurn) ids(ids []token.ID) []token.ID {
	if !t.ask.ReturnTokenIDs {
		return nil
	}
	return append([]token.ID{}, ids...)
}

// logprobs is an empty list when the request asked for one, else nil.
func (t *chatTurn) logprobs() *openai.Logprobs {
	if !t.ask.Logprobs {
		return nil
	}
	return &openai.Logprobs{Content: []openai.TokenLogprob{}}
}

func (t *chatTurn) add(l *openai.Logprobs, out engine.Output) {
	if l == nil {
		return
	}
	entry := openai.TokenLogprob{Likely: t.likely(out.ID, out.Logprob), Top: []openai.Likely{}}
	for _, other := range out.Top {
		entry.Top = append(entry.Top, t.likely(other.ID, other.Logprob))
	}
	l.Content = append(l.Content, entry)
}

func (t *chatTurn) likely(id token.ID, logprob float64) openai.Likely {
	return openai.NewLikely(t.info.Tokenizer.Bytes(id), logprob)
}

func usage(done engine.Completed) openai.Usage {
	return openai.NewUsage(done.Usage.Prompt, done.Usage.Cached, done.Usage.Completion)
}

// note says that a turn will not survive a restart; nil when it will.
func note(done engine.Completed) *openai.Note {
	if done.PublishErr == nil {
		return nil
	}
	return &openai.Note{PublishError: "this turn could not be written to disk and will not survive a restart"}
}
