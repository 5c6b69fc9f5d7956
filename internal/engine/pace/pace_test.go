package pace

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeter(t *testing.T) {
	now := time.Unix(1000, 0)
	m := NewMeter(time.Minute)
	if got := m.PerSecond(now); got != 0 {
		t.Errorf("nothing measured: %v per second, want 0", got)
	}
	m.Add(100, time.Second, now)
	m.Add(0, time.Second, now)
	m.Add(5, 0, now)
	if got := m.PerSecond(now); got != 100 {
		t.Errorf("after one measurement %v per second, want 100", got)
	}
	for range 30 {
		m.Add(50, 250*time.Millisecond, now)
	}
	if got := m.PerSecond(now); got < 195 || got > 200 {
		t.Errorf("after 30 at 200 per second %v, want nearly 200", got)
	}
	later := now.Add(2 * time.Minute)
	if got := m.PerSecond(later); got != 0 {
		t.Errorf("two minutes later %v per second, want 0: not known any more", got)
	}
	m.Add(10, time.Second, later)
	if got := m.PerSecond(later); got != 10 {
		t.Errorf("the measurement after a pause gives %v, want 10", got)
	}
}

func TestCheaper(t *testing.T) {
	for _, c := range []struct {
		first  int64
		rate   float64
		second int64
		other  float64
		want   bool
	}{
		{1000, 0, 1, 1, true},    // reading was never measured: try it
		{1000, 1, 1000, 0, true}, // computing neither
		{1000, 100, 64, 6, true}, // 10 s against 10.7 s
		{1000, 100, 64, 7, false},
	} {
		if got := Cheaper(c.first, c.rate, c.second, c.other); got != c.want {
			t.Errorf("Cheaper(%d, %v, %d, %v) = %v", c.first, c.rate, c.second, c.other, got)
		}
	}
}

// Work that goes on at the same time shares the time: ten that take a while each
// are ten times as fast as one; what comes to nothing takes time, and what never
// pauses is measured all the same.
func TestAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(time.Minute)
		begin := func(n int) (ends []func(int64, time.Time)) {
			for range n {
				ends = append(ends, m.Begin())
			}
			return ends
		}
		want := func(about string, perSecond float64) {
			t.Helper()
			if got := m.PerSecond(time.Now()); math.Abs(got-perSecond) > 1 {
				t.Errorf("%s: %v per second, want %v", about, got, perSecond)
			}
		}
		all := begin(10)
		time.Sleep(100 * time.Millisecond)
		for _, end := range all {
			want("before the last", 0)
			end(100, time.Now())
		}
		want("ten together", 10000)
		all = begin(2)
		time.Sleep(100 * time.Millisecond)
		all[0](0, time.Now())
		all[1](0, time.Now())
		want("nothing came of it", 10000)
		m = NewMeter(time.Minute)
		end := m.Begin()
		for range 300 { // the next begins before this one ends
			next := m.Begin()
			time.Sleep(10 * time.Millisecond)
			end(10, time.Now())
			end = next
		}
		want("without a pause", 1000)
	})
}
