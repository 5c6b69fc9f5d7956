// Package tally counts by size: how long steps take, how long turns wait. What is
// counted is engine's to say, how it is shown is api's.
package tally

import (
	"math"
	"sort"
	"sync/atomic"
)

// Histogram counts values in classes; any goroutine may add to it.
type Histogram struct {
	bounds []float64 // of the classes, inclusive, ascending; a last class has none
	counts []atomic.Uint64
	sum    atomic.Uint64 // bits of a float64
}

// NewHistogram makes one of classes up to each bound, and a last one beyond.
func NewHistogram(bounds []float64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Doubling is n bounds, each twice the one before.
func Doubling(from float64, n int) []float64 {
	bounds := make([]float64, n)
	for i := range bounds {
		bounds[i] = from
		from *= 2
	}
	return bounds
}

// Add counts a value.
func (h *Histogram) Add(value float64) {
	h.counts[sort.SearchFloat64s(h.bounds, value)].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			return
		}
	}
}

// Counts is a histogram at one moment.
type Counts struct {
	Total uint64
	Sum   float64
	Below map[float64]uint64 // by bound: the values up to it
}

// Counts reads the histogram.
func (h *Histogram) Counts() Counts {
	c := Counts{Sum: math.Float64frombits(h.sum.Load()), Below: make(map[float64]uint64, len(h.bounds))}
	for i := range h.counts {
		c.Total += h.counts[i].Load()
		if i < len(h.bounds) {
			c.Below[h.bounds[i]] = c.Total
		}
	}
	return c
}

// Quantile is the bound of the class in which a part of the values end; +Inf for
// the last class, 0 of none.
func (c Counts) Quantile(part float64) float64 {
	if c.Total == 0 {
		return 0
	}
	least := math.Inf(1)
	for bound, n := range c.Below {
		if float64(n) >= part*float64(c.Total) {
			least = min(least, bound)
		}
	}
	return least
}

// Steps is what is counted of a batch and of the turns in it.
type Steps struct {
	Seconds   *Histogram // of a step
	Sequences *Histogram // in a step
	Prompts   *Histogram // part of a step's budget for prompts that was used, of steps that had some
	Waits     *Histogram // seconds from a turn's arrival to its admission
	Gaps      *Histogram // seconds between two tokens of a turn
}

// blink are seconds that matter to who reads along.
var blink = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30}

// NewSteps makes one without counts.
func NewSteps() Steps {
	return Steps{
		Seconds:   NewHistogram(blink),
		Sequences: NewHistogram(Doubling(1, 8)), // to 128
		Prompts:   NewHistogram([]float64{0.125, 0.25, 0.5, 0.75, 0.9, 1}),
		Waits:     NewHistogram(Doubling(0.001, 18)), // to 131 s
		Gaps:      NewHistogram(blink),
	}
}

// Figures are all counts at about one moment.
type Figures struct{ Seconds, Sequences, Prompts, Waits, Gaps Counts }

// Figures reads the counts.
func (s Steps) Figures() Figures {
	return Figures{s.Seconds.Counts(), s.Sequences.Counts(), s.Prompts.Counts(), s.Waits.Counts(), s.Gaps.Counts()}
}
