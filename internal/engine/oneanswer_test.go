package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// The lengths sit around block edges; the longer ones span several chunks.
var answerLengths = []int{63, 64, 65, 128, 129, 700, 1500}

const answerTokens = 32

// reference is each request computed alone, uncached, in one step per chunk.
func reference(r *rig, req Request) answer {
	return r.ask(req.in(Namespace(fmt.Sprintf("reference-%p", &req))))
}

// TestOneAnswer: whatever the batch, the chunk size, the thread count and the
// way the cache came about, the same ids, text and logprobs, bit for bit.
func TestOneAnswer(t *testing.T) {
	for _, format := range []kv.Format{kv.FormatQ4, kv.FormatQ8, kv.FormatF16} {
		t.Run(string(format), func(t *testing.T) { oneAnswer(t, rigOptions{format: format}, answerLengths) })
	}
}

// TestOneAnswerRealModel runs the same on the real model for some lengths.
func TestOneAnswerRealModel(t *testing.T) {
	oneAnswer(t, rigOptions{format: kv.FormatQ4, path: testkit.SmolLM2(t), context: 2048, poolBytes: 1 << 30}, []int{65, 400})
}

// TestOneAnswerGeneric runs it on the portable kernels.
func TestOneAnswerGeneric(t *testing.T) {
	oneAnswer(t, rigOptions{format: kv.FormatQ4, kernel: "generic"}, []int{65, 129})
}

func oneAnswer(t *testing.T, o rigOptions, lengths []int) {
	want := map[string]answer{}
	base := newRig(t, o)
	eachRequest(lengths, func(name string, req Request) { want[name] = reference(base, req) })
	base.stop()
	check := func(way, name string, got answer) {
		if !got.same(want[name]) {
			t.Errorf("%s, %s: %v\nwant %v", way, name, got, want[name])
		}
	}
	for _, chunk := range []int{1, 7, 64, 512} {
		o := o
		o.stepTokens, o.threads = chunk, 1+chunk%2
		r := newRig(t, o)
		eachRequest(lengths, func(name string, req Request) {
			check(fmt.Sprintf("chunk %d", chunk), name, r.ask(req.in(Namespace(name))))
		})
		if _, longest := r.steps.largest(); longest != min(chunk, lengths[len(lengths)-1]) {
			t.Errorf("largest chunk was %d, want %d", longest, chunk)
		}
		r.stop()
	}
	t.Run("among others", func(t *testing.T) { amongOthers(t, o, lengths, check) })
	t.Run("starts", func(t *testing.T) { starts(t, o, lengths, check) })
	t.Run("rolled back", func(t *testing.T) { rolledBack(t, o, lengths, check) })
}

// eachRequest walks lengths, greedy and sampled.
func eachRequest(lengths []int, do func(name string, req Request)) {
	for _, n := range lengths {
		do(fmt.Sprintf("greedy %d", n), greedy(promptOf(n, 3), answerTokens))
		do(fmt.Sprintf("sampled %d", n), sampled(promptOf(n, 3), answerTokens))
	}
}

// amongOthers runs every request at once, each in a namespace of its own so
// that all are computed, beside sequences of other lengths.
func amongOthers(t *testing.T, o rigOptions, lengths []int, check func(way, name string, got answer)) {
	o.stepTokens = 96 // mixes decodes with pieces of prefill
	r := newRig(t, o)
	defer r.stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	eachRequest(lengths, func(name string, req Request) {
		wg.Go(func() {
			got, err := r.try(context.Background(), req.in(Namespace(name)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			check("among others", name, got)
		})
	})
	for i := range 4 {
		wg.Go(func() { _, _ = r.try(context.Background(), sampled(promptOf(40+i, 50+i), 90).in("noise")) })
	}
	wg.Wait()
	if widest, _ := r.steps.largest(); widest < 5 {
		t.Errorf("widest step had %d sequences, want at least 5", widest)
	}
}

// sharable is how much of a prompt may come from elsewhere by the formula:
// whole blocks, never the one with the last prompt token.
func sharable(n int) int { return (n - 1) / kv.BlockTokens * kv.BlockTokens }

// starts: uncached, sharing a prefix another agent computed, restored after a
// restart, each with the cached tokens the formula says.
func starts(t *testing.T, o rigOptions, lengths []int, check func(way, name string, got answer)) {
	o.dir = t.TempDir()
	r := newRig(t, o)
	again := func(way string, start Start) {
		eachRequest(lengths, func(name string, req Request) {
			got := r.ask(req)
			check(way, name, got)
			if got.usage.Cached != sharable(len(req.Tokens)) || got.usage.Cached > 0 && got.start != start {
				t.Errorf("%s, %s: cached %d (%s), want %d (%s)", way, name, got.usage.Cached, got.start, sharable(len(req.Tokens)), start)
			}
		})
	}
	eachRequest(lengths, func(name string, req Request) {
		check("first", name, r.ask(req.as(AgentID("first-"+token2name(name)))))
	})
	again("shared", StartHot)
	r.stop()
	for _, n := range lengths { // each length restored by a server that has nothing in memory
		r = newRig(t, o)
		name := fmt.Sprintf("greedy %d", n)
		got := r.ask(greedy(promptOf(n, 3), answerTokens))
		check("restored", name, got)
		if got.usage.Cached != sharable(n) || n > kv.BlockTokens && got.start != StartRestored {
			t.Errorf("restored, %s: cached %d (%s), want %d", name, got.usage.Cached, got.start, sharable(n))
		}
		r.stop()
	}
}

func token2name(s string) string {
	out := []byte(s)
	for i := range out {
		if out[i] == ' ' {
			out[i] = '-'
		}
	}
	return string(out)
}

// rolledBack: an agent's turn ended inside a block, a second turn goes on from
// it, hot and restored; then a request that shares less rolls it back.
func rolledBack(t *testing.T, o rigOptions, lengths []int, check func(way, name string, got answer)) {
	o.dir = t.TempDir()
	for _, restart := range []bool{false, true} {
		for _, n := range lengths {
			rolledBackOne(t, o, n, restart, check)
		}
	}
}

func rolledBackOne(t *testing.T, o rigOptions, n int, restart bool, check func(way, name string, got answer)) {
	name := fmt.Sprintf("greedy %d", n)
	agent := fmt.Sprintf("ada-%d-%t", n, restart)
	r := newRig(t, o)
	defer func() { r.stop() }()
	// The first turn's prompt is the reference's without its last 9 tokens, and
	// what it answers is not what follows there: the second request rolls back.
	full := promptOf(n, 3)
	first := r.ask(greedy(full[:n-9], 20).as(AgentID(agent)).in(Namespace(agent)))
	if restart {
		r.stop()
		r = newRig(t, o)
	}
	got := r.ask(greedy(full, answerTokens).as(AgentID(agent)).in(Namespace(agent)))
	check(fmt.Sprintf("rolled back, restart %t", restart), name, got)
	kept := n - 9
	for i, id := range first.ids {
		if kept+0 == n-9+i && i < 9 && full[n-9+i] == id {
			kept++
		}
	}
	want := wantAfterRollback(kept, n-9+len(first.ids)-1, n)
	if got.usage.Cached != want {
		t.Errorf("rolled back to %d of %d tokens, restart %t: cached %d, want %d", kept, n, restart, got.usage.Cached, want)
	}
	// An unchanged history: prompt(n) + completion(n) - 1.
	history := append(append([]token.ID(nil), full...), got.ids...)
	next := append(history, promptOf(12, 8)...)
	if restart {
		r.stop()
		r = newRig(t, o)
	}
	third := r.ask(greedy(next, 4).as(AgentID(agent)).in(Namespace(agent)))
	if want := len(full) + len(got.ids) - 1; third.usage.Cached != want {
		t.Errorf("third turn on %d tokens, restart %t: cached %d, want %d", len(history), restart, third.usage.Cached, want)
	}
	check3 := r.ask(greedy(next, 4).in(Namespace("alone" + agent)))
	if !third.same(check3) {
		t.Errorf("third turn on %d tokens, restart %t: %v, alone %v", len(history), restart, third, check3)
	}
}

// wantAfterRollback is the formula for an agent with KV of had tokens whose next
// prompt of n tokens shares common ones: inside its open block all of them,
// else whole blocks.
func wantAfterRollback(common, had, n int) int {
	common = min(common, had, n-1)
	if open := had / kv.BlockTokens * kv.BlockTokens; common > open {
		return common
	}
	return min(common, sharable(n)) / kv.BlockTokens * kv.BlockTokens
}

// TestOneAnswerCanFail breaks rule 1 on purpose, by reading the own block in
// its stored form, and wants the comparison to see it.
func TestOneAnswerCanFail(t *testing.T) {
	whole := newRig(t, rigOptions{sealedOwn: true})
	pieces := newRig(t, rigOptions{sealedOwn: true, stepTokens: 1})
	defer whole.stop()
	defer pieces.stop()
	req := greedy(promptOf(129, 3), answerTokens)
	if whole.ask(req).same(pieces.ask(req)) {
		t.Error("reading the own block quantised changed nothing: the tests of one answer would not see it")
	}
}
