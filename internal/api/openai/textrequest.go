package openai

import (
	"encoding/json"
	"strconv"

	"mneme/internal/api/fields"
	"mneme/internal/api/openai/ask"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/token"
)

const (
	defaultTextTokens = 16 // generated, as the vendor has it
	maxPrompts        = 128
)

// Text is a decoded POST /v1/completions.
type Text struct {
	turn.Ask
	Form
	Model    string // "" when omitted
	Names    wire.Names
	Prompts  []Prompt
	Echo     bool // the answer begins with the prompt
	Silent   bool // max_tokens is 0: nothing is generated
	Logprobs bool // Sampling.Logprobs has how many others
}

// Prompt is text, or ids when they are not nil.
type Prompt struct {
	Text   string
	Tokens []token.ID
}

// scored says whether the prompts' own logprobs are in the answer.
func (t *Text) scored() bool { return t.Echo && t.Logprobs }

// DecodeText reads a request for a legacy completion of a model with vocab
// tokens. Every error is a *fields.Error.
func DecodeText(body []byte, vocab int) (Text, error) {
	o, err := fields.Parse(body)
	if err != nil {
		return Text{}, err
	}
	t := Text{
		Ask:      ask.Turn(o, vocab),
		Form:     form(o),
		Model:    o.Text("model", ""),
		Names:    ask.Names(o),
		Prompts:  prompts(o, vocab),
		Echo:     o.Bool("echo", false),
		Logprobs: o.Has("logprobs"),
	}
	t.MaxTokens = int(o.Int("max_tokens", defaultTextTokens, 0, ask.MaxInt))
	t.Silent = t.MaxTokens == 0
	t.Sampling.Logprobs = int(o.Int("logprobs", -1, 0, ask.MaxTopLogprobs))
	onlyOne(o, "n")
	onlyOne(o, "best_of")
	if o.Text("suffix", "") != "" {
		o.Refuse("suffix", "must be absent or empty: this version continues a text, it fills no gaps")
	}
	if err := o.Err(); err != nil {
		return Text{}, err
	}
	return t, ask.Checked(t.Sampling)
}

// prompts reads a text, the ids of one, or a list of these.
func prompts(o *fields.Object, vocab int) []Prompt {
	list, isList := o.Value("prompt").([]any)
	switch {
	case !o.Has("prompt"):
		o.Require("prompt")
		return nil
	case !isList:
		return []Prompt{prompt(o, "prompt", o.Value("prompt"), vocab)}
	case len(list) == 0:
		o.Refuse("prompt", "must hold at least one prompt or token id")
		return nil
	}
	if _, ids := list[0].(json.Number); ids {
		return []Prompt{prompt(o, "prompt", list, vocab)}
	}
	if len(list) > maxPrompts {
		o.Refuse("prompt", "may hold at most "+strconv.Itoa(maxPrompts)+" prompts, not "+strconv.Itoa(len(list)))
		return nil
	}
	prompts := make([]Prompt, len(list))
	for i, v := range list {
		prompts[i] = prompt(o, fields.Element("prompt", i), v, vocab)
	}
	return prompts
}

// prompt reads v, found at path, as a text or a list of ids.
func prompt(o *fields.Object, path string, v any, vocab int) Prompt {
	switch v := v.(type) {
	case string:
		return Prompt{Text: v}
	case []any:
		ids := make([]token.ID, len(v))
		for i, n := range o.IntsOf(path, v, 0, int64(vocab-1)) {
			ids[i] = token.ID(n)
		}
		return Prompt{Tokens: ids}
	}
	o.Refuse(path, "must be a string or a list of token ids, not "+fields.KindOf(v))
	return Prompt{}
}
