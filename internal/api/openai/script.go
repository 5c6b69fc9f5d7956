package openai

import (
	"unicode/utf8"

	"mneme/internal/engine"
	"mneme/internal/token"
)

// script is what a choice's text begins with, and where in it the prompt's
// tokens stand.
type script struct {
	tokens  []token.ID // nil when the engine is to read the text
	text    string     // as it was given, or as the ids spell it
	offsets []int      // characters before each token; only with tokens
}

// ofTokens is the script of ids that came without a text.
func ofTokens(tok *token.Tokenizer, ids []token.ID) script {
	s := script{tokens: ids, text: token.ValidText(tok.Decode(ids))}
	at, spoken := 0, tok.NewStream()
	for _, id := range ids {
		s.offsets = append(s.offsets, at)
		at += utf8.RuneCountInString(spoken.Push(id))
	}
	return s
}

// ofText reads a text as if it had never been seen, so that its score does not
// depend on what has. One that cannot fit the context is refused unread.
func ofText(tok *token.Tokenizer, text string, context int) (script, error) {
	if least := len(text) / tok.LongestToken(); least > context {
		return script{}, &engine.ContextError{Tokens: least, Context: context, AtLeast: true}
	}
	pieces, err := tok.Encode(text, token.Options{AddSpecial: true, ParseSpecial: true})
	if err != nil {
		return script{}, &engine.InputError{Field: "prompt", Problem: err.Error()}
	}
	s := script{tokens: []token.ID{}, text: text}
	at, from := 0, 0
	for _, p := range pieces {
		s.tokens, s.offsets = append(s.tokens, p.ID), append(s.offsets, at)
		for from < p.End { // a character counts once its last byte has come
			_, n := utf8.DecodeRuneInString(text[from:])
			if from+n > p.End {
				break
			}
			at, from = at+1, from+n
		}
	}
	return s, nil
}
