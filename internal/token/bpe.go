package token

import (
	"fmt"
	"sync"
)

// pair is two neighbouring tokens.
type pair struct{ left, right ID }

// merge is what a pair becomes; a lower rank goes first.
type merge struct {
	rank uint32
	id   ID
}

// symbol is a token of a word while it is merged: a node of a doubly linked
// list over an array.
type symbol struct {
	id         ID    // None once merged into its left neighbour
	end        int32 // byte offset in the word
	prev, next int32 // places in the list, -1 at its ends
}

// merger holds the working memory for one word.
//   - Symbols stay where they were put; merged ones are unlinked.
//   - The heap holds a candidate (rank, place of the left symbol) as
//     rank<<32 | place, least first: best merge, leftmost of equals. A
//     candidate whose pair has changed since is recognised by its rank.
type merger struct {
	symbols []symbol
	heap    []uint64
}

// bpe is byte-level BPE.
type bpe struct {
	byteIDs [256]ID // the token of each single byte, or None
	merges  map[pair]merge
	whole   map[string]ID // words that are a token before any merge, by their bytes; often nil
	split   splitter
	mergers sync.Pool // of *merger
}

func newBPE(v Vocab, spelled [][]byte) (*bpe, error) {
	pre, err := preTokenizerOf(v.Pre)
	if err != nil {
		return nil, err
	}
	b := &bpe{}
	b.mergers.New = func() any { return new(merger) }
	if b.split, err = newSplitter(pre); err != nil {
		return nil, fmt.Errorf("pre-tokenizer %q: %w", v.Pre, err)
	}
	ids := v.ids()
	b.byteIDs = byteTokens(ids)
	if pre.wholeWords {
		b.whole = wholeWords(v.types(), spelled)
	}
	b.merges, err = parseMerges(v.Merges, ids)
	return b, err
}

// wholeWords maps the bytes of normal tokens to them; the first of two equal ones counts.
func wholeWords(types []int32, spelled [][]byte) map[string]ID {
	whole := make(map[string]ID, len(spelled))
	for i, bytes := range spelled {
		if _, taken := whole[string(bytes)]; !taken && types[i] == typeNormal {
			whole[string(bytes)] = ID(i)
		}
	}
	return whole
}

func (b *bpe) words(text string) ([]int, error) { return b.split.split(text) }

// encode applies the merges to the bytes of a word, best first.
func (b *bpe) encode(word string) []Piece {
	if id, ok := b.whole[word]; ok {
		return []Piece{{ID: id, End: len(word)}}
	}
	m := b.mergers.Get().(*merger)
	defer b.mergers.Put(m)
	m.load(word, &b.byteIDs)
	for i := range m.symbols {
		m.offer(b.merges, int32(i))
	}
	for len(m.heap) > 0 {
		m.apply(b.merges, m.pop())
	}
	return m.tokens()
}

// load sets up one symbol per byte that has a token.
func (m *merger) load(word string, byteIDs *[256]ID) {
	m.symbols, m.heap = m.symbols[:0], m.heap[:0]
	for i := range len(word) {
		id := byteIDs[word[i]]
		if id == None {
			continue
		}
		n := int32(len(m.symbols))
		m.symbols = append(m.symbols, symbol{id: id, end: int32(i + 1), prev: n - 1, next: n + 1})
	}
	if n := len(m.symbols); n > 0 {
		m.symbols[n-1].next = -1
	}
}

// mergeAt looks up the merge of the symbol at place i with its right neighbour.
func (m *merger) mergeAt(merges map[pair]merge, i int32) (merge, bool) {
	if i < 0 || m.symbols[i].id == None || m.symbols[i].next < 0 {
		return merge{}, false
	}
	s := m.symbols[i]
	found, ok := merges[pair{s.id, m.symbols[s.next].id}]
	return found, ok
}

// offer makes the pair at place i a candidate if it can merge.
func (m *merger) offer(merges map[pair]merge, i int32) {
	if found, ok := m.mergeAt(merges, i); ok {
		m.push(uint64(found.rank)<<32 | uint64(uint32(i)))
	}
}

// apply merges a candidate unless it is stale, and offers its new neighbours.
func (m *merger) apply(merges map[pair]merge, candidate uint64) {
	i := int32(uint32(candidate))
	found, ok := m.mergeAt(merges, i)
	if !ok || found.rank != uint32(candidate>>32) {
		return
	}
	s := &m.symbols[i]
	right := &m.symbols[s.next]
	s.id, s.end, s.next = found.id, right.end, right.next
	right.id = None
	if s.next >= 0 {
		m.symbols[s.next].prev = i
	}
	m.offer(merges, s.prev)
	m.offer(merges, i)
}

// tokens lists what is left.
func (m *merger) tokens() []Piece {
	var pieces []Piece
	for _, s := range m.symbols {
		if s.id != None {
			pieces = append(pieces, Piece{ID: s.id, End: int(s.end)})
		}
	}
	return pieces
}

func (m *merger) push(candidate uint64) {
	m.heap = append(m.heap, candidate)
	h := m.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up] <= h[i] {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (m *merger) pop() uint64 {
	h := m.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	m.heap = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child] < h[least] {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	return top
}
