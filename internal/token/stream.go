package token

import (
	"unicode/utf8"
	"unsafe"
)

// Stream turns generated tokens into text as they come.
//   - It never emits a part of a character: the beginning of one is held until
//     the rest of it comes.
//   - Bytes that cannot become a character come out as U+FFFD at once.
//   - All it emits, one after the other, is ValidText(Decode(ids)).
type Stream struct {
	tokens *Tokenizer
	held   []byte // the beginning of a character
}

// NewStream starts a text.
func (t *Tokenizer) NewStream() *Stream { return &Stream{tokens: t} }

// Push takes the next token and returns the text that it completes.
func (s *Stream) Push(id ID) string {
	if whole := s.tokens.Bytes(id); len(s.held) == 0 && utf8.Valid(whole) {
		return unsafe.String(unsafe.SliceData(whole), len(whole)) // the vocabulary never changes
	}
	s.held = append(s.held, s.tokens.Bytes(id)...)
	if utf8.Valid(s.held) {
		text := string(s.held)
		s.held = s.held[:0]
		return text
	}
	text, rest := appendValid(nil, s.held)
	s.held = append(s.held[:0], rest...)
	return string(text)
}

// Holding says whether the beginning of a character is held.
func (s *Stream) Holding() bool { return len(s.held) > 0 }

// Flush ends the text: a beginning of a character that is still held comes out
// as one U+FFFD.
func (s *Stream) Flush() string {
	if len(s.held) == 0 {
		return ""
	}
	s.held = s.held[:0]
	return string(utf8.RuneError)
}
