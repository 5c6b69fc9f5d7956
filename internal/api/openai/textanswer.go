package openai

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"mneme/internal/api/turn"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// TextCompletion is a legacy completion, whole or a piece of a streamed one.
type TextCompletion struct {
	Head
	Choices        []TextChoice    `json:"choices"` // one for each prompt; none in the piece with the usage
	Usage          json.RawMessage `json:"usage,omitzero"`
	PromptTokenIDs []token.ID      `json:"prompt_token_ids,omitzero"` // of the only prompt
	Note           *turn.Note      `json:"mneme,omitempty"`
}

// TextChoice is how one prompt goes on, or a piece of that.
type TextChoice struct {
	Text           string        `json:"text"`
	Index          int           `json:"index"`
	Logprobs       *TextLogprobs `json:"logprobs"`
	FinishReason   *string       `json:"finish_reason"`
	TokenIDs       []token.ID    `json:"token_ids,omitzero"`
	PromptTokenIDs []token.ID    `json:"prompt_token_ids,omitzero"` // when there are several prompts
}

// TextLogprobs has an element for each token, in four lists. Of a prompt's first
// token nothing is known: null.
type TextLogprobs struct {
	Tokens   []string             `json:"tokens"`
	Logprobs []*float64           `json:"token_logprobs"`
	Top      []map[string]float64 `json:"top_logprobs"` // the token itself is always among them
	Offsets  []int                `json:"text_offset"`  // characters of the choice's text before the token
}

func newTextLogprobs() *TextLogprobs {
	return &TextLogprobs{Tokens: []string{}, Logprobs: []*float64{}, Top: []map[string]float64{}, Offsets: []int{}}
}

// unknown adds a token of which nothing is known.
func (l *TextLogprobs) unknown(spelled string, offset int) {
	l.Tokens, l.Offsets = append(l.Tokens, spelled), append(l.Offsets, offset)
	l.Logprobs, l.Top = append(l.Logprobs, nil), append(l.Top, nil)
}

// known adds a token and the likeliest ones in its place.
func (l *TextLogprobs) known(tok *token.Tokenizer, id token.ID, offset int, logprob float64, top []sample.Alternative) {
	logprob = max(logprob, leastLogprob)
	others := make(map[string]float64, len(top)+1)
	for _, other := range top {
		others[spelled(tok, other.ID)] = max(other.Logprob, leastLogprob)
	}
	l.Tokens, l.Offsets = append(l.Tokens, spelled(tok, id)), append(l.Offsets, offset)
	others[spelled(tok, id)] = logprob
	l.Logprobs, l.Top = append(l.Logprobs, &logprob), append(l.Top, others)
}

// spelled is a token's text; bytes that are no characters are spelled as the
// vendor does, so that no two tokens look alike: bytes:\xc3.
func spelled(tok *token.Tokenizer, id token.ID) string {
	text := tok.Bytes(id)
	if utf8.Valid(text) {
		return string(text)
	}
	var b strings.Builder
	b.WriteString("bytes:")
	for _, c := range text {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}
