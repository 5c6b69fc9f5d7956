package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
	"mneme/internal/sample"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// textRequest is a greedy turn on rendered text.
func textRequest(text string, n int) Request {
	r := greedy(nil, n)
	r.Tokens, r.Text, r.IgnoreEOS = nil, text, false
	r.Sampling.LogitBias = map[token.ID]float64{}
	for id := range 259 { // the random model is to speak ASCII
		if id < ' ' || id > '~' {
			r.Sampling.LogitBias[token.ID(id)] = -100
		}
	}
	return r
}

// An agent's second turn over text computes only what is new, also when the
// first ended by length, by a stop string, or inside a character.
func TestTextKeepsItsIDs(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	for _, c := range []struct {
		name string
		stop bool
	}{{"length", false}, {"stop", true}} {
		first := textRequest(chatText("Hello there, who are you?"), 50)
		if c.stop { // a stop string that the unstopped answer contains
			probe := r.ask(first.in("probe"))
			text := []rune(probe.text)
			first.Stop = []string{string(text[len(text)/2 : len(text)/2+2])}
		}
		one := r.ask(first.as(AgentID(c.name)))
		if c.stop && (one.finish != FinishStop || strings.Contains(one.text, first.Stop[0])) {
			t.Fatalf("stop %q: finish %s, text %q", first.Stop[0], one.finish, one.text)
		}
		two := r.ask(textRequest(chatText("Hello there, who are you?", one.text, "And what do you do?"), 10).as(AgentID(c.name)))
		kept := two.usage.Cached - one.usage.Prompt
		if want := len(one.ids) - 1; !c.stop && kept != want {
			t.Errorf("%s: kept %d of %d generated tokens, want %d", c.name, kept, len(one.ids), want)
		}
		if kept < 0 {
			t.Errorf("%s: cached %d of a prompt of %d: less than the first prompt's %d", c.name, two.usage.Cached, two.usage.Prompt, one.usage.Prompt)
		}
		turns, err := r.Turns("default", AgentID(c.name))
		if err != nil || len(turns) != 2 {
			t.Errorf("%s: turns %+v, %v", c.name, turns, err)
		}
	}
}

// An answer with broken bytes inside, which callers see as U+FFFD, keeps its
// ids when it comes back.
func TestBrokenBytesKeepTheirIDs(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	broken := 0
	for i := range 20 {
		name := "agent-" + string(rune('a'+i))
		first := textRequest(chatText("Hello there, who are you?"), 30)
		first.Sampling.LogitBias, first.Sampling.Temperature, first.Sampling.Seed = nil, 1.5, uint64(i)
		one := r.ask(first.as(AgentID(name)))
		if one.finish != FinishLength || strings.Contains(one.text, "<|") {
			continue // its end is another test's
		}
		broken += strings.Count(one.text, "\uFFFD")
		two := r.ask(textRequest(chatText("Hello there, who are you?", one.text, "Go on."), 3).as(AgentID(name)))
		if want := one.usage.Prompt + len(one.ids) - 1; two.usage.Cached != want {
			t.Errorf("answer %q: cached %d, want %d", one.text, two.usage.Cached, want)
		}
		if turns, err := r.Turns("default", AgentID(name)); err != nil || len(turns) != 2 {
			t.Errorf("answer %q: %d turns, %v", one.text, len(turns), err)
		}
	}
	if broken == 0 {
		t.Error("no answer had broken bytes")
	}
}

// A text that cannot fit the context is refused before it is encoded.
func TestHugeTextIsRefusedUnread(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	var c *ContextError
	_, err := r.try(context.Background(), textRequest(strings.Repeat("a", 8<<20), 5))
	if !errors.As(err, &c) || !c.AtLeast {
		t.Errorf("8 MiB of text: %v", err)
	}
}

// Eight that start at once with a common new beginning compute it once.
func TestCommonBeginningIsComputedOnce(t *testing.T) {
	r := newRig(t, rigOptions{maxBatch: 8})
	defer r.stop()
	common := promptOf(2000, 3)
	alone := r.ask(greedy(append(append([]token.ID(nil), common...), promptOf(10, 20)...), 8).in("alone"))
	var mu sync.Mutex
	var wg sync.WaitGroup
	computed := 0
	for i := range 8 {
		wg.Go(func() {
			got, err := r.try(context.Background(), greedy(append(append([]token.ID(nil), common...), promptOf(10, 20+i)...), 8).as(AgentID("agent-"+string(rune('a'+i)))))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			computed += got.usage.Prompt - got.usage.Cached
			if i == 0 && !got.same(alone) {
				t.Errorf("followed %v, alone %v", got, alone)
			}
		})
	}
	wg.Wait()
	if limit := alone.usage.Prompt * 11 / 10; computed > limit {
		t.Errorf("eight agents computed %d tokens, one computes %d: more than %d", computed, alone.usage.Prompt, limit)
	}
}

// A pool too small for all at once: turns wait or give way, and answer as alone.
func TestShortPoolPreempts(t *testing.T) {
	big := newRig(t, rigOptions{})
	want := make([]answer, 6)
	for i := range want {
		want[i] = big.ask(greedy(promptOf(120, 30+i), 600))
	}
	big.stop()
	r := newRig(t, rigOptions{poolBytes: 1 << 20})
	defer r.stop()
	var wg sync.WaitGroup
	for i := range want {
		wg.Go(func() {
			got, err := r.try(context.Background(), greedy(promptOf(120, 30+i), 600).as(AgentID("agent-"+string(rune('a'+i)))))
			if err != nil || !got.same(want[i]) {
				t.Errorf("agent %d: %v (%v), alone %v", i, got, err, want[i])
			}
		})
	}
	wg.Wait()
	t.Logf("%d preemptions", r.Stats().Preempted)
	if r.Stats().Preempted == 0 {
		t.Error("nothing was preempted: the pool is not short")
	}
}

// A cancelled turn leaves its agent at the turn before; what it sealed stays.
func TestCancelledTurn(t *testing.T) {
	r := newRig(t, rigOptions{stepTokens: 16})
	defer r.stop()
	one := r.ask(greedy(promptOf(100, 3), 20).as("ada"))
	history := append(promptOf(100, 3), one.ids...)
	long := append(append([]token.ID(nil), history...), promptOf(1500, 9)...)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := r.Submit(ctx, greedy(long, 500).as("ada").in("default"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "some blocks of the long prompt", func() bool { return r.Stats().TokensComputed > 700 })
	cancel()
	for {
		if _, ok := s.Next(context.Background()); !ok {
			break
		}
	}
	if _, err := s.Result(); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled turn: %v", err)
	}
	if turns, _ := r.Turns("default", "ada"); len(turns) != 1 {
		t.Errorf("%d turns after a cancelled second one", len(turns))
	}
	again := r.ask(greedy(long, 4).as("ada"))
	if again.usage.Cached < 400 {
		t.Errorf("the same prompt found %d tokens of the cancelled turn", again.usage.Cached)
	}
	if alone := r.ask(greedy(long, 4).in("alone")); !again.same(alone) {
		t.Errorf("after a cancelled turn %v, alone %v", again, alone)
	}
}

// Turns of one agent run one at a time, in order.
func TestTurnsOfAnAgentQueue(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() { r.ask(greedy(promptOf(60, i), 30).as("ada")) })
	}
	wg.Wait()
	if widest, _ := r.steps.largest(); widest > 1 {
		t.Errorf("%d turns of one agent ran in one step", widest)
	}
	if info, err := r.Agent("default", "ada"); err != nil || info.Turns < 1 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A turn given up while it waits behind another of its agent is passed over.
func TestGivenUpBehindATurn(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	first := r.submit(context.Background(), greedy(promptOf(60, 1), 800).as("ada"))
	ctx, cancel := context.WithCancel(context.Background())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := r.Submit(ctx, greedy(promptOf(60, 2), 5).as("ada").in("default"))
		gaveUp <- err
	}()
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("given up with %v", err)
	}
	first.Close()
	r.ask(greedy(promptOf(60, 3), 5).as("ada"))
}

func TestAgentOperations(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	info, err := r.CreateAgent("default", "ada")
	if err != nil || info.Turns != 0 || info.ID != "ada" {
		t.Fatalf("created %+v, %v", info, err)
	}
	if _, err := r.CreateAgent("default", "ada"); !errors.Is(err, ErrAgentExists) {
		t.Errorf("second create: %v", err)
	}
	first := r.ask(greedy(promptOf(200, 3), 10).as("ada"))
	if info, _ = r.Agent("default", "ada"); info.Tier != kv.TierHot || info.Tokens != 210 || info.BytesHot == 0 || info.BytesDisk == 0 {
		t.Errorf("hot agent %+v", info)
	}
	if err := r.Evict(context.Background(), "default", "ada"); err != nil {
		t.Fatal(err)
	}
	if info, _ = r.Agent("default", "ada"); info.Tier != kv.TierWarm || info.BytesHot != 0 {
		t.Errorf("evicted agent %+v", info)
	}
	next := append(append(promptOf(200, 3), first.ids...), promptOf(20, 5)...)
	if got := r.ask(greedy(next, 5).as("ada")); got.start != StartRestored {
		t.Errorf("after evict: %v, start %s", got, got.start)
	}
	for _, missing := range []error{r.DeleteAgent("default", "bob"), r.Evict(context.Background(), "default", "bob")} {
		if !errors.Is(missing, ErrNoAgent) {
			t.Errorf("operation on nobody: %v", missing)
		}
	}
	r.stop()
	r = newRig(t, rigOptions{dir: dir})
	if all := r.Agents("default"); len(all) != 1 || all[0].Turns != 2 || all[0].Tier != kv.TierWarm {
		t.Errorf("after a restart: %+v", all)
	}
	if err := r.DeleteAgent("default", "ada"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r = newRig(t, rigOptions{dir: dir})
	defer r.stop()
	if all := r.Agents("default"); len(all) != 0 {
		t.Errorf("after delete and restart: %+v", all)
	}
}

// A turn that only memory has is not evicted; the next one that is stored can be.
func TestEvictKeepsWhatIsNotStored(t *testing.T) {
	var full atomic.Bool
	disk := vfs.NewFailing(vfs.NewCrashable(), func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite {
			return syscall.ENOSPC
		}
		return nil
	})
	r := newRig(t, rigOptions{fs: disk, dir: "/data"})
	defer r.stop()
	full.Store(true)
	first, err := r.try(context.Background(), greedy(promptOf(100, 3), 4).as("ada"))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("turn on a full disk: %v", err)
	}
	if err := r.Evict(context.Background(), "default", "ada"); !errors.Is(err, ErrNotStored) {
		t.Errorf("evict of a turn that is nowhere else: %v", err)
	}
	full.Store(false)
	next := append(append(promptOf(100, 3), first.ids...), 40)
	if got := r.ask(greedy(next, 4).as("ada")); got.start != StartHot || got.turn != 2 {
		t.Errorf("next turn: start %s, turn %d", got.start, got.turn)
	}
	if err := r.Evict(context.Background(), "default", "ada"); err != nil {
		t.Errorf("evict of a stored turn: %v", err)
	}
}

// An agent belongs to the model that made it.
func TestOtherModelIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	r.ask(greedy(promptOf(80, 3), 5).as("ada"))
	r.stop()
	r = newRig(t, rigOptions{dir: dir, file: modeltest.File(2)})
	defer r.stop()
	if _, err := r.try(context.Background(), greedy(promptOf(80, 3), 5).as("ada")); !errors.Is(err, ErrOtherModel) {
		t.Errorf("another model's agent: %v", err)
	}
}

// Another KV format keeps the agent and computes its blocks again.
func TestOtherFormatKeepsTheAgent(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir, format: kv.FormatQ8})
	first := r.ask(greedy(promptOf(150, 3), 5).as("ada"))
	r.stop()
	r = newRig(t, rigOptions{dir: dir, format: kv.FormatQ4})
	defer r.stop()
	next := append(append(promptOf(150, 3), first.ids...), promptOf(5, 6)...)
	got := r.ask(greedy(next, 5).as("ada"))
	if got.usage.Cached != 0 || got.turn != 2 {
		t.Errorf("turn %d, cached %d tokens of another format", got.turn, got.usage.Cached)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, rigOptions{context: 300, poolBytes: 512 << 10})
	defer r.stop()
	var input *InputError
	var context_ *ContextError
	bad := greedy(promptOf(10, 1), 5)
	bad.Sampling.Temperature = -1
	for name, c := range map[string]struct {
		req  Request
		want any
	}{
		"empty prompt":      {Request{Sampling: sample.Defaults()}, &input},
		"unknown token":     {greedy([]token.ID{1, 9999}, 5), &input},
		"negative tokens":   {greedy(promptOf(10, 1), -5), &input},
		"bad temperature":   {bad, &input},
		"too long a prompt": {greedy(promptOf(300, 1), 5), &context_},
	} {
		if _, err := r.try(context.Background(), c.req); err == nil || !errors.As(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := r.ask(greedy(promptOf(290, 1), 50)); len(got.ids) != 10 || got.finish != FinishLength {
		t.Errorf("a prompt of 290 in a context of 300 gave %d tokens, %s", len(got.ids), got.finish)
	}
}

// A prompt that could never fit the pool is refused, not queued for ever.
func TestCapacity(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: 256 << 10})
	defer r.stop()
	var capacity *CapacityError
	if _, err := r.try(context.Background(), greedy(promptOf(3000, 1), 5)); !errors.As(err, &capacity) {
		t.Errorf("3,000 tokens into 256 KiB: %v", err)
	}
	r.ask(greedy(promptOf(100, 1), 5))
}

// Nothing is left open: files, goroutines (TestMain), blocks (stop).
func TestNothingLeaks(t *testing.T) {
	before := openFiles(t)
	r := newRig(t, rigOptions{})
	for i := range 3 {
		r.ask(sampled(promptOf(150, i), 30).as("ada"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := r.Submit(ctx, greedy(promptOf(100, 5), 3000).in("default"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	cancel()
	r.stop()
	waitFor(t, "file descriptors to close", func() bool { return openFiles(t) <= before })
}

// Close in mid-turn ends the turn with a reason and hangs nobody.
func TestCloseInMidTurn(t *testing.T) {
	r := newRig(t, rigOptions{})
	s, err := r.Submit(context.Background(), greedy(promptOf(100, 5), 3000).in("default"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if err := r.Engine.Close(); err != nil {
		t.Error(err)
	}
	for {
		if _, ok := s.Next(context.Background()); !ok {
			break
		}
	}
	if _, err := s.Result(); !errors.Is(err, ErrDraining) {
		t.Errorf("turn at close: %v", err)
	}
	if _, err := r.Submit(context.Background(), greedy(promptOf(10, 5), 3).in("default")); !errors.Is(err, ErrDraining) {
		t.Errorf("submit after close: %v", err)
	}
	r.closeRooms()
}
