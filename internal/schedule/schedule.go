// Package schedule decides what the next step computes: a pure function of what
// is running. It leaves blocks, clocks and the model to engine.
package schedule

import "mneme/internal/kv"

// Candidate is what Plan needs to know of a sequence.
type Candidate struct {
	Pending  int      // tokens without KV
	Aligned  bool     // the next of them begins a block
	Decoding bool     // only its last token has no KV
	Next     []kv.Key // keys of the full prompt blocks from its own block on
	Offset   int      // of the next token in that block
}

// Plan gives each candidate its tokens of the next step: decoding ones get
// theirs always, then prefill chunks in order what is left of the budget, at
// least one token, so that nobody starves; none with a budget of 0. A sequence at a
// block's edge whose next block another computes in this step gets none: it
// takes that block over when it is sealed. The result lies in out's memory.
func Plan(out []int, candidates []Candidate, budget int) []int {
	out = append(out[:0], make([]int, len(candidates))...)
	left := budget - decodes(out, candidates)
	if budget > 0 {
		left = max(left, 1)
	}
	var claimed claims
	for i, c := range candidates {
		if !c.Decoding && left > 0 && !claimed.hold(c) {
			out[i] = min(c.Pending, left)
			left -= out[i]
			claimed.add(c, out[i])
		}
	}
	return out
}

// decodes gives the decoding candidates theirs and counts it.
func decodes(out []int, candidates []Candidate) (sum int) {
	for i, c := range candidates {
		if c.Decoding {
			out[i] = c.Pending
			sum += c.Pending
		}
	}
	return sum
}

// claims are the blocks that a step computes; nil until there is one.
type claims map[kv.Key]bool

// hold says whether the candidate's next block is being computed by another.
func (m claims) hold(c Candidate) bool { return c.Aligned && len(c.Next) > 0 && m[c.Next[0]] }

// add claims the blocks that n tokens of a candidate touch.
func (m *claims) add(c Candidate, n int) {
	for b := 0; b < len(c.Next) && b*kv.BlockTokens < c.Offset+n; b++ {
		if *m == nil {
			*m = claims{}
		}
		(*m)[c.Next[b]] = true
	}
}
