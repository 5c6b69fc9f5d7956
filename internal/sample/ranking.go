package sample

import (
	"math"

	"mneme/internal/token"
)

// candidate is a token that can be drawn.
type candidate struct {
	id    token.ID
	value float64 // (logit - greatest logit) / temperature, so at most 0
}

// weight is the candidate's probability, up to a factor common to all.
func (c candidate) weight() float64 { return math.Exp(c.value) }

func (c candidate) before(d candidate) bool {
	return c.value > d.value || c.value == d.value && c.id < d.id
}

// ranking orders candidates, likeliest first, only as far as it is asked: a
// heapsort that stops early.
//
//	| heap of those not ranked yet | ... third | second | first |
type ranking struct {
	all    []candidate
	ranked int
}

// leastValue is about the least x with exp(x) > 0.
const leastValue = -745

// load takes all candidates whose weight is not 0.
func (r *ranking) load(values []float64, temperature float64) {
	r.all, r.ranked = r.all[:0], 0
	best := likeliest(values)
	if best == token.None {
		return
	}
	greatest := finite(values[best])
	for id, v := range values {
		v = (finite(v) - greatest) / temperature
		if v >= leastValue {
			r.all = append(r.all, candidate{token.ID(id), v})
		}
	}
}

// finite replaces plus infinity, so that differences stay numbers.
func finite(v float64) float64 { return min(v, math.MaxFloat64) }

// order prepares for at; before it candidates are in order of id.
func (r *ranking) order() {
	for i := len(r.all)/2 - 1; i >= 0; i-- {
		sink(r.all, i)
	}
}

// at returns the candidate of rank i, from 0.
func (r *ranking) at(i int) candidate {
	for r.ranked <= i {
		heap := r.all[:len(r.all)-r.ranked]
		last := len(heap) - 1
		heap[0], heap[last] = heap[last], heap[0]
		sink(heap[:last], 0)
		r.ranked++
	}
	return r.all[len(r.all)-1-i]
}

// sink moves heap[i] down to where nothing below goes before it.
func sink(heap []candidate, i int) {
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[child].before(heap[first]) {
				first = child
			}
		}
		if first == i {
			return
		}
		heap[i], heap[first] = heap[first], heap[i]
		i = first
	}
}

// draw picks from the adjusted logits with u, uniform in [0, 1): the first
// candidate, in order of rank, where the mass passes u times the mass kept.
func (s *Sampler) draw(u float64) token.ID {
	r := &s.ranking
	r.load(s.values, s.params.Temperature)
	if len(r.all) == 0 {
		return token.None
	}
	kept, mass := s.params.keep(r)
	target := u * mass
	sum := 0.0
	for i := range kept - 1 {
		c := r.at(i)
		if sum += c.weight(); sum > target {
			return c.id
		}
	}
	return r.at(kept - 1).id
}

// keep says how many of the first ranks pass the filters, at least 1, and their
// mass. What passes is always a beginning of the ranking.
func (p Params) keep(r *ranking) (kept int, mass float64) {
	kept = len(r.all)
	cut := p.TopK > 0 && p.TopK < kept
	if !cut {
		mass = massOf(r.all)
	}
	r.order()
	if cut {
		kept = p.TopK
		mass = r.massOfFirst(kept)
	}
	if p.TopP < 1 {
		kept, mass = r.nucleus(kept, p.TopP*mass)
	}
	if p.MinP > 0 {
		kept, mass = r.above(kept, p.MinP)
	}
	return kept, mass
}

func massOf(candidates []candidate) (mass float64) {
	for _, c := range candidates {
		mass += c.weight()
	}
	return mass
}

func (r *ranking) massOfFirst(n int) (mass float64) {
	for i := range n {
		mass += r.at(i).weight()
	}
	return mass
}

// nucleus keeps the fewest of the first n whose mass reaches enough.
func (r *ranking) nucleus(n int, enough float64) (kept int, mass float64) {
	for kept < n && (kept == 0 || mass < enough) {
		mass += r.at(kept).weight()
		kept++
	}
	return kept, mass
}

// above keeps those of the first n that weigh at least least; the first weighs 1.
func (r *ranking) above(n int, least float64) (kept int, mass float64) {
	for kept < n {
		w := r.at(kept).weight()
		if w < least {
			break
		}
		mass += w
		kept++
	}
	return kept, mass
}
