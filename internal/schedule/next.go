package schedule

import (
	"cmp"
	"time"
)

// Waiting is what is to be known of a turn that waits for admission.
type Waiting struct {
	Priority  int
	Preempted bool    // it ran before and had to give way
	Places    float64 // that its key has in the batch, per weight
	Arrival   int64   // counted; later ones are younger
	Waited    time.Duration
}

// Patience is how long a turn may be passed over by others that came later:
// then it goes before all that have not waited as long.
const Patience = 10 * time.Second

func (w Waiting) overdue() bool { return w.Waited >= Patience }

// Next is who of those that wait is admitted next: who has waited beyond
// patience, in order of arrival; then by priority, who was running before, whose
// key has the fewest places in the batch, who came first.
func Next(waiting []Waiting) int {
	best := 0
	for i := range waiting {
		if waiting[i].compare(waiting[best]) < 0 {
			best = i
		}
	}
	return best
}

func (w Waiting) compare(other Waiting) int {
	if w.overdue() || other.overdue() {
		return cmp.Or(first(w.overdue(), other.overdue()), cmp.Compare(w.Arrival, other.Arrival))
	}
	return cmp.Or(
		cmp.Compare(other.Priority, w.Priority),
		first(w.Preempted, other.Preempted),
		cmp.Compare(w.Places, other.Places),
		cmp.Compare(w.Arrival, other.Arrival))
}

// first sorts what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// Shares counts what each key was served while it was there, in tokens per
// weight. The zero value is ready. Who comes begins where the least served of
// those present stands: absence is neither owed nor held against anybody.
type Shares struct{ served map[string]float64 }

// Present says who is there now; others are forgotten.
func (s *Shares) Present(keys []string) {
	now, least := make(map[string]float64, len(keys)), s.least(keys)
	for _, k := range keys {
		v, known := s.served[k]
		if !known {
			v = least
		}
		now[k] = v - least
	}
	s.served = now
}

// least is what the least served of the keys was served, of those that are known.
func (s *Shares) least(keys []string) (least float64) {
	some := false
	for _, k := range keys {
		if v, known := s.served[k]; known && (!some || v < least) {
			least, some = v, true
		}
	}
	return least
}

// Serve counts tokens that were computed for a key that is present.
func (s *Shares) Serve(key string, tokens int, weight float64) {
	if v, present := s.served[key]; present && weight > 0 {
		s.served[key] = v + float64(tokens)/weight
	}
}

// Ahead is what a key was served since Present was called last, and beyond the
// least served one before.
func (s *Shares) Ahead(key string) float64 { return s.served[key] }
