package token

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	sentencepiece "github.com/eliben/go-sentencepiece"
)

// lowerBlock stands for a space in SentencePiece vocabularies.
const lowerBlock = "\u2581"

// spm is SentencePiece BPE with byte fallback: characters are merged, highest
// score first; one that is in no token becomes its bytes.
type spm struct {
	processor *sentencepiece.Processor
	types     []int32
	prefix    bool // a space goes in front of every plain text
	glued     map[rune]bool
}

func newSPM(v Vocab, types []int32) (*spm, error) {
	if len(v.Scores) != len(v.Tokens) {
		return nil, fmt.Errorf("vocabulary has %d tokens but %d scores", len(v.Tokens), len(v.Scores))
	}
	for i, score := range v.Scores {
		if math.IsNaN(float64(score)) {
			return nil, fmt.Errorf("score of token %d is not a number", i)
		}
	}
	processor, err := sentencepiece.NewProcessor(bytes.NewReader(modelProto(v, types)))
	if err != nil {
		return nil, errors.New("SentencePiece: " + err.Error())
	}
	return &spm{processor: processor, types: types, prefix: v.AddSpacePrefix, glued: gluedRunes(v.Tokens, types)}, nil
}

// gluedRunes are the characters that some token has in front of a space. Behind
// any other, no merge goes across the beginning of a word.
func gluedRunes(tokens []string, types []int32) map[rune]bool {
	glued := map[rune]bool{}
	for i, text := range tokens {
		if !merges(types[i]) {
			continue
		}
		for at := 0; ; {
			next := strings.Index(text[at:], lowerBlock)
			if next < 0 {
				break
			}
			if at += next; at > 0 {
				r, _ := utf8.DecodeLastRuneInString(text[:at])
				glued[r] = true
			}
			at += len(lowerBlock)
		}
	}
	return glued
}

// merges tells whether tokens of a type come about by merging.
func merges(kind int32) bool { return kind == typeNormal || kind == typeUnused }

// words cuts text in front of spaces that nothing can be merged across. With a
// space prefix it is one: a half of it would get a prefix of its own.
func (s *spm) words(text string) (ends []int, err error) {
	previous := rune(0)
	for at, r := range text {
		if r == '\u2581' {
			r = ' '
		}
		if r == ' ' && at > 0 && !s.prefix && !s.glued[previous] {
			ends = append(ends, at)
		}
		if previous = r; r == ' ' {
			previous = '\u2581'
		}
	}
	if text != "" {
		ends = append(ends, len(text))
	}
	return ends, nil
}

func (s *spm) encode(word string) []Piece {
	skip := 0
	if s.prefix {
		word, skip = " "+word, 1
	}
	w := walk{text: word}
	tokens := s.processor.Encode(word)
	pieces := make([]Piece, 0, len(tokens))
	for _, t := range tokens {
		pieces = append(pieces, Piece{ID: ID(t.ID), End: max(w.over(s.taken(t))-skip, 0)})
	}
	return pieces
}

// taken is how many bytes of the text a token takes, spaces counted as U+2581.
func (s *spm) taken(t sentencepiece.Token) int {
	if s.types[t.ID] == typeByte {
		return 1
	}
	return len(t.Text)
}

// walk goes through a text by bytes that count a space as the three of U+2581.
type walk struct {
	text string
	at   int // bytes gone through
	part int // of the space at `at`: 0 to 2
}

// over goes n bytes on and returns where it is.
func (w *walk) over(n int) int {
	for ; n > 0 && w.at < len(w.text); n-- {
		if w.text[w.at] == ' ' && w.part < len(lowerBlock)-1 {
			w.part++
			continue
		}
		w.part = 0
		w.at++
	}
	return w.at
}

// spmSpellings returns the bytes of each token.
func spmSpellings(tokens []string, types []int32) [][]byte {
	spelled := make([][]byte, len(tokens))
	for i, text := range tokens {
		b, isByte := byteValue(text)
		switch {
		case types[i] == typeByte && isByte:
			spelled[i] = []byte{b}
		case merges(types[i]):
			spelled[i] = []byte(strings.ReplaceAll(text, lowerBlock, " "))
		default:
			spelled[i] = []byte(text)
		}
	}
	return spelled
}

// byteValue reads "<0x0A>".
func byteValue(text string) (byte, bool) {
	hex, ok := strings.CutPrefix(text, "<0x")
	hex, closed := strings.CutSuffix(hex, ">")
	if !ok || !closed || len(hex) != 2 {
		return 0, false
	}
	b, err := strconv.ParseUint(hex, 16, 8)
	return byte(b), err == nil
}
