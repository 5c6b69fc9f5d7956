package schedule

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"mneme/internal/kv"
)

func key(b byte) kv.Key { return kv.Key{b} }

// The pieces of the game: a sequence that decodes, one with a prompt left to
// compute, one whose next blocks others may want too.
var decode = Candidate{Pending: 1, Decoding: true, Offset: 5}

func prompt(pending int) Candidate { return Candidate{Pending: pending, Aligned: true} }

func shared(pending int, keys ...kv.Key) Candidate {
	return Candidate{Pending: pending, Aligned: true, Next: keys}
}

func (c Candidate) with(priority int, ahead float64, arrival int64, idle int) Candidate {
	c.Rank, c.Idle = Rank{Priority: priority, Ahead: ahead, Arrival: arrival}, idle
	return c
}

func (c Candidate) begun(offset int) Candidate {
	c.Aligned, c.Offset = false, offset
	return c
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name    string
		given   []Candidate
		step    int
		prompts int
		want    []int
	}{
		{"nobody", nil, 64, 64, nil},
		{"decodes first, the prompt takes the rest", []Candidate{prompt(100), decode, decode}, 64, 64, []int{62, 1, 1}},
		{"prompts have a budget of their own", []Candidate{prompt(100), decode, decode}, 512, 40, []int{40, 1, 1}},
		{"a prompt does not starve beside decodes", []Candidate{decode, decode, prompt(90)}, 18, 18, []int{1, 1, 16}},
		{"nor where steps are smaller than a chunk", []Candidate{decode, decode, prompt(9)}, 2, 2, []int{1, 1, 2}},
		{"no budget, decodes only", []Candidate{decode, prompt(9)}, 64, 0, []int{1, 0}},
		{"the shortest first", []Candidate{prompt(4000), prompt(50), prompt(20)}, 64, 64, []int{0, 44, 20}},
		{"of equals the first", []Candidate{prompt(100).with(0, 0, 2, 0), prompt(100).with(0, 0, 1, 0)}, 64, 64, []int{0, 64}},
		{"the shortest leaves the rest to the long", []Candidate{prompt(4000), prompt(50)}, 512, 512, []int{462, 50}},
		{"priority before length", []Candidate{prompt(4000).with(1, 0, 1, 0), prompt(50)}, 64, 64, []int{64, 0}},
		{"the key that was served less before length", []Candidate{prompt(4000), prompt(50).with(0, 2000, 1, 0)}, 64, 64, []int{64, 0}},
		{"a little ahead is nothing", []Candidate{prompt(4000), prompt(50).with(0, 500, 1, 0)}, 64, 64, []int{14, 50}},
		{"priority before fairness", []Candidate{prompt(4000), prompt(50).with(1, 9000, 1, 0)}, 64, 64, []int{14, 50}},
		{"passed over for long: half goes to it", []Candidate{prompt(4000).with(-5, 9000, 1, 8), prompt(50)}, 64, 64, []int{32, 32}},
		{"not yet for long", []Candidate{prompt(4000).with(-5, 9000, 1, 7), prompt(50)}, 64, 64, []int{14, 50}},
		{"what the other leaves is its too", []Candidate{prompt(4000).with(-5, 9000, 1, 8), prompt(10)}, 64, 64, []int{54, 10}},
		{"a follower waits for the block another computes", []Candidate{shared(200, key(1), key(2)), shared(300, key(1), key(2))}, 512, 512, []int{200, 0}},
		{"others go on meanwhile", []Candidate{shared(200, key(1)), shared(300, key(1)), shared(50, key(9))}, 512, 512, []int{200, 0, 50}},
		{"a claim covers a block begun", []Candidate{shared(200, key(1)), shared(200, key(1))}, 17, 17, []int{17, 0}},
		{"also by a longer one, before", []Candidate{shared(300, key(1)).begun(3), shared(200, key(1))}, 64, 64, []int{64, 0}},
		{"inside a block nobody waits", []Candidate{shared(200, key(1)).begun(7), shared(90, key(1)).begun(3)}, 512, 512, []int{200, 90}},
	} {
		if got := Plan(nil, c.given, Budget{Step: c.step, Prompts: c.prompts}); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Whoever is there, a step keeps its bounds: every decoding sequence has its
// token, no more is given than fits or is wanted, something is done if anything
// can be, and nobody is passed over for ever.
func TestPlanBounds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 8))
	for range 200 {
		game := make([]Candidate, 1+r.IntN(8))
		for i := range game {
			game[i] = prompt(1+r.IntN(3000)).with(r.IntN(21)-10, r.Float64()*5000, int64(i), 0)
			if r.IntN(3) == 0 {
				game[i] = decode
			}
		}
		b := Budget{Step: 1 + r.IntN(600)}
		b.Prompts = 1 + r.IntN(b.Step)
		if problem := play(game, b, r); problem != "" {
			t.Fatalf("seed %d, %+v: %s", seed, b, problem)
		}
	}
}

// play runs the game until the first players have their prompts. Each that ends
// makes room for a short one of the highest rank, which would starve the others.
func play(game []Candidate, b Budget, r *rand.Rand) string {
	for range 2000 {
		tokens := Plan(nil, game, b)
		sum, prompts, want := 0, 0, 0
		for i, n := range tokens {
			c := &game[i]
			sum += n
			switch {
			case n > c.Pending:
				return fmt.Sprintf("%d tokens for %d", n, c.Pending)
			case c.Decoding && n != c.Pending:
				return "a decoding sequence waits"
			case c.Decoding:
				continue
			case c.Idle > 5*patience*len(game):
				return fmt.Sprintf("%+v is passed over for %d steps", c.Rank, c.Idle)
			}
			prompts, want = prompts+n, want+c.Pending
			c.Idle++
			if n > 0 {
				c.Idle = 0
			}
			if c.Pending -= n; c.Pending == 0 {
				*c = prompt(1+r.IntN(40)).with(10, 0, c.Rank.Arrival, 0)
			}
		}
		if prompts > b.Prompts || sum > b.Step+len(game)+MinChunk || prompts < min(want, b.Prompts, MinChunk) {
			return fmt.Sprintf("%d tokens, %d of prompts that want %d: %v", sum, prompts, want, tokens)
		}
	}
	return ""
}

func TestPromptsOfAStep(t *testing.T) {
	for _, c := range []struct {
		name   string
		cost   Cost
		target time.Duration
		want   int
	}{
		{"nothing is known", Cost{}, 100 * time.Millisecond, 64},
		{"what the decodes leave", Cost{Decode: 30 * time.Millisecond, Rate: 1000}, 100 * time.Millisecond, 70},
		{"they leave nothing", Cost{Decode: 130 * time.Millisecond, Rate: 1000}, 100 * time.Millisecond, 16},
		{"more than a step has", Cost{Rate: 1e5}, 100 * time.Millisecond, 512},
	} {
		if got := c.cost.Prompts(512, c.target); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if got := (Cost{}).Prompts(7, time.Second); got != 7 {
		t.Errorf("of a step of 7: %d", got)
	}
}

func TestVictim(t *testing.T) {
	for _, c := range []struct {
		name  string
		ranks []Rank
		want  int
	}{
		{"the youngest", []Rank{{Arrival: 1}, {Arrival: 3}, {Arrival: 2}}, 1},
		{"the lowest priority", []Rank{{Priority: -1, Arrival: 1}, {Arrival: 3}, {Arrival: 2}}, 0},
		{"the youngest of the lowest", []Rank{{Priority: 5, Arrival: 9}, {Priority: 2, Arrival: 4}, {Priority: 2, Arrival: 3}}, 1},
		{"who is alone", []Rank{{Priority: 10}}, 0},
	} {
		var running []Candidate
		for _, r := range c.ranks {
			running = append(running, Candidate{Rank: r})
		}
		if got := Victim(running); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
