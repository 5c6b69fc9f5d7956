package token

import "iter"

// fragment is a stretch of a text: one special token, or plain text between
// two of them.
type fragment struct {
	start, end int
	id         ID // None for plain text
}

// trie finds special tokens in text, leftmost first, the longest at each place.
type trie struct {
	nodes []trieNode
}

type trieNode struct {
	next map[byte]int32
	id   ID // the token that ends here, or None
}

func newTrie() *trie {
	return &trie{nodes: []trieNode{{id: None}}}
}

// add enters a token; an empty text is nothing to look for, and the first of
// two equal texts counts.
func (t *trie) add(text string, id ID) {
	if text == "" {
		return
	}
	at := int32(0)
	for i := range len(text) {
		next, ok := t.nodes[at].next[text[i]]
		if !ok {
			next = t.grow(at, text[i])
		}
		at = next
	}
	if t.nodes[at].id == None {
		t.nodes[at].id = id
	}
}

func (t *trie) grow(at int32, b byte) int32 {
	if t.nodes[at].next == nil {
		t.nodes[at].next = map[byte]int32{}
	}
	next := int32(len(t.nodes))
	t.nodes[at].next[b] = next
	t.nodes = append(t.nodes, trieNode{id: None})
	return next
}

// match returns the longest token that text begins with, and its length.
func (t *trie) match(text string) (ID, int) {
	id, length := None, 0
	at := int32(0)
	for i := range len(text) {
		next, ok := t.nodes[at].next[text[i]]
		if !ok {
			break
		}
		if at = next; t.nodes[at].id != None {
			id, length = t.nodes[at].id, i+1
		}
	}
	return id, length
}

// fragments cuts text into special tokens and the plain text around them, in
// order and without gaps.
func (t *trie) fragments(text string) iter.Seq[fragment] {
	return func(yield func(fragment) bool) {
		start := 0
		for at := 0; at < len(text); at++ {
			id, n := t.match(text[at:])
			if id == None {
				continue
			}
			if at > start && !yield(fragment{start, at, None}) {
				return
			}
			if !yield(fragment{at, at + n, id}) {
				return
			}
			start = at + n
			at = start - 1
		}
		if start < len(text) {
			yield(fragment{start, len(text), None})
		}
	}
}
