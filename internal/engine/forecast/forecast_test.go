package forecast

import (
	"testing"
	"time"
)

const ms = time.Millisecond

func TestFirst(t *testing.T) {
	rates := Rates{Prompts: 1000, Decode: 30 * ms, Read: 1e6, Places: 0.5, Chunk: 70}
	alone := Load{Waiting: -1}
	for _, c := range []struct {
		name string
		turn Turn
		load Load
		want time.Duration
	}{
		{"alone", Turn{Tokens: 200}, alone, 200 * ms},
		{"with KV from disk", Turn{Tokens: 200, ReadBytes: 2e6}, alone, 2200 * ms},
		{"beside one that generates: three steps, half of one before", Turn{Tokens: 200}, Load{Decoding: 1, Waiting: -1}, 305 * ms},
		{"behind a shorter one", Turn{Tokens: 200}, Load{Prompts: []int{100}, Waiting: -1}, 335 * ms},
		{"before longer ones, which get an eighth", Turn{Tokens: 200}, Load{Prompts: []int{4000, 4000}, Waiting: -1}, 260 * ms},
		{"third in the queue", Turn{Tokens: 200}, Load{Waiting: 2}, 6200 * ms},
	} {
		got, known := First(c.turn, c.load, rates)
		if !known || got.Round(ms) != c.want {
			t.Errorf("%s: %v (known: %t), want %v", c.name, got, known, c.want)
		}
	}
}

func TestTooLittleIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		load  Load
		rates Rates
	}{
		"no rate":          {Load{Waiting: -1}, Rates{}},
		"no rate of ends":  {Load{Waiting: 0}, Rates{Prompts: 100}},
		"neither, waiting": {Load{Waiting: 3}, Rates{}},
	} {
		if got, known := First(Turn{Tokens: 10}, c.load, c.rates); known {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Of turns that leave two places every four seconds one becomes free every two.
// Three who are refused at once are told one, two and three places; who comes
// when the promises are over is told the next one.
func TestPlaces(t *testing.T) {
	var p Places
	now := time.Unix(1000, 0)
	if got := p.PerSecond(); got != 0 {
		t.Errorf("nothing measured: %v", got)
	}
	if got := p.Promise(now); got != time.Second {
		t.Errorf("nothing measured: come again in %v", got)
	}
	p = Places{}
	for range 40 {
		p.Left(now, true)
		p.Left(now, true)
		now = now.Add(4 * time.Second)
	}
	if got := p.PerSecond(); got < 0.49 || got > 0.52 {
		t.Errorf("%v places per second, want 0.5", got)
	}
	for i := 1; i <= 3; i++ {
		if got, want := p.Promise(now).Seconds(), 2*float64(i); got < 0.97*want || got > 1.03*want {
			t.Errorf("the %d. is told %vs, want %v", i, got, want)
		}
	}
	now = now.Add(time.Hour)
	if got := p.Promise(now).Seconds(); got < 1.9 || got > 2.1 {
		t.Errorf("an hour later: %vs, want 2", got)
	}
	if got := p.Expect(5).Seconds(); got < 9.7 || got > 10.3 {
		t.Errorf("five places: in %vs, want 10", got)
	}
	p.Left(now, false)
	if got := p.PerSecond(); got != 0 {
		t.Errorf("nobody waited: %v per second", got)
	}
	for range 1000 {
		p.Promise(now)
	}
	if got := p.Promise(now); got > longest {
		t.Errorf("told to stay away for %v", got)
	}
}

func TestBoard(t *testing.T) {
	var b Board
	b.Note([]int{5, 7}, 2)
	l := b.Load()
	b.Note(nil, 3)
	if l.Decoding != 2 || len(l.Prompts) != 2 || l.Prompts[1] != 7 || l.Waiting != -1 {
		t.Errorf("%+v", l)
	}
}
