package sample

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What each push shows; the last is the flush, or where it stopped "|".
func TestStopperByHand(t *testing.T) {
	for _, c := range []struct {
		stops  []string
		pushes []string
		want   []string
	}{
		{nil, []string{"a", "b"}, []string{"a", "b", ""}},
		{[]string{"END"}, []string{"oneEN", "D two"}, []string{"one", "|"}},
		{[]string{"END"}, []string{"EN", "E", "ND"}, []string{"", "EN", "|"}},
		{[]string{"END"}, []string{"xE", "N"}, []string{"x", "", "EN"}},
		{[]string{"\n\n"}, []string{"a\n", "b\n", "\nc"}, []string{"a", "\nb", "|"}},
		{[]string{"aab"}, []string{"aaa", "ab"}, []string{"a", "a|"}},
		{[]string{"b", "abc"}, []string{"ab", "c"}, []string{"a|"}}, // b is complete first
		{[]string{"b", "ab"}, []string{"xab"}, []string{"x|"}},      // both are: the longer
		{[]string{""}, []string{"a"}, []string{"a", ""}},
		{[]string{"é€"}, []string{"é", "é", "€"}, []string{"", "é", "|"}},
	} {
		if got := shown(NewStopper(c.stops), c.pushes); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q stops %q: %q, want %q", c.pushes, c.stops, got, c.want)
		}
	}
}

func shown(s *Stopper, pushes []string) (all []string) {
	for _, text := range pushes {
		emit, stopped := s.Push(text)
		if stopped {
			return append(all, emit+"|")
		}
		all = append(all, emit)
	}
	return append(all, s.Flush())
}

// After the end nothing comes out any more.
func TestStopperStaysStopped(t *testing.T) {
	s := NewStopper([]string{"x"})
	first, _ := s.Push("axb")
	second, stopped := s.Push("more")
	if first != "a" || second != "" || !stopped || s.Flush() != "" {
		t.Errorf("showed %q and %q, stopped %v", first, second, stopped)
	}
}

// wholeCut finds the cut in the whole text: where the first stop string to be
// complete begins; the whole length if there is none.
func wholeCut(text string, stops []string) (cut int, found bool) {
	for end := range len(text) + 1 {
		cut = end
		for _, stop := range stops {
			if at := strings.Index(text[:end], stop); at >= 0 {
				cut, found = min(cut, at), true
			}
		}
		if found {
			return cut, true
		}
	}
	return len(text), false
}

// However the text is pushed, what comes out is the text before the cut; and
// at every moment what has come out is a beginning of it, short of it by no
// more than a stop string could still need.
func TestStopperIsIndexOnTheWhole(t *testing.T) {
	word := func(least, most int) *rapid.Generator[string] {
		return rapid.StringOfN(rapid.RuneFrom([]rune("ab€")), least, most, -1)
	}
	rapid.Check(t, func(r *rapid.T) {
		stops := rapid.SliceOfN(word(1, 4), 0, 3).Draw(r, "stops")
		pushes := rapid.SliceOfN(word(0, 4), 0, 10).Draw(r, "pushes")
		whole := strings.Join(pushes, "")
		cut, found := wholeCut(whole, stops)
		s, got, ended := NewStopper(stops), "", false
		for _, text := range pushes {
			var emit string
			emit, ended = s.Push(text)
			got += emit
			if !strings.HasPrefix(whole[:cut], got) {
				r.Fatalf("showed %q of %q, which ends at %d", got, whole, cut)
			}
		}
		got += s.Flush()
		if got != whole[:cut] || ended != found {
			r.Fatalf("showed %q, stopped %v; want %q, %v", got, ended, whole[:cut], found)
		}
	})
}

func TestCheckStops(t *testing.T) {
	if err := CheckStops([]string{"\n", strings.Repeat("x", 1024)}); err != nil {
		t.Error(err)
	}
	for want, stops := range map[string][]string{
		"stop: string 1 has 0 bytes, not within 1 to 1024":    {"a", ""},
		"stop: string 0 has 1025 bytes, not within 1 to 1024": {strings.Repeat("x", 1025)},
		"stop: 17 strings, at most 16 are allowed":            make([]string, 17),
	} {
		if err := CheckStops(stops); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
