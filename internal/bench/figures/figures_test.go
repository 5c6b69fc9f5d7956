package figures

import (
	"slices"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    Spread
		text    string
	}{
		{nil, Spread{}, "0.0"},
		{[]float64{3}, Spread{3, 3, 3}, "3.0"},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}, "2.0 (1.0 to 9.0)"},
		{[]float64{4, 1, 2, 9}, Spread{3, 1, 9}, "3.0 (1.0 to 9.0)"},
	} {
		before := slices.Clone(c.samples)
		got := SpreadOf(c.samples)
		if got != c.want || got.Text(1) != c.text {
			t.Errorf("spread of %v: %+v %q, want %+v %q", c.samples, got, got.Text(1), c.want, c.text)
		}
		if !slices.Equal(before, c.samples) {
			t.Errorf("spread reordered its samples: %v", c.samples)
		}
	}
	// Ratios are taken round by round: the median of ratios, not of quotients of medians.
	if got := Ratios([]float64{1, 2, 9}, []float64{2, 8, 9}); !slices.Equal(got, []float64{0.5, 0.25, 1}) {
		t.Errorf("ratios: %v", got)
	}
	if got := (Spread{Median: 1.0 / 30}).Inverse(); got != "1 / 30" {
		t.Errorf("inverse: %q", got)
	}
}

func TestMean(t *testing.T) {
	if got, want := MeanOf([]float64{1, 6, 2}), (Mean{3, 1, 6}); got != want || got.Text(1) != "3.0 (1.0 to 6.0)" {
		t.Errorf("mean %+v %q, want %+v", got, got.Text(1), want)
	}
	if got := MeanOf(nil); got != (Mean{}) {
		t.Errorf("mean of nothing: %+v", got)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	Table(&b, [][]string{{"what", "ö"}, {"a", "longer"}})
	if want := "| what | ö      |\n| ---- | ------ |\n| a    | longer |\n\n"; b.String() != want {
		t.Errorf("table:\n%swant:\n%s", b.String(), want)
	}
}

func TestLoad(t *testing.T) {
	if got := (Load{Before: 0.25, After: 2}).Text(); got != "load average 0.25 before, 2.00 after" {
		t.Errorf("load: %q", got)
	}
	if got := (Load{Before: -1, After: 2}).Text(); got != "load average unknown" {
		t.Errorf("load: %q", got)
	}
	if LoadNow() < 0 {
		t.Error("this system says no load average")
	}
}
