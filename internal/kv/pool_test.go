package kv

import (
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"mneme/internal/quant"
	"mneme/internal/token"
)

// small is a spec of two layers with one head of 16 dims: blocks of some KB.
func small(format Format) Spec {
	return Spec{Format: format, Groups: []Group{{Layers: []int{0, 1}, KVHeads: 1, KDim: 16, VDim: 16}}}
}

var testScope = Scope{Fingerprint: "f", Namespace: "default"}

// newTestPool holds open blocks full-precision blocks, or more sealed ones.
func newTestPool(t testing.TB, format Format, open int) *Pool {
	t.Helper()
	spec := small(format)
	p, err := NewPool(spec, int64(open*spec.BlockBytes(0, format.Open())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// ids are n tokens that begin alike for equal seeds.
func ids(n, seed int) []token.ID {
	out := make([]token.ID, n)
	for i := range out {
		out[i] = token.ID(seed*1000 + i)
	}
	return out
}

// grow appends tokens to g in steps, writing each token's number into the open
// block's first K row as a stand-in for its KV.
func grow(t testing.TB, g *Growing, tokens []token.ID, step int) {
	t.Helper()
	for len(tokens) > 0 {
		n := min(step, len(tokens))
		if need := g.Missing(g.Len()+n, 512); !need.Empty() {
			r, ok := g.pool.Allocate(need)
			if !ok {
				t.Fatalf("pool too small for %+v", need)
			}
			g.Stock(r)
		}
		for _, s := range g.Plan(n) {
			for _, id := range s.Open {
				for pos := int(s.From); id != NoBlock && pos < int(s.To); pos++ {
					k, _ := g.pool.Half(id, 0, 0)
					k[2*(pos%BlockTokens)] = byte(tokens[pos-g.Len()])
				}
			}
		}
		g.Commit(tokens[:n])
		tokens = tokens[n:]
	}
	g.Plan(0) // the next step would begin with it: windows slide
}

func newGrowing(t testing.TB, p *Pool) *Growing {
	t.Helper()
	r, ok := p.Allocate(Need{})
	if !ok {
		t.Fatal("empty need refused")
	}
	return NewGrowing(p, testScope, r)
}

func (s Stats) form(f quant.KVForm) ClassStats {
	for _, c := range s.Classes {
		if c.Form == f {
			return c
		}
	}
	return ClassStats{}
}

func counts(c ClassStats) string {
	return fmt.Sprintf("reserved %d held %d cached %d", c.Reserved, c.Held, c.Cached)
}

// A turn of 150 tokens: block 0 as q8, block 1 as q4, 22 tokens open. Released,
// the sealed ones stay findable, the open one is free.
func TestTurnOfATable(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	g := newGrowing(t, p)
	grow(t, g, ids(150, 1), 50)
	a := g.Freeze()
	if err := p.Check(a); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	for form, want := range map[quant.KVForm]string{
		quant.KVQ8:  "reserved 0 held 1 cached 0",
		quant.KVQ4:  "reserved 0 held 1 cached 0",
		quant.KVF16: "reserved 0 held 1 cached 0",
	} {
		if got := counts(s.form(form)); got != want {
			t.Errorf("%s: %s, want %s", form, got, want)
		}
	}
	a.Release()
	s = p.Stats()
	if q4, f16 := counts(s.form(quant.KVQ4)), counts(s.form(quant.KVF16)); q4 != "reserved 0 held 0 cached 1" || f16 != "reserved 0 held 0 cached 0" {
		t.Errorf("after release: q4 %s, f16 %s", q4, f16)
	}
	keys := testScope.Chain(ids(150, 1), BlockTokens)
	found, ok := p.Lookup(keys[1])
	if !ok {
		t.Fatal("a cached block is not found")
	}
	p.Free(found...)
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Two that begin alike: the second's seal adopts the first's block.
func TestSealAdoptsAPresentKey(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	first, second := newGrowing(t, p), newGrowing(t, p)
	grow(t, first, ids(64, 1), 64)
	grow(t, second, ids(64, 1), 64)
	a, b := first.Freeze(), second.Freeze()
	if a.SealedBlock(0, 0) != b.SealedBlock(0, 0) {
		t.Errorf("blocks %d and %d for one key", a.SealedBlock(0, 0), b.SealedBlock(0, 0))
	}
	if err := p.Check(a, b); err != nil {
		t.Fatal(err)
	}
	a.Release()
	b.Release()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// A retained old table sees the same bytes whatever later turns do: append in
// place, roll back inside the open block, drop.
func TestOldTableKeepsItsBytes(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	g := newGrowing(t, p)
	grow(t, g, ids(70, 1), 35)
	old := g.Freeze()
	bytesOf := func() string {
		id, n := old.OpenBlock(0)
		buf := make([]byte, p.Spec().TailBytes(0, n))
		p.CopyTailOut(buf, id, n)
		return string(buf)
	}
	before := bytesOf()
	for _, turn := range []struct{ keep, add int }{{70, 30}, {67, 40}, {70, 200}, {64, 10}} {
		next := newGrowing(t, p)
		if r, ok := p.Allocate(Need{Open: 2}); ok {
			next.Stock(r)
		}
		next.ResumeSealed(old, 1)
		if turn.keep > 64 {
			next.ResumeOpen(old, turn.keep)
		}
		grow(t, next, ids(turn.add, 7), 13)
		if bytesOf() != before {
			t.Fatalf("a turn that kept %d and added %d changed the old table's bytes", turn.keep, turn.add)
		}
		next.Drop()
	}
	if err := p.Check(old); err != nil {
		t.Fatal(err)
	}
	old.Release()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Allocate gives all or none, and cached blocks make room, oldest first.
func TestAllocateAllOrNone(t *testing.T) {
	p := newTestPool(t, FormatF16, 48)
	total := p.Stats().UnusedBytes / int64(p.Spec().BlockBytes(0, quant.KVF16))
	if _, ok := p.Allocate(Need{Open: int(total) + 1}); ok {
		t.Fatal("more blocks than there are")
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for seed := range 3 {
		g := newGrowing(t, p)
		grow(t, g, ids(128, seed), 64)
		g.Drop()
	}
	r, ok := p.Allocate(Need{Open: int(total) - 5})
	if !ok {
		t.Fatal("cached blocks did not make room")
	}
	oldest, youngest := testScope.Chain(ids(128, 0), BlockTokens), testScope.Chain(ids(128, 2), BlockTokens)
	if p.Contains(oldest[1]) || !p.Contains(oldest[0]) || !p.Contains(youngest[1]) {
		t.Error("not the tail of the sequence unused for longest was dropped")
	}
	r.Return()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// A slab changes class when its blocks are free or cached only.
func TestSlabsChangeClass(t *testing.T) {
	p := newTestPool(t, FormatQ4, 8)
	for seed := range 40 { // fills every slab with cached q4 blocks
		g := newGrowing(t, p)
		grow(t, g, ids(256, seed), 64)
		g.Drop()
	}
	slots := int(p.BudgetBytes()) / p.Spec().BlockBytes(0, quant.KVF16)
	r, ok := p.Allocate(Need{Open: slots})
	if !ok {
		t.Fatalf("%d open blocks do not fit an idle pool", slots)
	}
	r.Return()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestUndoGivesThePlanBack(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	g := newGrowing(t, p)
	grow(t, g, ids(60, 1), 60)
	r, _ := p.Allocate(g.Missing(200, 512))
	g.Stock(r)
	g.Plan(140)
	g.Undo()
	g.Plan(140)
	g.Commit(ids(140, 2))
	a := g.Freeze()
	if a.Len() != 200 || p.Check(a) != nil {
		t.Fatalf("%d tokens, %v", a.Len(), p.Check(a))
	}
	a.Release()
}

// Operations of many goroutines: every instant's numbers add up, and nothing
// is left at the end.
func TestConcurrentAllocation(t *testing.T) {
	p := newTestPool(t, FormatQ4, 96)
	stop, watcher := make(chan struct{}), sync.WaitGroup{}
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				checkSnapshot(t, p.Stats())
			}
		}
	})
	var workers sync.WaitGroup
	for w := range 10 {
		workers.Go(func() {
			for round := range 1000 {
				g := newGrowing(t, p)
				r, ok := p.Allocate(p.NeedFor(200, 512))
				if !ok {
					continue
				}
				g.Stock(r)
				grow(t, g, ids(64+(w*round)%130, round%4), 64)
				a := g.Freeze()
				b := a.Retain()
				a.Release()
				b.Release()
			}
		})
	}
	workers.Wait()
	close(stop)
	watcher.Wait()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

func checkSnapshot(t *testing.T, s Stats) {
	var bytes int64
	for _, c := range s.Classes {
		if c.Free+c.Reserved+c.Held+c.Cached != c.Total || c.Free < 0 || c.Reserved < 0 || c.Held < 0 || c.Cached < 0 {
			t.Errorf("%+v does not add up", c)
		}
		bytes += int64(c.Total) * c.BlockBytes
	}
	if bytes+s.UnusedBytes > s.TotalBytes {
		t.Errorf("%d bytes in classes and %d unused of %d", bytes, s.UnusedBytes, s.TotalBytes)
	}
}

// The pool against a plain model: any order of turns, forks, rollbacks and
// releases leaves exactly the live tables' blocks held.
func TestPoolStateMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newTestPool(t, rapid.SampledFrom([]Format{FormatQ3, FormatQ4, FormatQ8, FormatF16}).Draw(rt, "format"), 200)
		var live []*AgentBlocks
		rt.Repeat(map[string]func(*rapid.T){
			"turn": func(rt *rapid.T) {
				g := newGrowing(t, p)
				grow(t, g, ids(rapid.IntRange(1, 200).Draw(rt, "tokens"), rapid.IntRange(0, 3).Draw(rt, "seed")), rapid.SampledFrom([]int{1, 7, 64, 512}).Draw(rt, "chunk"))
				live = append(live, g.Freeze())
			},
			"continue": func(rt *rapid.T) {
				if len(live) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(live)-1).Draw(rt, "table")
				live[i] = continueTable(t, rt, p, live[i])
			},
			"fork": func(rt *rapid.T) {
				if len(live) == 0 {
					rt.Skip()
				}
				live = append(live, live[rapid.IntRange(0, len(live)-1).Draw(rt, "table")].Retain())
			},
			"release": func(rt *rapid.T) {
				if len(live) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(live)-1).Draw(rt, "table")
				live[i].Release()
				live = append(live[:i], live[i+1:]...)
			},
			"": func(rt *rapid.T) {
				if err := p.Check(live...); err != nil {
					rt.Fatal(err)
				}
			},
		})
		for _, a := range live {
			a.Release()
		}
		if err := p.Check(); err != nil {
			rt.Fatal(err)
		}
	})
}

func continueTable(t *testing.T, rt *rapid.T, p *Pool, a *AgentBlocks) *AgentBlocks {
	g := newGrowing(t, p)
	keep := rapid.IntRange(0, a.Len()).Draw(rt, "keep")
	r, ok := p.Allocate(Need{Open: 2})
	if !ok {
		rt.Fatal("pool too small")
	}
	g.Stock(r)
	g.ResumeSealed(a, keep/BlockTokens)
	if len(g.Keys()) == len(a.Keys()) && keep > g.Len() {
		g.ResumeOpen(a, keep)
	}
	grow(t, g, ids(rapid.IntRange(1, 150).Draw(rt, "add"), 9), rapid.SampledFrom([]int{1, 50}).Draw(rt, "step"))
	a.Release()
	return g.Freeze()
}
