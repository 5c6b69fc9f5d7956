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
	if now.Sub(m.at) > m.lasts {
		m.amount, m.spent = 0, 0
	}
	m.amount = keep*m.amount + float64(amount)
	m.spent = keep*m.spent + spent.Seconds()
	m.at = now
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
