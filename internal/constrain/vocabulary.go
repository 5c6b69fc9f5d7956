package constrain

import (
	"bytes"
	"cmp"
	"slices"

	"mneme/internal/token"
)

// Vocabulary is a tokenizer's tokens in the order of their bytes, which lets a
// mask be made in one walk.
type Vocabulary struct {
	tokens *token.Tokenizer
	sorted []spelled
	ends   []token.ID
	words  int // of a mask
}

// spelled is a token that stands for text.
type spelled struct {
	id     token.ID
	shared int // leading bytes that it has in common with the one before
	bytes  []byte
}

// NewVocabulary sorts a tokenizer's tokens. It may be used by several machines
// and goroutines.
func NewVocabulary(t *token.Tokenizer) *Vocabulary {
	v := &Vocabulary{tokens: t, ends: t.Ends(), words: (t.Size() + 63) / 64}
	for id := range token.ID(t.Size()) {
		if b := v.spelling(id); len(b) > 0 && !t.IsEnd(id) {
			v.sorted = append(v.sorted, spelled{id: id, bytes: b})
		}
	}
	slices.SortFunc(v.sorted, func(a, b spelled) int {
		return cmp.Or(bytes.Compare(a.bytes, b.bytes), cmp.Compare(a.id, b.id))
	})
	for i := range v.sorted[1:] {
		v.sorted[i+1].shared = commonPrefix(v.sorted[i].bytes, v.sorted[i+1].bytes)
	}
	return v
}

// spelling is what a grammar sees of a token.
func (v *Vocabulary) spelling(id token.ID) []byte {
	b := v.tokens.Bytes(id)
	if v.tokens.IsSpecial(id) && len(b) > 0 {
		return append([]byte{specialByte}, b...)
	}
	return b
}

// Markup is a text in which special tokens are meant as such.
func (v *Vocabulary) Markup(text string) (*Node, error) {
	pieces, err := v.tokens.Encode(text, token.Options{ParseSpecial: true})
	if err != nil {
		return nil, err
	}
	var parts []*Node
	from := 0
	for _, p := range pieces {
		if s := text[from:p.End]; v.tokens.IsSpecial(p.ID) {
			parts = append(parts, Special(s))
		} else {
			parts = append(parts, Text(s))
		}
		from = p.End
	}
	return Seq(append(parts, Text(text[from:]))...), nil
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// mask gives the tokens that may follow a state, a bit for each id: those whose
// bytes lead somewhere, and the end tokens where the output may end.
func (v *Vocabulary) mask(m *Machine, s *state) []uint64 {
	if s.mask != nil {
		return s.mask
	}
	mask := make([]uint64, v.words)
	if s == dead { // which all machines share
		return mask
	}
	at := []*state{s} // after each leading byte of the token before
	for i := range v.sorted {
		t := &v.sorted[i]
		if t.shared >= len(at) { // it goes on where a way had ended
			continue
		}
		at = at[:t.shared+1]
		for _, b := range t.bytes[t.shared:] {
			next := m.step(at[len(at)-1], b)
			if next == dead {
				break
			}
			at = append(at, next)
		}
		if len(at) == len(t.bytes)+1 {
			mask[t.id>>6] |= 1 << (t.id & 63)
		}
	}
	if s.accepts {
		for _, id := range v.ends {
			mask[id>>6] |= 1 << (id & 63)
		}
	}
	s.mask = mask
	return mask
}
