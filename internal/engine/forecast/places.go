package forecast

import (
	"sync"
	"time"
)

const (
	remembered = 64              // ends of turns
	unknown    = time.Second     // between two places, as long as that is not measured
	longest    = 5 * time.Minute // that anybody is told to stay away
)

// Places measures how often a place becomes free while some wait for one, and
// promises places to those who are refused: each the one after the last that was
// promised, so that they do not all come for the same. The zero value is ready.
type Places struct {
	mu       sync.Mutex
	ends     []time.Time // while some waited throughout; the latest last
	promised time.Time   // the last place that was promised
}

// Left says that a turn has left its place, and whether others wait for it.
func (p *Places) Left(now time.Time, waited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends = append(p.ends, now)
	if n := len(p.ends); n > remembered {
		p.ends = p.ends[n-remembered:]
	}
	if !waited {
		p.ends = p.ends[:0]
	}
}

// PerSecond is how many places become free; 0 when that is not known.
func (p *Places) PerSecond() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.perSecondLocked()
}

func (p *Places) perSecondLocked() float64 {
	n := len(p.ends)
	if n < 2 {
		return 0
	}
	spent := p.ends[n-1].Sub(p.ends[0]).Seconds()
	if spent <= 0 {
		return 0
	}
	return float64(n-1) / spent
}

// Expect is how long it takes until n places have become free.
func (p *Places) Expect(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(longest, time.Duration(n)*p.eachLocked())
}

func (p *Places) eachLocked() time.Duration {
	if rate := p.perSecondLocked(); rate > 0 {
		return time.Duration(float64(time.Second) / rate)
	}
	return unknown
}

// Promise says after which time one who is refused should come again.
func (p *Places) Promise(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.promised.Before(now) {
		p.promised = now
	}
	if next := p.promised.Add(p.eachLocked()); next.Sub(now) <= longest {
		p.promised = next
	}
	return p.promised.Sub(now)
}
