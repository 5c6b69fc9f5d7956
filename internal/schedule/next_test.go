package schedule

import (
	"fmt"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	const soon, late = time.Second, Patience
	for _, c := range []struct {
		name    string
		waiting []Waiting
		want    int
	}{
		{"first come, first served", []Waiting{{Arrival: 2}, {Arrival: 1}}, 1},
		{"priority before arrival", []Waiting{{Arrival: 1}, {Arrival: 2, Priority: 1}}, 1},
		{"who was running before who comes", []Waiting{{Arrival: 1}, {Arrival: 2, Preempted: true}}, 1},
		{"but not before a higher priority", []Waiting{{Arrival: 3, Priority: 1}, {Arrival: 2, Preempted: true}}, 0},
		{"the key with fewer places", []Waiting{{Arrival: 1, Places: 3}, {Arrival: 2, Places: 2}}, 1},
		{"priority before places", []Waiting{{Arrival: 1, Places: 3, Priority: 1}, {Arrival: 2}}, 0},
		{"who waits for long before everybody", []Waiting{{Arrival: 3, Priority: 10, Waited: soon}, {Arrival: 1, Priority: -10, Places: 9, Waited: late}}, 1},
		{"of these the first", []Waiting{{Arrival: 2, Priority: 10, Waited: late}, {Arrival: 1, Waited: 2 * late}}, 1},
	} {
		if got := Next(c.waiting); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Of ten that are there, the one that others of higher rank keep overtaking is
// tenth at the latest once its patience is over: it waits for those that came
// before it and for nobody else.
func TestNobodyWaitsBeyondTheBound(t *testing.T) {
	var waiting []Waiting
	for i := range 10 {
		waiting = append(waiting, Waiting{Arrival: int64(i), Priority: -i, Places: float64(i)})
	}
	for turn := 1; ; turn++ {
		for i := range waiting {
			waiting[i].Waited += time.Second
		}
		i := Next(waiting)
		if waiting[i].Arrival == 9 {
			if most := int(Patience/time.Second) + 10; turn > most {
				t.Errorf("admitted in turn %d, want %d at the latest", turn, most)
			}
			return
		}
		waiting[i] = Waiting{Arrival: int64(10 + turn), Priority: 10} // the next of those who never end
		if turn > 1000 {
			t.Fatal("never admitted")
		}
	}
}

// b weighs twice as much as a. c comes late and begins where the last one stands;
// when it goes and comes again it owes nothing.
func TestShares(t *testing.T) {
	var s Shares
	state := func(keys ...string) string {
		s.Present(keys)
		out := ""
		for _, k := range keys {
			out += fmt.Sprintf("%s:%v ", k, s.Ahead(k))
		}
		return out
	}
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	check(state("a", "b"), "a:0 b:0 ")
	s.Serve("a", 100, 1)
	s.Serve("b", 100, 2)
	s.Serve("nobody", 100, 1)
	check(state("a", "b"), "a:50 b:0 ")
	check(state("a", "b", "c"), "a:50 b:0 c:0 ")
	s.Serve("c", 500, 1)
	check(state("a", "b", "c"), "a:50 b:0 c:500 ")
	check(state("a", "c"), "a:0 c:450 ")
	check(state("a"), "a:0 ")
	check(state("a", "c"), "a:0 c:0 ")
}
