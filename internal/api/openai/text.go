package openai

import (
	"net/http"
	"unicode/utf8"

	"mneme/internal/api/fields"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// texts is one request for legacy completions and what its answer is made of.
type texts struct {
	desk  *turn.Desk
	tok   *token.Tokenizer
	ask   Text
	head  Head
	usage engine.Usage // of the prompts that are done
	note  *turn.Note
}

// Completions is the handler of POST /v1/completions.
func Completions(d *turn.Desk) error {
	d.Input = "prompt"
	if err := d.NameAgent(); err != nil {
		return err
	}
	t, err := newTexts(d)
	if err != nil {
		return err
	}
	if t.ask.Stream {
		return t.streamed()
	}
	return t.whole()
}

func newTexts(d *turn.Desk) (*texts, error) {
	body, err := d.Body()
	if err != nil {
		return nil, err
	}
	t := &texts{desk: d, tok: d.Engine.Info().Tokenizer, head: newHead(d, "cmpl-", objectText)}
	if t.ask, err = DecodeText(body, t.tok.Size()); err != nil {
		return nil, err
	}
	if n := len(t.ask.Prompts); n > 1 && d.Agent != "" {
		return nil, wire.Invalid("prompt", "prompt must be one for a request with an agent, which remembers one text, not %d", n)
	}
	if err := d.CheckModel(t.ask.Model); err != nil {
		return nil, err
	}
	t.join()
	return t, nil
}

// join finds the agent of a text that is the request's only one.
func (t *texts) join() {
	if one := t.ask.Prompts; len(one) == 1 && one[0].Tokens == nil {
		if t.desk.NameFamily(t.ask.Names); t.desk.Family != "" {
			t.desk.Join(one[0].Text)
		}
	}
}

// whole answers with one JSON body; its choices are run one after the other.
func (t *texts) whole() error {
	answer := TextCompletion{Head: t.head, Choices: []TextChoice{}}
	for i := range t.ask.Prompts {
		p, err := t.prompt(i)
		if err != nil {
			return err
		}
		r, err := t.desk.Collect(p.request)
		if err != nil {
			return err
		}
		answer.Choices = append(answer.Choices, p.choice(r))
		if len(t.ask.Prompts) == 1 {
			answer.PromptTokenIDs = t.ask.ids(r.Prompt)
		}
		t.completed(r.Done)
	}
	answer.Usage, answer.Note = newUsage(t.usage).raw(), t.note
	return t.desk.JSON(http.StatusOK, answer)
}

// completed adds a turn up.
func (t *texts) completed(done engine.Completed) {
	t.usage.Prompt += done.Usage.Prompt
	t.usage.Cached += done.Usage.Cached
	t.usage.Completion += done.Usage.Completion
	if n := turn.NoteOf(done); n != nil {
		t.note = n
	}
}

// textTurn is the turn of one prompt.
type textTurn struct {
	*texts
	index   int
	script  script
	request engine.Request
	spoken  *token.Stream
	at      int // characters before the next generated token
}

// prompt makes the turn of prompt i. What goes wrong from here on is about it.
func (t *texts) prompt(i int) (*textTurn, error) {
	if len(t.ask.Prompts) > 1 {
		t.desk.Input = fields.Element("prompt", i)
	}
	p := &textTurn{texts: t, index: i, request: t.desk.NewTurn(t.ask.Ask), spoken: t.tok.NewStream()}
	p.request.PromptOnly = t.ask.Silent
	if t.ask.scored() {
		p.request.Score = &engine.Score{Alternatives: t.ask.Sampling.Logprobs}
	}
	if err := p.read(t.ask.Prompts[i]); err != nil {
		return nil, err
	}
	if t.ask.Echo {
		p.at = utf8.RuneCountInString(p.script.text)
	}
	return p, nil
}

// read finds out what the prompt's tokens and text are, as far as the answer has
// them. A text that is not scored is left to the engine, which may know its ids.
func (p *textTurn) read(given Prompt) (err error) {
	switch {
	case given.Tokens != nil:
		p.script = ofTokens(p.tok, given.Tokens)
	case p.ask.scored():
		p.script, err = ofText(p.tok, given.Text, p.desk.Engine.Info().Context)
	default:
		p.script = script{text: given.Text}
	}
	p.request.Text, p.request.Tokens = given.Text, p.script.tokens
	return err
}

// choice is the turn's whole answer.
func (p *textTurn) choice(r turn.Result) TextChoice {
	finish := string(r.Done.Finish)
	c := TextChoice{Text: r.Text, Index: p.index, FinishReason: &finish, TokenIDs: p.ask.ids(turn.IDs(r.Outputs))}
	if len(p.ask.Prompts) > 1 {
		c.PromptTokenIDs = p.ask.ids(r.Prompt)
	}
	if p.ask.Echo {
		c.Text = p.script.text + r.Text
	}
	if p.ask.Logprobs {
		c.Logprobs = newTextLogprobs()
		p.scores(c.Logprobs, r.Done.Prompt)
		p.outputs(c.Logprobs, r.Outputs...)
	}
	return c
}

// scores adds the prompt's tokens.
func (p *textTurn) scores(l *TextLogprobs, scores []engine.PromptToken) {
	for i, s := range scores {
		if i == 0 {
			l.unknown(spelled(p.tok, s.ID), p.script.offsets[i])
			continue
		}
		l.known(p.tok, s.ID, p.script.offsets[i], s.Logprob, s.Top)
	}
}

// outputs adds generated tokens. Those of a stop string, which is not in the
// text, stand behind its end.
func (p *textTurn) outputs(l *TextLogprobs, outputs ...engine.Output) {
	for _, out := range outputs {
		l.known(p.tok, out.ID, p.at, out.Logprob, out.Top)
		p.at += utf8.RuneCountInString(p.spoken.Push(out.ID))
	}
}
