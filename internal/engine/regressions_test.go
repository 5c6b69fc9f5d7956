package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/store"
	"mneme/internal/tensor"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// Each test here is a defect that was found and mended.

// boundRig is a rig with a store queue bound and an observer of its own.
func boundRig(t testing.TB, o rigOptions, queueBytes int64, observe func(Step)) *rig {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.fs == nil {
		o.fs = vfs.Real()
	}
	f := openModelFile(t, o)
	k, err := tensor.Pick("")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, steps: &stepLog{}}
	if r.model, err = model.Load(f, k); err != nil {
		t.Fatal(err)
	}
	vocab, _ := token.FromMetadata(f)
	tok, err := token.New(vocab)
	if err != nil {
		t.Fatal(err)
	}
	if r.pool, err = kv.NewPool(r.model.Spec(kv.FormatQ4), o.poolBytes); err != nil {
		t.Fatal(err)
	}
	if r.store, err = store.Open(store.Options{FS: o.fs, Dir: o.dir, QueueBytes: queueBytes, ModelFingerprint: r.model.Fingerprint, KVFingerprint: r.model.KVFingerprint(kv.FormatQ4)}); err != nil {
		t.Fatal(err)
	}
	if r.Engine, err = New(Config{
		Name: "tiny", Model: r.model, Tokenizer: tok, Pool: r.pool, Store: r.store, MaxBatch: o.maxBatch, StepTokens: o.stepTokens, Threads: 2,
		Observe: func(s Step) {
			r.steps.add(s)
			if observe != nil {
				observe(s)
			}
		},
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// within says whether a stream ended in time, reading its outputs.
func within(s *Stream, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		if _, ok := s.Next(ctx); !ok {
			return ctx.Err() == nil
		}
	}
}

func (r *rig) submit(ctx context.Context, req Request) *Stream {
	r.t.Helper()
	req.Namespace = "default"
	s, err := r.Submit(ctx, req)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// end closes a rig whose turns may hang.
func (r *rig) end() {
	_ = r.Engine.Close()
	r.closeRooms()
}

// hold takes all places in the batch until the returned function is called.
func (r *rig) hold() (free func()) {
	n := int64(r.cfg.MaxBatch)
	r.admitted.Add(n)
	return func() { r.admitted.Add(-n); r.freed.Fire() }
}

// Hot agents fill the pool; each has its next turn queued. None can be cooled,
// none runs: nobody gives way.
func TestQueuedAgentsPinThePool(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: 1 << 20})
	defer r.end()
	history := map[string][]token.ID{}
	for i := range 4 {
		name := fmt.Sprintf("agent-%d", i)
		prompt := promptOf(1100, 3+i)
		history[name] = append(prompt, r.ask(greedy(prompt, 4).as(AgentID(name))).ids...)
	}
	hot := 0
	for _, a := range r.Agents("default") {
		if a.Tier == kv.TierHot {
			hot++
		}
	}
	free := r.hold()
	var all []*Stream
	for i := range 4 {
		name := fmt.Sprintf("agent-%d", i)
		all = append(all, r.submit(context.Background(), greedy(append(history[name], promptOf(700, 9+i)...), 4).as(AgentID(name))))
	}
	free()
	for i, s := range all {
		if !within(s, 2*time.Second) {
			t.Errorf("%d hot agents: turn of agent %d hangs: %d running, %d waiting", hot, i, r.Stats().Running, r.Stats().Waiting)
		}
	}
}

// An agent's own old blocks are in the way of its next, different turn.
func TestOwnBlocksPinThePool(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: 1 << 20})
	defer r.end()
	r.ask(greedy(promptOf(3400, 3), 4).as("ada"))
	if s := r.submit(context.Background(), greedy(promptOf(3400, 4), 4).as("ada")); !within(s, 5*time.Second) {
		t.Errorf("a turn that fits an empty pool hangs behind its agent's own old blocks: %d running, %d waiting", r.Stats().Running, r.Stats().Waiting)
	}
}

// A turn cancelled in the queue behind a head that waits for room ends only
// when it is popped.
func TestCancelledBehindTheHead(t *testing.T) {
	r := boundRig(t, rigOptions{poolBytes: 1 << 20}, 0, func(Step) { time.Sleep(5 * time.Millisecond) })
	defer r.end()
	r.submit(context.Background(), greedy(promptOf(3000, 3), 900))
	waitFor(t, "the first to run", func() bool { return r.Stats().TokensGenerated > 2 })
	r.submit(context.Background(), greedy(promptOf(3000, 4), 900)) // the head
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	s := r.submit(ctx, greedy(promptOf(20, 5), 4).as("bob"))
	cancel()
	if !within(s, time.Second) {
		t.Errorf("a turn cancelled a second ago still waits; %d waiting", r.Stats().Waiting)
	}
}

// A turn cancelled while the batch is full ends at once and holds nothing.
func TestCancelledBeforeTheBatch(t *testing.T) {
	r := boundRig(t, rigOptions{poolBytes: 8 << 20, maxBatch: 1}, 0, func(Step) { time.Sleep(5 * time.Millisecond) })
	defer r.end()
	r.submit(context.Background(), greedy(promptOf(20, 3), 2000))
	waitFor(t, "the first to run", func() bool { return r.Stats().TokensGenerated > 2 })
	ctx, cancel := context.WithCancel(context.Background())
	s := r.submit(ctx, greedy(promptOf(2000, 5), 4).as("bob"))
	time.Sleep(50 * time.Millisecond)
	used := r.Stats().Pool.UsedBytes()
	cancel()
	if !within(s, time.Second) {
		t.Errorf("cancelled a second ago, still holds %d bytes", r.Stats().Pool.UsedBytes()-used)
	}
}

// A turn cancelled while its blocks are read goes on reading all of them.
func TestCancelledInRestore(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	r.ask(greedy(promptOf(3000, 3), 4).as("ada"))
	r.stop()
	var slow atomic.Bool
	fs := vfs.NewFailing(vfs.Real(), func(op vfs.Op) error {
		if slow.Load() && op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".seg") {
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	})
	r = newRig(t, rigOptions{dir: dir, fs: fs})
	defer r.end()
	slow.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	s := r.submit(ctx, greedy(promptOf(3000, 3), 4))
	time.Sleep(50 * time.Millisecond)
	cancel()
	began := time.Now()
	if !within(s, 500*time.Millisecond) {
		within(s, 20*time.Second)
		t.Errorf("cancelled in restore, ended after %s and %d frames read", time.Since(began).Round(time.Millisecond), r.Stats().Store.ReadFrames)
	}
}

// Close admits and restores every queued turn before it fails it.
func TestCloseRestoresTheQueue(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	for i := range 4 {
		r.ask(greedy(promptOf(1000, 3+i), 4))
	}
	r.stop()
	r = newRig(t, rigOptions{dir: dir})
	free := r.hold()
	for i := range 4 {
		r.submit(context.Background(), greedy(promptOf(1000, 3+i), 4))
	}
	r.halt()
	free()
	_ = r.Engine.Close()
	if n := r.Stats().Store.ReadFrames; n > 0 {
		t.Errorf("%d frames read after the engine was told to stop", n)
	}
	r.closeRooms()
}

// slowDelete is a file system whose deletes of agents wait.
func slowDelete() (fs vfs.FS, begun chan struct{}, gate chan struct{}) {
	begun, gate = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return vfs.NewFailing(vfs.Real(), func(op vfs.Op) error {
		if op.Kind == vfs.OpRename && filepath.Base(filepath.Dir(op.Name)) == "agents" {
			once.Do(func() { close(begun); <-gate })
		}
		return nil
	}), begun, gate
}

// DeleteAgent that is on its way when the engine closes releases twice.
func TestDeleteWhileClosing(t *testing.T) {
	fs, begun, gate := slowDelete()
	r := newRig(t, rigOptions{fs: fs})
	r.ask(greedy(promptOf(200, 3), 4).as("ada"))
	result := make(chan any, 1)
	go func() {
		defer func() { result <- recover() }()
		_ = r.DeleteAgent("default", "ada")
	}()
	<-begun
	_ = r.Engine.Close()
	close(gate)
	if v := <-result; v != nil {
		t.Errorf("DeleteAgent: panic: %v", v)
	}
	r.closeRooms()
}

// A turn that waits for room is not woken by the delete that makes it.
func TestDeleteWakesNobody(t *testing.T) {
	fs, begun, gate := slowDelete()
	r := newRig(t, rigOptions{fs: fs, poolBytes: 1 << 20})
	defer r.end()
	r.ask(greedy(promptOf(3400, 3), 4).as("ada"))
	_ = r.store.Flush(context.Background())
	deleted := make(chan error)
	go func() { deleted <- r.DeleteAgent("default", "ada") }()
	<-begun
	s := r.submit(context.Background(), greedy(promptOf(3400, 4), 4))
	time.Sleep(100 * time.Millisecond) // it waits: ada is in use
	close(gate)
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	if !within(s, 2*time.Second) {
		r.freed.Fire()
		t.Errorf("the pool is empty, the turn still waits; after a wake-up by hand it ends: %t", within(s, 5*time.Second))
	}
}

// With a disk that refuses, every agent stays in memory for good, until nobody
// can be served: no error, no end.
func TestFullDiskFillsThePool(t *testing.T) {
	var full atomic.Bool
	fs := vfs.NewFailing(vfs.Real(), func(op vfs.Op) error {
		if full.Load() && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpCreate) {
			return errors.New("no space left on device")
		}
		return nil
	})
	r := newRig(t, rigOptions{fs: fs, poolBytes: 1 << 20})
	defer r.end()
	full.Store(true)
	for i := range 12 {
		s := r.submit(context.Background(), greedy(promptOf(800, 3+i), 4).as(AgentID(fmt.Sprint(i))))
		if !within(s, 5*time.Second) {
			t.Fatalf("turn %d of a new agent hangs: the pool is full of %d agents that cannot be stored", i, i)
		}
	}
}

// While the write-behind is full, stalled takes in sequences beyond the batch.
func TestStalledOverfillsTheBatch(t *testing.T) {
	gate := make(chan struct{})
	fs := vfs.NewFailing(vfs.Real(), func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".seg") {
			<-gate
		}
		return nil
	})
	r := boundRig(t, rigOptions{fs: fs, poolBytes: 32 << 20, maxBatch: 2}, 1, nil)
	defer r.end()
	var all []*Stream
	for i := range 30 {
		all = append(all, r.submit(context.Background(), greedy(promptOf(130, 3+i), 40)))
	}
	waitFor(t, "a full write-behind", func() bool { return !r.store.Room() })
	time.Sleep(300 * time.Millisecond)
	close(gate)
	failed := 0
	var why error
	for _, s := range all {
		within(s, 20*time.Second)
		if _, err := s.Result(); err != nil {
			failed, why = failed+1, err
		}
	}
	widest, _ := r.steps.largest()
	if widest > 2 || failed > 0 {
		t.Errorf("MaxBatch 2, a step had %d sequences; %d turns failed: %.150v", widest, failed, why)
	}
}

// A decode step should allocate nothing.
func TestDecodeAllocations(t *testing.T) {
	var before, after runtime.MemStats
	var steps atomic.Int64
	r := boundRig(t, rigOptions{poolBytes: 8 << 20}, 0, func(Step) {
		switch steps.Add(1) {
		case 200:
			runtime.ReadMemStats(&before)
		case 1200:
			runtime.ReadMemStats(&after)
		}
	})
	defer r.end()
	req := greedy(promptOf(20, 3), 1300)
	req.Sampling.Logprobs = -1
	req.Sampling.LogitBias = map[token.ID]float64{}
	for id := token.ID(0x7f); id < 259; id++ { // whole characters: their text is the vocabulary's own
		req.Sampling.LogitBias[id] = -100
	}
	s := r.submit(context.Background(), req)
	waitFor(t, "1,300 tokens", func() bool { return steps.Load() > 1290 })
	within(s, time.Second)
	// The check build recounts the pool after every step, which allocates.
	if n := float64(after.Mallocs-before.Mallocs) / 1000; n > 0.5 && !checked {
		t.Errorf("%.1f allocations and %d bytes per decode step", n, (after.TotalAlloc-before.TotalAlloc)/1000)
	}
}
