package source

import (
	"slices"
	"strings"
)

type lexKind byte

const (
	symbol lexKind = iota // operators and brackets
	name                  // keywords too
	number
	quoted
)

// lexeme is a word of a tag, as the engine reads it.
type lexeme struct {
	kind lexKind
	text string
}

func (l lexeme) is(text string) bool { return l.kind != quoted && l.text == text }

// lex cuts the body of a tag. What the engine skips is not in it, white space
// or other: "|\x11 join" is a filter.
func lex(body string) []lexeme {
	var all []lexeme
	for len(body) > 0 {
		l := firstLexeme(body)
		body = body[len(l.text):]
		if l.kind != symbol || len(l.text) > 1 || strings.Contains(singles, l.text) {
			all = append(all, l)
		}
	}
	return all
}

// singles are the operators and brackets of one character.
const singles = ",.:()[]{}|~+-*/%<>="

// pairs are the operators of two characters.
var pairs = []string{"**", "//", "==", "!=", "<=", ">="}

func firstLexeme(s string) lexeme {
	switch c := s[0]; {
	case c == '\'' || c == '"':
		return lexeme{quoted, s[:quotedLen(s)]}
	case isDigit(c):
		return lexeme{number, s[:numberLen(s)]}
	case isNameByte(c):
		return lexeme{name, s[:runOf(s, isNameByte)]}
	case len(s) > 1 && slices.Contains(pairs, s[:2]):
		return lexeme{symbol, s[:2]}
	}
	return lexeme{symbol, s[:1]}
}

// numberLen is the length of the number that s begins with: 12, 1.5, 1.5e-3.
func numberLen(s string) int {
	n := runOf(s, isDigit)
	if n+1 >= len(s) || s[n] != '.' || !isDigit(s[n+1]) {
		return n
	}
	n += 1 + runOf(s[n+1:], isDigit)
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		n++
		if n < len(s) && (s[n] == '+' || s[n] == '-') {
			n++
		}
		n += runOf(s[n:], isDigit)
	}
	return n
}

func runOf(s string, belongs func(byte) bool) int {
	n := 0
	for n < len(s) && belongs(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c)
}

// spell puts lexemes together again; the engine does not mind the spaces.
func spell(ls []lexeme) string {
	words := make([]string, len(ls))
	for i, l := range ls {
		words[i] = l.text
	}
	return strings.Join(words, " ")
}

// symbols are lexemes of their own by the fields of text.
func symbols(text string) []lexeme {
	var ls []lexeme
	for _, word := range strings.Fields(text) {
		ls = append(ls, firstLexeme(word))
	}
	return ls
}

func isOpener(l lexeme) bool { return l.is("(") || l.is("[") || l.is("{") }
func isCloser(l lexeme) bool { return l.is(")") || l.is("]") || l.is("}") }

// find returns the place of the first lexeme with this text outside of brackets, or -1.
func find(ls []lexeme, text string) int {
	depth := 0
	for i, l := range ls {
		switch {
		case depth == 0 && l.is(text):
			return i
		case isOpener(l):
			depth++
		case isCloser(l):
			depth--
		}
	}
	return -1
}

// closing returns the place behind the bracket that closes the one at i.
func closing(ls []lexeme, i int) int {
	depth := 0
	for ; i < len(ls); i++ {
		if isOpener(ls[i]) {
			depth++
		}
		if isCloser(ls[i]) {
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(ls)
}

// opening returns the place of the bracket that the one at i closes.
func opening(ls []lexeme, i int) int {
	depth := 0
	for ; i > 0; i-- {
		if isCloser(ls[i]) {
			depth++
		}
		if isOpener(ls[i]) {
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return 0
}
