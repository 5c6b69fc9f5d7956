// Package pace measures how fast a thing goes: bytes that are read, tokens that
// are computed. It does not know what is done with the figure.
package pace

import (
	"sync"
	"time"
)

// Meter is a rate that follows its latest measurements.
type Meter struct {
	lasts  time.Duration
	mu     sync.Mutex
	amount float64 // weighted, with seconds: their quotient is the rate
	spent  float64
	at     time.Time // of the latest measurement

	busy  int // pieces of work that were begun and did not end
	since time.Time
	done  int64 // by those that ended since
}

// NewMeter makes a meter whose figure is forgotten when nothing was measured for
// as long as lasts: what a busy disk did once must not be believed for ever.
func NewMeter(lasts time.Duration) *Meter { return &Meter{lasts: lasts} }

// keep is the weight that all earlier measurements together keep beside a new
// one: after ten, the first counts for about a tenth.
const keep = 0.8

// Add takes a measurement.
func (m *Meter) Add(amount int64, spent time.Duration, now time.Time) {
	if amount <= 0 || spent <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addLocked(amount, spent, now)
}

func (m *Meter) addLocked(amount int64, spent time.Duration, now time.Time) {
	if now.Sub(m.at) > m.lasts {
		m.amount, m.spent = 0, 0
	}
	m.amount = keep*m.amount + float64(amount)
	m.spent = keep*m.spent + spent.Seconds()
	m.at = now
}

// longest is the time after which what goes on without a pause is measured.
const longest = time.Second

// Begin begins a piece of work; end is called once, with its amount, which may be
// 0. Pieces that go on at the same time share the time: they are one measurement.
func (m *Meter) Begin() (end func(amount int64, now time.Time)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy++; m.busy == 1 {
		m.since, m.done = time.Now(), 0
	}
	return m.end
}

func (m *Meter) end(amount int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy--
	m.done += amount
	spent := time.Since(m.since)
	if m.done > 0 && spent > 0 && (m.busy == 0 || spent > longest) {
		m.addLocked(m.done, spent, now)
		m.since, m.done = time.Now(), 0
	}
}

// PerSecond is the rate; 0 when it is not known.
func (m *Meter) PerSecond(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spent == 0 || now.Sub(m.at) > m.lasts {
		return 0
	}
	return m.amount / m.spent
}

// Cheaper says whether doing a first amount at one rate takes less time than a
// second at another; also when either is not known.
func Cheaper(first int64, rate float64, second int64, other float64) bool {
	return rate == 0 || other == 0 || float64(first)/rate <= float64(second)/other
}
