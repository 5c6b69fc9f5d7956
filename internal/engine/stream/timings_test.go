package stream

import (
	"fmt"
	"testing"
	"time"
)

// A turn waits 1 s, reads for 2, computes its prompt for 4, decodes for 8 and is
// stored within 16; it is looked at meanwhile, and comes by its beginning again.
func TestStopwatch(t *testing.T) {
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	var w Stopwatch
	var said []string
	look := func(s int) { said = append(said, fmt.Sprint(w.Timings(at(s)))) }
	w.Start(began)
	look(1)
	w.End(Queue, at(1))
	w.End(Restore, at(3))
	look(4)
	w.End(Queue, at(5)) // it gave its blocks back, and waited once more
	w.End(Restore, at(6))
	w.End(Prefill, at(7))
	w.End(Decode, at(15))
	look(31)
	want := "[{1s 0s 0s 0s 0s} {1s 2s 1s 0s 0s} {1s 2s 4s 8s 16s}]"
	if got := fmt.Sprint(said); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	whole := w.Timings(at(31))
	for i, p := range Phases() {
		if got := whole.Of(p); got != time.Second<<i {
			t.Errorf("%s took %v", p, got)
		}
	}
	w.End(Save, at(31))
	if got := w.Timings(at(99)); got != whole {
		t.Errorf("at the end %v, later %v", whole, got)
	}
}

// What has ended without its phases, as a prompt that is only scored, took no time
// in them.
func TestStopwatchSkips(t *testing.T) {
	began := time.Now()
	var w Stopwatch
	w.Start(began)
	w.End(Decode, began.Add(time.Second))
	if got := w.Timings(began.Add(3 * time.Second)); got != (Timings{Queue: time.Second, Save: 2 * time.Second}) {
		t.Errorf("%+v", got)
	}
}
