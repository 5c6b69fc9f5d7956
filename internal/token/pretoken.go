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

const gpt2Words = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// preTokenizers lists, by tokenizer.ggml.pre, the regexes that cut a text into
// words. Each cuts every piece that the one before it left; a match is a piece,
// and so is what lies between two matches.
var preTokenizers = map[string][]string{
	"gpt-2":  {gpt2Words},
	"smollm": {`\p{N}`, gpt2Words}, // every digit is a word
}

// splitter cuts text into the words that BPE works on.
type splitter []*regexp2.Regexp

func newSplitter(pre string) (splitter, error) {
	exprs, ok := preTokenizers[pre]
	if !ok {
		known := slices.Sorted(maps.Keys(preTokenizers))
		return nil, fmt.Errorf("pre-tokenizer %q is not supported (supported: %s)", pre, strings.Join(known, ", "))
	}
	var s splitter
	for _, expr := range exprs {
		re, err := regexp2.Compile(expr)
		if err != nil {
			return nil, fmt.Errorf("pre-tokenizer %q: %w", pre, err)
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
