package stream

import "time"

// Timings are where the time of a turn went. They follow each other: what a
// preemption costs counts to the phase that it interrupts.
type Timings struct {
	Queue   time.Duration // until it had a place in the batch and its blocks, its agent's turns before it included
	Restore time.Duration // until what is on disk of its prompt was read
	Prefill time.Duration // until its first token was chosen, or its prompt was done
	Decode  time.Duration // until its last one
	Save    time.Duration // until it was durable
}

// Phase is one of the parts of a turn, in their order.
type Phase int

const (
	Queue Phase = iota
	Restore
	Prefill
	Decode
	Save
	phases int = iota
)

func (p Phase) String() string {
	return [phases]string{"queue", "restore", "prefill", "decode", "save"}[p]
}

// Of is how long a phase took.
func (t Timings) Of(p Phase) time.Duration {
	return [phases]time.Duration{t.Queue, t.Restore, t.Prefill, t.Decode, t.Save}[p]
}

// Phases are all of them, in their order.
func Phases() []Phase { return []Phase{Queue, Restore, Prefill, Decode, Save} }

// Stopwatch takes the time of a turn's phases.
type Stopwatch struct {
	ends [phases + 1]time.Time // of the phase before
	over int                   // phases that have ended
}

// Start starts the first phase.
func (w *Stopwatch) Start(now time.Time) { w.ends[0] = now }

// End ends a phase, and starts the next. What has ended before stays as it is, so
// that a turn may come by a second time.
func (w *Stopwatch) End(p Phase, now time.Time) {
	for ; w.over <= int(p); w.over++ {
		w.ends[w.over+1] = now
	}
}

// Timings are those until now; phases that have not begun took no time.
func (w *Stopwatch) Timings(now time.Time) Timings {
	until := *w
	if w.over < phases {
		until.End(Phase(w.over), now)
	}
	var took [phases]time.Duration
	for p := range until.over {
		took[p] = until.ends[p+1].Sub(until.ends[p])
	}
	return Timings{took[Queue], took[Restore], took[Prefill], took[Decode], took[Save]}
}
