package token

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// matchTimeout bounds the search for one word. Ordinary words take
// microseconds; a word of several megabytes takes well under a second.
const matchTimeout = 10 * time.Second

const (
	gpt2Words = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

	// Words of the GPT-4 kind, in front of and behind the rule for digits.
	gpt4Letters = `'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|`
	gpt4Rest    = `| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizer is what comes before the merges.
type preTokenizer struct {
	exprs      []string // each cuts every piece that the one before it left; a match is a piece, and so is what lies between two
	wholeWords bool     // a word that is a token is not merged
	addBOS     bool     // what a file means that does not say
}

// preTokenizers lists them by tokenizer.ggml.pre. None of them normalises: files
// do not tell of it, so "é" in two code points stays two, where the publisher's
// own software for qwen2 would make it one (NFC).
var preTokenizers = map[string]preTokenizer{
	"gpt-2":     {exprs: []string{gpt2Words}},
	"smollm":    {exprs: []string{`\p{N}`, gpt2Words}}, // every digit is a word
	"qwen2":     {exprs: []string{gpt4Letters + `\p{N}` + gpt4Rest}},
	"llama-bpe": {exprs: []string{gpt4Letters + `\p{N}{1,3}` + gpt4Rest}, wholeWords: true, addBOS: true},
}

func preTokenizerOf(name string) (preTokenizer, error) {
	p, ok := preTokenizers[name]
	if !ok {
		known := slices.Sorted(maps.Keys(preTokenizers))
		return p, fmt.Errorf("pre-tokenizer %q is not supported (supported: %s)", name, strings.Join(known, ", "))
	}
	return p, nil
}

// splitter cuts text into the words that BPE works on.
type splitter []*regexp2.Regexp

func newSplitter(pre preTokenizer) (splitter, error) {
	var s splitter
	for _, expr := range pre.exprs {
		re, err := regexp2.Compile(expr)
		if err != nil {
			return nil, err
		}
		re.MatchTimeout = matchTimeout
		s = append(s, re)
	}
	return s, nil
}

// split returns the byte offset after each word of text; the last is
// len(text). A byte that is not part of valid UTF-8 counts as one U+FFFD.
func (s splitter) split(text string) (ends []int, err error) {
	if text == "" {
		return nil, nil
	}
	runes := []rune(text)
	ends = []int{len(runes)}
	for _, re := range s {
		if ends, err = cutPieces(re, runes, ends); err != nil {
			return nil, err
		}
	}
	runesToBytes(text, ends)
	return ends, nil
}

// cutPieces cuts each of the pieces that end at ends; all counted in runes.
func cutPieces(re *regexp2.Regexp, runes []rune, ends []int) ([]int, error) {
	out := make([]int, 0, len(runes)/4+1)
	from := 0
	for _, to := range ends {
		var err error
		if out, err = cutPiece(re, runes, from, to, out); err != nil {
			return nil, err
		}
		from = to
	}
	return out, nil
}

// cutPiece appends the ends of the words of runes[from:to].
func cutPiece(re *regexp2.Regexp, runes []rune, from, to int, out []int) ([]int, error) {
	last := from
	cut := func(at int) {
		if at > last {
			out = append(out, at)
			last = at
		}
	}
	err := re.FindRunesMatches(runes[from:to], 0, func(m regexp2.MatchView) bool {
		at, n, _ := m.GroupRange(0)
		cut(from + at)
		cut(from + at + n)
		return true
	})
	if err != nil { // its text holds the whole input
		return nil, fmt.Errorf("a word at character %d of %d took longer than %v to find", last, len(runes), matchTimeout)
	}
	cut(to)
	return out, nil
}

// runesToBytes turns ascending rune offsets of text into byte offsets.
func runesToBytes(text string, offsets []int) {
	runes, bytes := 0, 0
	for i, want := range offsets {
		for ; runes < want; runes++ {
			_, n := utf8.DecodeRuneInString(text[bytes:])
			bytes += n
		}
		offsets[i] = bytes
	}
}
