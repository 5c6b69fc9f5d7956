// Package schedule decides who goes first: what the next step computes, who is
// admitted next, who gives way when memory runs short. All are functions of what
// they are given; blocks, clocks and the model are engine's.
package schedule

import (
	"cmp"
	"slices"
	"time"

	"mneme/internal/kv"
)

// Candidate is what is to be known of a running sequence.
type Candidate struct {
	Pending  int      // tokens without KV
	Aligned  bool     // the next of them begins a block
	Decoding bool     // only its last token has no KV
	Next     []kv.Key // keys of the full prompt blocks from its own block on
	Offset   int      // of the next token in that block
	Idle     int      // steps since it was given tokens
	Rank     Rank
}

// Rank is what a turn's claim rests on beside others'.
type Rank struct {
	Priority int     // the higher goes first
	Ahead    float64 // what its key was served beyond the least served one; see Shares
	Arrival  int64   // counted; later ones are younger
}

const (
	// MinChunk is what a step computes of prompts at least, if it may at all.
	MinChunk = 16
	// slack is how far a key may be served ahead of another before it makes a
	// difference: within it the shortest goes first.
	slack = 1024
	// patience is how often, per prompt under way, one may be passed over.
	patience = 4
)

// compare says by priority, then by what keys were served, who goes first.
func (r Rank) compare(other Rank) int {
	return cmp.Or(
		cmp.Compare(other.Priority, r.Priority),
		cmp.Compare(int(r.Ahead/slack), int(other.Ahead/slack)))
}

// Budget bounds the tokens of a step.
type Budget struct {
	Step    int // in all
	Prompts int // of prompts; with 0 none is computed
}

// prompts is what is left for prompts beside so many decoding ones.
func (b Budget) prompts(decoding int) int {
	return min(b.Prompts, max(b.Step-decoding, min(MinChunk, b.Step)))
}

// Plan gives each candidate its tokens of the next step.
//   - Decoding ones get theirs always; prompts share what is left of the budget.
//   - Of prompts the higher priority goes first, then the key that was served
//     less, then the one with the least left to compute: a short turn does not
//     wait behind a long prompt.
//   - One that was passed over for many steps, whatever its rank, gets half of
//     what is left before all others: nobody starves.
//   - One at a block's edge whose next block another computes gets none: it takes
//     that block over when it is sealed.
//
// The result lies in out's memory.
func Plan(out []int, candidates []Candidate, budget Budget) []int {
	out = append(out[:0], make([]int, len(candidates))...)
	p := plan{tokens: out, candidates: candidates, left: budget.prompts(decodes(out, candidates))}
	order := prompts(candidates)
	if len(order) == 0 || p.left == 0 {
		return out
	}
	p.claimBegun(order)
	if i := longestIdle(candidates, order); candidates[i].Idle >= patience*len(order) {
		p.give(i, max(MinChunk, p.left/2))
	}
	for _, i := range order {
		p.give(i, p.left)
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

// prompts lists the candidates that still compute their prompts, in their order.
func prompts(candidates []Candidate) (order []int) {
	for i, c := range candidates {
		if !c.Decoding && c.Pending > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := candidates[i], candidates[j]
		return cmp.Or(a.Rank.compare(b.Rank), cmp.Compare(a.Pending, b.Pending), cmp.Compare(a.Rank.Arrival, b.Rank.Arrival))
	})
	return order
}

func longestIdle(candidates []Candidate, order []int) int {
	return slices.MinFunc(order, func(i, j int) int {
		a, b := candidates[i], candidates[j]
		return cmp.Or(cmp.Compare(b.Idle, a.Idle), cmp.Compare(a.Rank.Arrival, b.Rank.Arrival))
	})
}

// plan is a step that is being planned.
type plan struct {
	tokens     []int // by candidate
	candidates []Candidate
	left       int
	claimed    map[kv.Key]int // blocks that the step computes, and for whom; nil until there is one
}

// claimBegun claims the blocks that were begun before this step.
func (p *plan) claimBegun(order []int) {
	for _, i := range order {
		if c := p.candidates[i]; c.Offset > 0 {
			p.claim(i, 1)
		}
	}
}

// give gives a candidate as many tokens as it can use, up to most.
func (p *plan) give(i, most int) {
	c := p.candidates[i]
	n := min(c.Pending-p.tokens[i], most, p.left)
	if n <= 0 || p.held(i) {
		return
	}
	p.tokens[i] += n
	p.left -= n
	p.claim(i, p.tokens[i])
}

// held says whether the candidate's next block is being computed by another.
func (p *plan) held(i int) bool {
	c := p.candidates[i]
	if !c.Aligned || len(c.Next) == 0 {
		return false
	}
	by, ok := p.claimed[c.Next[0]]
	return ok && by != i
}

// claim claims the blocks that n tokens of a candidate touch.
func (p *plan) claim(i, n int) {
	c := p.candidates[i]
	for b := 0; b < len(c.Next) && b*kv.BlockTokens < c.Offset+n; b++ {
		if p.claimed == nil {
			p.claimed = map[kv.Key]int{}
		}
		if _, taken := p.claimed[c.Next[b]]; !taken {
			p.claimed[c.Next[b]] = i
		}
	}
}

// Cost is what steps were measured to take lately.
type Cost struct {
	Decode time.Duration // of a step that only decodes; 0 when not known
	Rate   float64       // tokens of prompts per second beside it; 0 when not known
}

// untried is a chunk for a machine of which nothing is known.
const untried = 4 * MinChunk

// Prompts is how many tokens of prompts a step may compute so that it takes no
// longer than target, but MinChunk at least and step at most.
func (c Cost) Prompts(step int, target time.Duration) int {
	n := untried
	if c.Rate > 0 {
		n = int((target - c.Decode).Seconds() * c.Rate)
	}
	return min(step, max(n, MinChunk))
}

// Victim is who of several gives its blocks up when none can grow: the lowest
// priority, of these the youngest.
func Victim(running []Candidate) int {
	victim := 0
	for i, c := range running {
		v := running[victim].Rank
		if cmp.Or(cmp.Compare(c.Rank.Priority, v.Priority), cmp.Compare(v.Arrival, c.Rank.Arrival)) < 0 {
			victim = i
		}
	}
	return victim
}
