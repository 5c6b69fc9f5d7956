package wire

import (
	"math/rand/v2"
	"testing"

	"mneme/internal/cli/value"
	"mneme/internal/kv"
)

func TestKVBudget(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		says                 string
		asked                value.Size
		total, free, context int64
		want                 int64
		fails                bool
	}{
		{says: "a quarter of what is free", free: 8 * gib, context: gib, want: 2 * gib},
		{says: "but room for one context", free: 8 * gib, context: 3 * gib, want: 3 * gib},
		{says: "a context that cannot fit", free: 8 * gib, context: 9 * gib, fails: true},
		{says: "a share", asked: value.Size{Percent: 50}, free: 8 * gib, context: gib, want: 4 * gib},
		{says: "bytes", asked: value.Size{Bytes: 77}, free: 8 * gib, context: gib, want: 77},
		{says: "all bytes there are", asked: value.Size{Bytes: 77}, total: 77, free: 8, context: gib, want: 77},
		{says: "more than there are", asked: value.Size{Bytes: 78}, total: 77, free: 8, context: gib, fails: true},
		{says: "bytes where free memory is unknown", asked: value.Size{Bytes: 77}, want: 77},
		{says: "a share of the unknown", asked: value.Size{Percent: 50}, fails: true},
		{says: "nothing known, nothing asked", fails: true},
	} {
		got, err := kvBudget(c.asked, Memory{c.total, c.free}, c.context)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d (%v), want %d", c.says, got, err, c.want)
		}
	}
}

// What a turn is said to take is what the pool reserves for it, in every format,
// with windows and without; what an agent has between turns is less than that by
// no more than the open block and, in a window group, the step and block 0.
func TestBytesAreThePools(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	for _, format := range []kv.Format{kv.FormatQ3, kv.FormatQ4, kv.FormatQ8, kv.FormatF16} {
		spec := kv.Spec{Format: format, Groups: []kv.Group{{Layers: []int{2}, KVHeads: 1, KDim: 64, VDim: 64}, {Layers: []int{0, 1}, KVHeads: 2, KDim: 64, VDim: 64, Window: 100}}}
		pool, err := kv.NewPool(spec, 8<<20)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			tokens, step := r.IntN(3000), 1+r.IntN(700)
			turn, agent := TurnBytes(spec, tokens, step), spec.TableBytes(tokens)
			if want := pool.Bytes(pool.NeedFor(tokens, step)); turn != want {
				t.Fatalf("%s, %d tokens in steps of %d: %d bytes, the pool reserves %d (seed %d)", format, tokens, step, turn, want, seed)
			}
			slack := int64(spec.BlockBytes(1, format.Form(0)) + spec.BlockBytes(1, format.Form(1))*(1+blocksFor(step)))
			for g := range spec.Groups {
				slack += int64(spec.BlockBytes(g, format.Open()))
			}
			if tokens >= kv.BlockTokens && (agent > turn || agent+slack < turn) {
				t.Fatalf("%s, an agent of %d tokens has %d bytes, its turn %d (seed %d)", format, tokens, agent, turn, seed)
			}
		}
		if err := pool.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
