package token

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

// appendWord appends the tokens of a word that begins at byte `at` of its text.
func (t *Tokenizer) appendWord(pieces []Piece, word string, at int) []Piece {
	tokens, ok := t.cache.get(word)
	if !ok {
		tokens = t.mergeWord(word)
		t.cache.put(word, tokens)
	}
	for _, p := range tokens {
		pieces = append(pieces, Piece{ID: p.ID, End: at + p.End})
	}
	return pieces
}

// mergeWord applies the merges to the bytes of a word, best first.
func (t *Tokenizer) mergeWord(word string) []Piece {
	m := t.mergers.Get().(*merger)
	defer t.mergers.Put(m)
	m.load(word, &t.byteIDs)
	for i := range m.symbols {
		m.offer(t.merges, int32(i))
	}
	for len(m.heap) > 0 {
		m.apply(t.merges, m.pop())
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
