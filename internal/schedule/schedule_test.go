package schedule

import (
	"fmt"
	"testing"

	"mneme/internal/kv"
)

func TestPlan(t *testing.T) {
	key := func(b byte) kv.Key { return kv.Key{b} }
	decode := Candidate{Pending: 1, Decoding: true, Offset: 5}
	prefill := func(pending int) Candidate { return Candidate{Pending: pending, Aligned: true} }
	shared := func(pending int, keys ...kv.Key) Candidate {
		return Candidate{Pending: pending, Aligned: true, Next: keys}
	}
	for _, c := range []struct {
		name   string
		given  []Candidate
		budget int
		want   []int
	}{
		{"nobody", nil, 16, nil},
		{"decodes first, prefill takes the rest", []Candidate{prefill(40), decode, decode}, 16, []int{14, 1, 1}},
		{"prefills in order", []Candidate{prefill(10), prefill(10)}, 16, []int{10, 6}},
		{"prefill does not starve beside decodes", []Candidate{decode, decode, prefill(9)}, 2, []int{1, 1, 1}},
		{"no budget, decodes only", []Candidate{decode, prefill(9)}, 0, []int{1, 0}},
		{"a follower waits for the block another computes", []Candidate{shared(200, key(1), key(2)), shared(300, key(1), key(2))}, 512, []int{200, 0}},
		{"others go on meanwhile", []Candidate{shared(200, key(1)), shared(300, key(1)), shared(50, key(9))}, 512, []int{200, 0, 50}},
		{"a claim covers a block begun", []Candidate{shared(200, key(1)), shared(200, key(1))}, 7, []int{7, 0}},
		{"inside a block nobody waits", []Candidate{shared(200, key(1)), {Pending: 10, Offset: 3, Next: []kv.Key{key(1)}}}, 512, []int{200, 10}},
	} {
		if got := Plan(nil, c.given, c.budget); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
