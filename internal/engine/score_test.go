package engine

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
)

// scoreOf runs a request and gives the scores of its prompt.
func (r *rig) scoreOf(req Request) ([]PromptToken, Completed) {
	r.t.Helper()
	req.Namespace = "default"
	s, err := r.Submit(context.Background(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	for ok := true; ok; {
		_, ok = s.Next(context.Background())
	}
	done, err := s.Result()
	if err != nil {
		r.t.Fatal(err)
	}
	return done.Prompt, done
}

// A prompt's logprobs are those the same tokens would have had when generated:
// alone, among others, with blocks of it in memory, and continued by an answer.
func TestPromptLogprobs(t *testing.T) {
	r := newRig(t, rigOptions{stepTokens: 40})
	defer r.stop()
	prompt := promptOf(70, 3)
	said := r.ask(greedy(prompt, 90))
	all := append(slices.Clone(prompt), said.ids...)

	only := greedy(all, 0)
	only.Score, only.PromptOnly = &Score{Alternatives: 3}, true
	scores, done := r.scoreOf(only)
	if done.Usage != (Usage{Prompt: len(all)}) || done.Finish != FinishLength {
		t.Errorf("scored only: %+v, finish %q", done.Usage, done.Finish)
	}
	if len(scores) != len(all) || scores[0].Logprob != 0 || scores[0].Top != nil {
		t.Fatalf("%d scores for %d tokens, the first %+v", len(scores), len(all), scores[0])
	}
	for i, lp := range said.logprobs {
		got := scores[len(prompt)+i]
		if got.ID != all[len(prompt)+i] || math.Float64bits(got.Logprob) != math.Float64bits(lp) {
			t.Fatalf("token %d: scored %v, generated with %v", len(prompt)+i, got.Logprob, lp)
		}
		if len(got.Top) != 3 || got.Top[0].ID != got.ID || got.Top[0].Logprob != lp {
			t.Fatalf("token %d was the greedy choice, alternatives are %v", len(prompt)+i, got.Top)
		}
	}

	var wg sync.WaitGroup
	for i := range 4 { // others step along, two of them the same prompt
		wg.Go(func() { r.ask(greedy(promptOf(100+i, 9), 30)) })
		if i < 2 {
			wg.Go(func() {
				if again, _ := r.scoreOf(only); !slices.EqualFunc(again, scores, sameScore) {
					t.Error("scores among others differ")
				}
			})
		}
	}
	wg.Wait()

	on := greedy(all, 4).as("ada")
	on.Score = &Score{Alternatives: 3}
	first, done := r.scoreOf(on)
	if !slices.EqualFunc(first, scores, sameScore) || done.Usage.Completion != 4 || done.Turn != 1 {
		t.Errorf("an agent's scores differ, or its turn: %+v", done)
	}
	if again, done := r.scoreOf(on); !slices.EqualFunc(again, scores, sameScore) || done.Usage.Cached != 0 {
		t.Errorf("scored again over its own blocks: cached %d", done.Usage.Cached)
	}
}

func sameScore(a, b PromptToken) bool {
	return a.ID == b.ID && math.Float64bits(a.Logprob) == math.Float64bits(b.Logprob) && slices.Equal(a.Top, b.Top)
}

// A prompt that is only computed fills an agent's memory: of its next turn only
// the last token is computed.
func TestPromptOnly(t *testing.T) {
	r := newRig(t, rigOptions{context: 200})
	defer r.stop()
	for _, n := range []int{1, 64, 130, 200} {
		agent := AgentID("fill-" + string(rune('a'+n%26)))
		req := greedy(promptOf(n, n), 0).as(agent)
		req.PromptOnly = true
		a := r.ask(req)
		if a.finish != FinishLength || a.usage.Completion != 0 || len(a.ids) != 0 || a.turn != 1 {
			t.Errorf("%d tokens: %v, finish %q, turn %d", n, a, a.finish, a.turn)
		}
		if n == 200 {
			continue // the context is full
		}
		want := r.ask(greedy(promptOf(n, n), 5).in("apart"))
		got := r.ask(greedy(promptOf(n, n), 5).as(agent))
		cached := n - 1
		if n == 64 { // its block is sealed, and holds the token whose logits are wanted
			cached = 0
		}
		if !got.same(want) || got.usage.Cached != cached {
			t.Errorf("%d tokens, then: %v\nwant %v", n, got, want)
		}
	}
	req := greedy(promptOf(201, 1), 0)
	req.PromptOnly = true
	if _, err := r.try(context.Background(), req); err == nil {
		t.Error("201 tokens in a context of 200 were taken")
	}
}

// Of a slow disk blocks are computed and not read, with the same result; when
// that is long ago, the disk is tried again.
func TestRestoreAuto(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	prompt := promptOf(200, 3)
	first := r.ask(greedy(prompt, 5).as("ada"))
	r.stop()

	next := append(slices.Clone(prompt), first.ids...)
	next = append(next, promptOf(5, 6)...)
	var answers []answer
	for _, slow := range []bool{false, true} {
		r = newRig(t, rigOptions{dir: copyDir(t, dir), restore: RestoreAuto})
		if slow {
			r.reading.Add(1, 1e9, r.now()) // a byte a second
			r.Engine.steps.Add(0, 1000, 1e9, r.now())
		}
		answers = append(answers, r.ask(greedy(next, 5).as("ada")))
		st := r.Stats()
		if got, want := [2]int64{st.Restored, st.Recomputed}, map[bool][2]int64{false: {3, 0}, true: {0, 3}}[slow]; got != want {
			t.Errorf("slow disk %v: blocks restored and recomputed %v, want %v", slow, got, want)
		}
		r.stop()
	}
	full := len(prompt) + len(first.ids) - 1
	if !answers[0].same(answers[1]) || answers[0].usage.Cached != full || answers[1].usage.Cached != 0 {
		t.Errorf("read:     %v\ncomputed: %v", answers[0], answers[1])
	}
}
