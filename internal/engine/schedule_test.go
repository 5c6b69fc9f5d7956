package engine

import (
	"fmt"
	"testing"

	"mneme/internal/kv"
)

func TestSchedule(t *testing.T) {
	key := func(b byte) kv.Key { return kv.Key{b} }
	decode := candidate{pending: 1, decoding: true, offset: 5}
	prefill := func(pending int) candidate { return candidate{pending: pending, aligned: true} }
	shared := func(pending int, keys ...kv.Key) candidate {
		return candidate{pending: pending, aligned: true, next: keys}
	}
	for _, c := range []struct {
		name   string
		given  []candidate
		budget int
		want   []int
	}{
		{"nobody", nil, 16, nil},
		{"decodes first, prefill takes the rest", []candidate{prefill(40), decode, decode}, 16, []int{14, 1, 1}},
		{"prefills in order", []candidate{prefill(10), prefill(10)}, 16, []int{10, 6}},
		{"prefill does not starve beside decodes", []candidate{decode, decode, prefill(9)}, 2, []int{1, 1, 1}},
		{"no budget, decodes only", []candidate{decode, prefill(9)}, 0, []int{1, 0}},
		{"a follower waits for the block another computes", []candidate{shared(200, key(1), key(2)), shared(300, key(1), key(2))}, 512, []int{200, 0}},
		{"others go on meanwhile", []candidate{shared(200, key(1)), shared(300, key(1)), shared(50, key(9))}, 512, []int{200, 0, 50}},
		{"a claim covers a block begun", []candidate{shared(200, key(1)), shared(200, key(1))}, 7, []int{7, 0}},
		{"inside a block nobody waits", []candidate{shared(200, key(1)), {pending: 10, offset: 3, next: []kv.Key{key(1)}}}, 512, []int{200, 10}},
	} {
		if got := schedule(nil, c.given, c.budget); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
