package tally

import (
	"fmt"
	"math"
	"sync"
	"testing"
)

// 1 and 2 are up to 2, 3 up to 4, 9 beyond.
func TestHistogram(t *testing.T) {
	h := NewHistogram(Doubling(2, 2))
	if got := h.Counts(); got.Quantile(0.5) != 0 || got.Total != 0 {
		t.Errorf("nothing counted: %+v", got)
	}
	for _, v := range []float64{1, 2, 3, 9} {
		h.Add(v)
	}
	got := h.Counts()
	if want := (Counts{Total: 4, Sum: 15, Below: map[float64]uint64{2: 2, 4: 3}}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for part, want := range map[float64]float64{0.1: 2, 0.5: 2, 0.75: 4, 0.95: math.Inf(1)} {
		if q := got.Quantile(part); q != want {
			t.Errorf("quantile %v: %v, want %v", part, q, want)
		}
	}
}

// Many may count at once, nothing is lost.
func TestHistogramOfMany(t *testing.T) {
	s := NewSteps()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				s.Gaps.Add(0.5)
			}
		})
	}
	wg.Wait()
	if f := s.Figures(); f.Gaps.Total != 4000 || f.Gaps.Sum != 2000 || f.Seconds.Total != 0 {
		t.Errorf("%+v", f)
	}
}
