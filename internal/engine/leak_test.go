package engine

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// generation is one distinct agent with two turns, then gone.
func (r *rig) generation(i int, keep bool) {
	r.t.Helper()
	name := fmt.Sprintf("agent-%d", i)
	first := r.ask(greedy(promptOfGeneration(i), 8).as(AgentID(name)))
	r.ask(greedy(append(append(promptOfGeneration(i), first.ids...), promptOf(20, i+1)...), 8).as(AgentID(name)))
	if keep {
		return
	}
	if err := r.DeleteAgent("default", AgentID(name)); err != nil {
		r.t.Fatal(err)
	}
}

// promptOfGeneration begins with the number, so that no two share a block.
func promptOfGeneration(i int) []token.ID {
	var prompt []token.ID
	for _, c := range fmt.Sprintf("%06d", i) {
		prompt = append(prompt, token.ID(c))
	}
	return append(prompt, promptOf(90+i%50, i)...)
}

// heapInUse is the heap after two collections.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// anonymousRSS is the process's anonymous memory in bytes.
func anonymousRSS(t testing.TB) int {
	t.Helper()
	f, err := os.Open("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kb int
		if strings.HasPrefix(lines.Text(), "Anonymous:") {
			if _, err := fmt.Sscanf(lines.Text(), "Anonymous: %d kB", &kb); err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no Anonymous line")
	return 0
}

// held counts the pool's reserved and held blocks.
func (r *rig) held() (n int) {
	for _, c := range r.pool.Stats().Classes {
		n += c.Reserved + c.Held
	}
	return n
}

// TestNoMemoryLeakOver100Generations: distinct agents come and are deleted;
// pool, heap, goroutines and descriptors are as before.
func TestNoMemoryLeakOver100Generations(t *testing.T) {
	r := newRig(t, rigOptions{threads: 1, poolBytes: 4 << 20})
	defer r.stop()
	for i := range 20 {
		r.generation(i, false)
	}
	settle := func() {
		if err := r.store.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	held, heap, goroutines, files := r.held(), heapInUse(), runtime.NumGoroutine(), openFiles(t)
	for i := range 100 {
		r.generation(20+i, false)
	}
	settle()
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if n := r.held(); n != held {
		t.Errorf("%d blocks held, %d before", n, held)
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d files open, %d before", n, files)
	}
	// What grows is the index of what is on disk: some hundred bytes a block.
	if after := heapInUse(); after > heap+1<<20 {
		t.Errorf("heap in use went from %d to %d bytes", heap, after)
	}
}

// TestRSSOverGenerations: after a warm-up, anonymous memory does not climb by
// more than 1 MB per 100 generations.
func TestRSSOverGenerations(t *testing.T) {
	generations := 300 // 1,000 in the soak build
	if soak {
		generations = 1000
	}
	r := newRig(t, rigOptions{threads: 1, poolBytes: 2 << 20})
	defer r.stop()
	for i := range 100 {
		r.generation(i, false)
	}
	var samples []float64
	for i := range generations {
		r.generation(100+i, false)
		if i%10 == 9 {
			runtime.GC()
			samples = append(samples, float64(anonymousRSS(t)))
		}
	}
	slope := slopeOf(samples) * 10 // bytes per 100 generations
	t.Logf("%d generations: %.0f bytes per 100", generations, slope)
	if slope > 1<<20 {
		t.Errorf("anonymous memory climbs by %.0f bytes per 100 generations", slope)
	}
}

// slopeOf is the least-squares slope of equidistant samples.
func slopeOf(y []float64) float64 {
	var sx, sy, sxx, sxy float64
	for i, v := range y {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+v, sxx+x*x, sxy+x*v
	}
	n := float64(len(y))
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// TestManyAgentsInASmallPool: agents cycle through a pool that holds about
// twenty; all are remembered, and one comes back from disk at no cost.
func TestManyAgentsInASmallPool(t *testing.T) {
	agents := 200
	if soak {
		agents = 1000
	}
	r := newRig(t, rigOptions{threads: 1})
	spec := r.pool.Spec()
	r.stop()
	each := int64(spec.BlockBytes(0, spec.Format.Form(0)) + spec.BlockBytes(0, spec.Format.Form(1)) + 2*spec.BlockBytes(0, spec.Format.Open()))
	r = newRig(t, rigOptions{threads: 1, poolBytes: 20 * each})
	defer r.stop()
	for i := range agents {
		r.generation(i, true)
	}
	if n := len(r.Agents("default")); n != agents {
		t.Errorf("%d agents are listed, want %d", n, agents)
	}
	hot := 0
	for _, a := range r.Agents("default") {
		if a.Tier == kv.TierHot {
			hot++
		}
	}
	if hot == 0 || hot > 60 {
		t.Errorf("%d of %d agents are hot in a pool for about 20", hot, agents)
	}
	first := r.ask(greedy(append(promptOfGeneration(0), promptOf(60, 1)...), 4).as("agent-0"))
	if first.start != StartRestored || first.usage.Cached < kv.BlockTokens {
		t.Errorf("agent-0 came back %s with %d cached", first.start, first.usage.Cached)
	}
}

// TestLongTurnGrowsByItsTokens: the pool's bytes of a long turn are its blocks
// and nothing else, during and after it.
func TestLongTurnGrowsByItsTokens(t *testing.T) {
	r := newRig(t, rigOptions{threads: 1, poolBytes: 16 << 20})
	defer r.stop()
	spec := r.pool.Spec()
	got := r.ask(greedy(promptOf(1000, 3), 1500).as("ada"))
	tokens := 1000 + len(got.ids) - 1
	if err := r.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := int64(spec.BlockBytes(0, spec.Format.Form(0)) + (tokens/kv.BlockTokens-1)*spec.BlockBytes(0, spec.Format.Form(1)) + spec.BlockBytes(0, spec.Format.Open()))
	if used := r.pool.Stats().UsedBytes(); used != want {
		t.Errorf("%d tokens hold %d bytes, their blocks are %d", tokens, used, want)
	}
}

// TestNoKVOutsideThePool: while a long turn of the real model runs and after it,
// the process grows by the pool's slabs and by next to nothing else.
func TestNoKVOutsideThePool(t *testing.T) {
	r := newRig(t, rigOptions{path: testkit.SmolLM2(t), format: kv.FormatQ8, poolBytes: 512 << 20, context: 4096})
	defer r.stop()
	r.ask(greedy(promptOf(600, 1), 4)) // scratch and buffers are in use
	inSlabs := func() int64 { s := r.pool.Stats(); return s.TotalBytes - s.UnusedBytes }
	rss, slabs := anonymousRSS(t), inSlabs()
	r.ask(greedy(promptOf(3000, 2), 64).as("ada"))
	runtime.GC()
	grown, pool := int64(anonymousRSS(t)-rss), inSlabs()-slabs
	t.Logf("3,064 tokens: the pool took %d MB of slabs, the process grew by %d MB", pool>>20, grown>>20)
	if pool < 20<<20 {
		t.Errorf("the pool took %d bytes for 3,064 tokens", pool)
	}
	if grown > pool+16<<20 {
		t.Errorf("the process grew by %d bytes, the pool by %d", grown, pool)
	}
}
