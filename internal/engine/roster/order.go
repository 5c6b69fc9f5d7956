package roster

import (
	"cmp"
	"time"
)

// Use is what it costs an agent to lose its blocks; the cheapest go first.
type Use int

const (
	Idle    Use = iota // its next turn reads them from disk
	Busy               // its turn runs or waits; a running one holds what it uses itself
	Own                // the same, and it is the one that room is sought for
	Unsaved            // they are nowhere else: its next turn computes them
)

// Hold is what keeps an agent's blocks in memory besides its share.
type Hold int

const (
	Free    Hold = iota
	Awaited      // it waits for a tool's result: as if it were below its share
	Pinned       // the last to go
)

// Candidate is an agent that has blocks in memory.
type Candidate struct {
	Namespace Namespace
	Bytes     int64 // of its blocks; of those that k agents have, a k-th
	Use       Use
	Hold      Hold
	LastUsed  time.Time
}

// Claim is an agent's right to its blocks; the weakest go first.
type Claim int

const (
	Above     Claim = iota // it is above its share
	Weak                   // below, but its namespace is above, or room is sought for its own turn
	Protected              // below both, or awaited
	Last                   // pinned
)

// Mode says whose blocks may go.
type Mode int

const (
	Sparing    Mode = iota // of those that nothing protects
	Overruling             // of everybody, for nothing else would ever make room
)

// Next chooses who gives blocks up, and says what right to them it had; false if
// nobody may be asked. With n agents in memory each is protected up to a share of
// budget/2n, so that all who are leave half of the pool; namespaces have shares
// among themselves in the same way. The order is: weak claims before strong ones,
// of one claim who loses least, then those whose namespace is above its share,
// then those above their own, then those unused longest.
func Next(budgetBytes int64, all []Candidate, mode Mode) (at int, claim Claim, ok bool) {
	s := sharesOf(budgetBytes, all)
	best := -1
	var least rank
	for i := range all {
		r := s.rank(&all[i])
		if mode == Sparing && r.claim >= Protected {
			continue
		}
		if best < 0 || r.compare(least) < 0 {
			best, least = i, r
		}
	}
	return best, least.claim, best >= 0
}

// shares is what each agent and each namespace may have without being asked.
type shares struct {
	agent, namespace int64
	of               map[Namespace]int64 // bytes
}

func sharesOf(budgetBytes int64, all []Candidate) shares {
	s := shares{of: map[Namespace]int64{}}
	for i := range all {
		s.of[all[i].Namespace] += all[i].Bytes
	}
	s.agent = budgetBytes / int64(2*max(1, len(all)))
	s.namespace = budgetBytes / int64(2*max(1, len(s.of)))
	if len(s.of) == 1 { // there is nobody to be fair to
		s.namespace = budgetBytes
	}
	return s
}

// rank is a place in the order; the lowest goes first.
type rank struct {
	claim                 Claim
	use                   Use
	namespaceOver, itself bool // above the share
	lastUsed              time.Time
}

func (s *shares) rank(c *Candidate) rank {
	r := rank{use: c.Use, namespaceOver: s.of[c.Namespace] > s.namespace, itself: c.Bytes > s.agent, lastUsed: c.LastUsed}
	switch {
	case c.Hold == Pinned:
		r.claim = Last
	case c.Hold == Awaited:
		r.claim = Protected
	case r.itself:
		r.claim = Above
	case r.namespaceOver || c.Use == Own:
		r.claim = Weak
	default:
		r.claim = Protected
	}
	return r
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.claim, o.claim), cmp.Compare(r.use, o.use), trueFirst(r.namespaceOver, o.namespaceOver), trueFirst(r.itself, o.itself), r.lastUsed.Compare(o.lastUsed))
}

func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
