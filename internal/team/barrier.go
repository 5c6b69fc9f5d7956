package team

import (
	"sync/atomic"
	"time"
)

// barrier counts arrivals; the last one turns the generation, which the
// others watch: first spinning, then asleep. The fields that change at every
// turn lie on cache lines of their own.
type barrier struct {
	_          [64]byte
	arrived    atomic.Int32
	_          [60]byte
	generation atomic.Uint32
	asleep     atomic.Int32 // read once a turn, like poison, and rarely written:
	poison     atomic.Bool  // they may share the line
	_          [52]byte
}

// poisoned is what a worker leaves a run with when another has failed.
type poisoned struct{}

// wait returns when n workers have called it, and says whether this one slept.
func (b *barrier) wait(n int32, p *patience) (slept bool) {
	generation := b.generation.Load()
	b.leaveIfPoisoned()
	if b.arrived.Add(1) == n {
		b.arrived.Store(0)
		b.turn()
		return false
	}
	if b.spin(generation, p.limit()) {
		p.rewarded()
	} else {
		p.exhausted()
		b.sleep(generation)
		slept = true
	}
	b.leaveIfPoisoned()
	return slept
}

// turn ends the wait of all who watch the generation. Those who sleep say so
// before they look at it for the last time: none sleeps through.
func (b *barrier) turn() {
	b.generation.Add(1)
	if b.asleep.Load() > 0 {
		wakeAll(&b.generation)
	}
}

// sleep gives the CPU away until the generation turns.
func (b *barrier) sleep(generation uint32) {
	b.asleep.Add(1)
	for b.generation.Load() == generation {
		sleepWhile(&b.generation, generation)
	}
	b.asleep.Add(-1)
}

const (
	blindPauses   = 64 // most waits end within them: no look at the clock
	pausesPerLook = 32
)

// spin watches the generation as long as patience lasts, and says whether it
// turned.
func (b *barrier) spin(generation uint32, patience time.Duration) bool {
	if b.turns(generation, blindPauses) {
		return true
	}
	for begin := time.Now(); time.Since(begin) < patience; {
		if b.turns(generation, pausesPerLook) {
			return true
		}
	}
	return false
}

// turns watches the generation for so many pauses.
func (b *barrier) turns(generation uint32, pauses int) bool {
	for range pauses {
		if b.generation.Load() != generation {
			return true
		}
		pause()
	}
	return false
}

// fail makes all others leave the run at their next barrier, or at this one.
func (b *barrier) fail() {
	b.poison.Store(true)
	b.turn()
}

// leaveIfPoisoned unwinds a worker from a run that is lost.
func (b *barrier) leaveIfPoisoned() {
	if b.poison.Load() {
		panic(poisoned{})
	}
}

// reset comes after a lost run, when all workers have left it.
func (b *barrier) reset() {
	b.arrived.Store(0)
	b.poison.Store(false)
}

// patience is how long a worker spins before it sleeps. A sleeper is late at
// the next barrier, where it exhausts the others in turn; so patience is several
// times as long as waking takes. But while two workers share a CPU, one only
// comes when the other lets go: each wait in vain halves patience, a fruitful
// one restores it, and now and then it is tried whole, to find out that the
// CPU is there again. (Measured beside a busy process; yielding to the
// scheduler or the kernel instead gives the step to that process.)
type patience struct{ inVain int } // waits in a row

const (
	mostPatience  = 256 * time.Microsecond
	mostHalvings  = 7
	retryPatience = 64 // waits in vain before it is tried whole
)

func (p *patience) limit() time.Duration { return mostPatience >> min(p.inVain, mostHalvings) }

func (p *patience) rewarded() { p.inVain = 0 }

func (p *patience) exhausted() { p.inVain = (p.inVain + 1) % retryPatience }
