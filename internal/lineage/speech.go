package lineage

import (
	"unicode/utf8"

	"mneme/internal/sample"
	"mneme/internal/token"
)

// Speech turns generated tokens into the text that callers see: whole characters,
// no stop string and no beginning of one.
type Speech struct {
	tok     *token.Tokenizer
	text    *token.Stream
	stopper *sample.Stopper
	at      int // offset in the text
}

// NewSpeech begins at an offset in the text.
func NewSpeech(tok *token.Tokenizer, stops []string, at int) *Speech {
	return &Speech{tok: tok, text: tok.NewStream(), stopper: sample.NewStopper(stops), at: at}
}

// Say takes the next token and gives the text it sets free, where in the text
// the token ends, and whether a stop string ended the turn. An end token is not
// seen, but the template will spell it; with it, and with the last token of a
// turn, what was kept back comes out.
func (s *Speech) Say(id token.ID, end, last bool) (text string, at int, stopped bool) {
	if end {
		s.at += len(s.tok.Bytes(id))
	} else {
		spelled := s.text.Push(id)
		s.at += len(spelled)
		text, stopped = s.stopper.Push(spelled)
	}
	if !stopped && (end || last) {
		more := ""
		more, stopped = s.flush()
		text += more
	}
	return text, s.at, stopped
}

// flush gives what half a character and a possible stop string kept back.
func (s *Speech) flush() (text string, stopped bool) {
	if s.text.Holding() {
		s.at += len(string(utf8.RuneError))
	}
	if text, stopped = s.stopper.Push(s.text.Flush()); stopped {
		return text, true
	}
	return text + s.stopper.Flush(), false
}
