package engine

import "mneme/internal/kv"

// candidate is what schedule needs to know of a sequence.
type candidate struct {
	pending  int      // tokens without KV
	aligned  bool     // the next of them begins a block
	decoding bool     // only its last token has no KV
	next     []kv.Key // keys of the full prompt blocks from its own block on
	offset   int      // of the next token in that block
}

// schedule gives each candidate its tokens of the next step: decoding ones get
// theirs always, then prefill chunks in order what is left of the budget, at
// least one token, so that nobody starves; none with a budget of 0. A sequence at a
// block's edge whose next block another computes in this step gets none: it
// takes that block over when it is sealed. The result lies in out's memory.
func schedule(out []int, candidates []candidate, budget int) []int {
	out = append(out[:0], make([]int, len(candidates))...)
	left := budget
	for i, c := range candidates {
		if c.decoding {
			out[i] = c.pending
			left -= out[i]
		}
	}
	if budget > 0 {
		left = max(left, 1)
	}
	var claimed map[kv.Key]bool // made when there is something to claim
	for i, c := range candidates {
		if c.decoding || left <= 0 || c.aligned && len(c.next) > 0 && claimed[c.next[0]] {
			continue
		}
		out[i] = min(c.pending, left)
		left -= out[i]
		for b := 0; b < len(c.next) && b*kv.BlockTokens < c.offset+out[i]; b++ {
			if claimed == nil {
				claimed = map[kv.Key]bool{}
			}
			claimed[c.next[b]] = true
		}
	}
	return out
}
