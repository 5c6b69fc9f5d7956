package access

import (
	"math"
	"time"
)

// rounding is what sums of many small parts may be short of.
const rounding = 1e-6

// bucket is what is left of a rate.
//   - It is full at first and never fuller than the rate's amount.
//   - It fills evenly; below zero there is a debt, which is paid first.
type bucket struct {
	rate  Rate
	level float64
	at    time.Time // when the level was that
}

func newBucket(r Rate, now time.Time) bucket { return bucket{r, float64(r.Amount), now} }

// change goes on under another rate with what there was, up to its amount.
func (b *bucket) change(r Rate, now time.Time) {
	b.fill(now)
	switch {
	case b.rate == (Rate{}):
		*b = newBucket(r, now)
	default:
		b.rate, b.level = r, min(b.level, float64(r.Amount))
	}
}

// fill adds what has come in since.
func (b *bucket) fill(now time.Time) {
	since := now.Sub(b.at)
	if since <= 0 {
		return
	}
	b.at = now
	if b.rate != (Rate{}) {
		b.level = min(float64(b.rate.Amount), b.level+b.perSecond()*since.Seconds())
	}
}

func (b *bucket) perSecond() float64 { return float64(b.rate.Amount) / b.rate.Per.Seconds() }

// wait is the time until there is one; 0 when there is, or no rate.
func (b *bucket) wait(now time.Time) time.Duration {
	b.fill(now)
	if b.rate == (Rate{}) || b.level >= 1-rounding {
		return 0
	}
	seconds := (1 - b.level) / b.perSecond()
	return time.Duration(math.Ceil(seconds*1e6)) * time.Microsecond
}

// take takes n, if need be as a debt.
func (b *bucket) take(n int, now time.Time) {
	if b.rate != (Rate{}) {
		b.fill(now)
		b.level -= float64(n)
	}
}
