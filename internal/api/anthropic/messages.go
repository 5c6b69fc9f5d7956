package anthropic

import (
	"net/http"
	"strings"

	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/engine"
	"mneme/internal/lineage"
	"mneme/internal/token"
)

// asking is one request at the point where the model is to speak.
type asking struct {
	desk *turn.Desk
	ask  Messages
	talk *talk.Talk
}

// Create is the handler of POST /v1/messages.
func Create(d *turn.Desk, s Settings) error {
	a, err := newAsking(d, Answer, s)
	if err != nil {
		return err
	}
	t := &speech{asking: a}
	if t.markBytes, err = a.before(); err != nil {
		return err
	}
	d.Answer = "msg_" + d.NewID()
	request := d.NewTurn(a.ask.Ask)
	request.Text, request.Within = a.talk.Prompt, a.talk.Within
	if a.ask.Stream {
		return t.streamed(request)
	}
	return t.whole(request)
}

// CountTokens is the handler of POST /v1/messages/count_tokens.
func CountTokens(d *turn.Desk, s Settings) error {
	a, err := newAsking(d, Counting, s)
	if err != nil {
		return err
	}
	n, err := d.Count(a.talk.Prompt)
	if err != nil {
		return err
	}
	return d.JSON(http.StatusOK, struct {
		Input int `json:"input_tokens"`
	}{n})
}

// newAsking reads a request and renders its prompt.
func newAsking(d *turn.Desk, p Purpose, s Settings) (*asking, error) {
	d.Input = "messages"
	if err := d.NameAgent(); err != nil {
		return nil, err
	}
	body, err := d.Body()
	if err != nil {
		return nil, err
	}
	a := &asking{desk: d}
	if a.ask, err = Decode(body, p, s); err != nil {
		return nil, err
	}
	d.NameFamily(a.ask.Names)
	if err := d.CheckModel(a.ask.Model); err != nil {
		return nil, err
	}
	if len(a.ask.Stripped) > 0 {
		d.Header().Set(StrippedHeader, strings.Join(a.ask.Stripped, ", "))
	}
	if a.talk, err = d.Open(a.ask.Talk); err != nil {
		return nil, err
	}
	a.talk.Prompt += a.ask.Prefill
	return a, nil
}

// before is how many bytes of the prompt come before the last mark.
func (a *asking) before() (int, error) {
	switch a.ask.Mark.Kind {
	case MarkAtEnd:
		return len(a.talk.Prompt), nil
	case MarkInside:
		return a.desk.Before(a.ask.Talk, a.talk, a.ask.Mark.At)
	}
	return 0, nil
}

// speech is a turn and what its answer is made of.
type speech struct {
	*asking
	composer  composer
	prompt    int // tokens
	markBytes int // of the prompt's text, before the last mark
	marked    int // tokens before the last mark
	ids       []token.ID
	spoken    int // bytes of the text that the engine gave
}

// Begin implements turn.Sink.
func (t *speech) Begin(prompt []token.ID) error {
	t.prompt = len(prompt)
	if t.markBytes > 0 {
		t.marked = t.tokensBefore(prompt)
	}
	return nil
}

// tokensBefore counts the tokens that end before the last mark. Where a token
// that the text does not have stands at the beginning, all end that much later.
func (t *speech) tokensBefore(prompt []token.ID) int {
	ends := lineage.OfTokens(t.desk.Engine.Info().Tokenizer, prompt).Ends
	more := ends[len(ends)-1] - len(t.talk.Prompt)
	n := 0
	for n < len(ends) && ends[n]-more <= t.markBytes {
		n++
	}
	return n
}

// Output implements turn.Sink.
func (t *speech) Output(out engine.Output) error {
	t.ids, t.spoken = append(t.ids, out.ID), t.spoken+len(out.Text)
	return t.composer.take(t.talk.Push(out.Text)...)
}

// finish shuts the last block and says why the model stopped.
func (t *speech) finish(done engine.Completed) (End, error) {
	if err := t.composer.take(t.talk.Flush()...); err != nil {
		return End{}, err
	}
	if err := t.composer.end(); err != nil {
		return End{}, err
	}
	if t.composer.called {
		t.desk.Await()
	}
	stop := t.stopSequence(done)
	switch {
	case done.Finish == engine.FinishLength:
		return End{"max_tokens", nil}, nil
	case stop != nil:
		return End{"stop_sequence", stop}, nil
	case t.composer.called:
		return End{"tool_use", nil}, nil
	}
	return End{"end_turn", nil}, nil
}

// stopSequence is the one that ended the turn, nil if none did: what the tokens
// spell goes on with it where the engine's text ended.
func (t *speech) stopSequence(done engine.Completed) *string {
	tok := t.desk.Engine.Info().Tokenizer
	if done.Finish != engine.FinishStop || len(t.ids) == 0 || !t.ask.IgnoreEOS && tok.IsEnd(t.ids[len(t.ids)-1]) {
		return nil
	}
	rest := token.ValidText(tok.Decode(t.ids))
	rest = rest[min(t.spoken, len(rest)):]
	var first *string // of several that begin there the shortest was whole first
	for i, s := range t.ask.Stop {
		if strings.HasPrefix(rest, s) && (first == nil || len(s) < len(*first)) {
			first = &t.ask.Stop[i]
		}
	}
	return first
}

// message is the answer without its content and end.
func (t *speech) message(u Usage) Message {
	return Message{
		ID:      t.desk.Answer,
		Type:    "message",
		Role:    "assistant",
		Model:   t.desk.Engine.Info().Model,
		Content: []Block{},
		Usage:   u,

		Diagnostics: t.diagnostics(u.Read),
	}
}

// whole answers with one JSON body.
func (t *speech) whole(r engine.Request) error {
	c := &content{blocks: []Block{}}
	t.composer = composer{to: c, newID: t.desk.NewID}
	done, err := t.desk.Run(r, t)
	if err != nil {
		return err
	}
	end, err := t.finish(done)
	if err != nil {
		return err
	}
	m := t.message(newUsage(done.Usage, t.marked))
	m.Content, m.StopReason, m.StopSequence, m.Note = c.blocks, &end.StopReason, end.StopSequence, turn.NoteOf(done)
	return t.desk.JSON(http.StatusOK, m)
}
