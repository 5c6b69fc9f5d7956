package token

import "slices"

// Boundary tells whether text may be cut at byte `at`: the ids of text read
// with ParseSpecial are those of text[:at] followed by those of text[at:].
// True at both ends and at the edges of special tokens; in plain text where the
// pre-tokenizer cuts and would cut the same without the other half.
func (t *Tokenizer) Boundary(text string, at int) bool {
	if at < 0 || at > len(text) {
		return false
	}
	f := t.fragmentAround(text, at)
	if f.isEdge(at) {
		return true
	}
	plain, ends := t.plainWords(text, f)
	i, found := slices.BinarySearch(ends, at-f.start)
	return found && t.independent(plain, ends, i)
}

// LastBoundary returns the greatest boundary that is not above `at`, which must
// lie in 0 to len(text); see Boundary.
func (t *Tokenizer) LastBoundary(text string, at int) int {
	f := t.fragmentAround(text, at)
	if f.isEdge(at) {
		return at
	}
	plain, ends := t.plainWords(text, f)
	i, found := slices.BinarySearch(ends, at-f.start)
	if !found {
		i--
	}
	for ; i >= 0; i-- {
		if t.independent(plain, ends, i) {
			return f.start + ends[i]
		}
	}
	return f.start
}

// fragmentAround returns the fragment that has `at` within it or at an edge.
func (t *Tokenizer) fragmentAround(text string, at int) fragment {
	for f := range t.control.fragments(text) {
		if at <= f.end {
			return f
		}
	}
	return fragment{start: at, end: at, id: None}
}

func (f fragment) isEdge(at int) bool { return at == f.start || at == f.end }

// plainWords returns a fragment's text and where its words end; no words for a
// special token, and none if they could not be found.
func (t *Tokenizer) plainWords(text string, f fragment) (plain string, ends []int) {
	plain = text[f.start:f.end]
	if f.id != None {
		return plain, nil
	}
	ends, err := t.words(plain)
	if err != nil {
		return plain, nil
	}
	return plain, ends
}

// independent tells whether the words of plain on both sides of ends[i] would
// be the same without the other side. They are not where a regex looks ahead:
// "a \n" ends in one run of white space, but in "a \nb" the run is cut.
func (t *Tokenizer) independent(plain string, ends []int, i int) bool {
	cut := ends[i]
	left, err := t.words(plain[:cut])
	if err != nil || !slices.Equal(left, ends[:i+1]) {
		return false
	}
	right, err := t.words(plain[cut:])
	if err != nil || len(right) != len(ends)-i-1 {
		return false
	}
	for k, end := range right {
		if cut+end != ends[i+1+k] {
			return false
		}
	}
	return true
}
