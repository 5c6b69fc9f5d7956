package kv

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"mneme/internal/quant"
)

// windowed is a spec of one full layer and two that look back 100 positions.
func windowed() Spec {
	return Spec{Format: FormatQ4, Groups: []Group{
		{Layers: []int{0}, KVHeads: 1, KDim: 16, VDim: 16},
		{Layers: []int{1, 2}, KVHeads: 1, KDim: 16, VDim: 16, Window: 100},
	}}
}

func newWindowedPool(t testing.TB) *Pool {
	t.Helper()
	p, err := NewPool(windowed(), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// heldIn counts a group's held blocks over all forms.
func heldIn(p *Pool, group int) (n int) {
	for _, c := range p.Stats().Classes {
		if c.Group == group {
			n += c.Held
		}
	}
	return n
}

// A window group holds ceil(window/block)+1 blocks, however long the sequence.
func TestWindowGroupHoldsItsWindow(t *testing.T) {
	p := newWindowedPool(t)
	g := newGrowing(t, p)
	for _, c := range []struct{ tokens, full, window int }{{63, 1, 1}, {64, 1, 1}, {130, 3, 3}, {200, 4, 3}, {1000, 16, 3}} {
		grow(t, g, ids(c.tokens, 1)[g.Len():], 50)
		if full, window := heldIn(p, 0), heldIn(p, 1); full != c.full || window != c.window {
			t.Errorf("%d tokens: %d and %d blocks held, want %d and %d", c.tokens, full, window, c.full, c.window)
		}
	}
	if from := g.FirstHeld(1); from != 13 {
		t.Errorf("the window begins at block %d, want 13", from)
	}
	if first, later := g.Lines(1); len(first) != 0 || len(later) != 2 {
		t.Errorf("lines of the window: %d and %d, want 0 and 2", len(first), len(later))
	}
	a := g.Freeze()
	if err := p.Check(a); err != nil {
		t.Fatal(err)
	}
	a.Release()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// What an agent is said to take is what its table takes, whatever its groups.
func TestTableBytes(t *testing.T) {
	p := newWindowedPool(t)
	for _, n := range []int{1, 63, 65, 130, 200, 1000} {
		g := newGrowing(t, p)
		grow(t, g, ids(n, 1), 50)
		a := g.Freeze()
		if have, _ := a.Bytes(); have != p.Spec().TableBytes(n) {
			t.Errorf("%d tokens take %d bytes, said are %d", n, have, p.Spec().TableBytes(n))
		}
		a.Release()
	}
}

// A sequence that takes over many blocks and then reads others from disk still has
// those that it reserved for its window.
func TestWindowFollowsThenRestores(t *testing.T) {
	p := newWindowedPool(t)
	tokens := ids(20*BlockTokens, 1)
	keys := testScope.Chain(tokens, BlockTokens)
	stock, _ := p.Allocate(p.NeedFor(len(tokens)+1, BlockTokens))
	late := NewGrowing(p, testScope, stock)
	first := newGrowing(t, p)
	for i := range 10 { // another comes before it
		grow(t, first, tokens[i*BlockTokens:(i+1)*BlockTokens], BlockTokens)
		found, ok := p.Lookup(keys[i])
		if !ok {
			t.Fatalf("block %d is not there", i)
		}
		late.FollowSealed(keys[i], tokens[i*BlockTokens:(i+1)*BlockTokens], found)
	}
	n, err := late.RestoreSealed(keys[10:], tokens[10*BlockTokens:], func(int, int, BlockID) error { return nil })
	if n != 10 || err != nil || late.Check() != nil {
		t.Errorf("%d blocks restored, %v; table: %v", n, err, late.Check())
	}
	first.Drop()
	late.Drop()
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// Bytes of a long sequence: capped layers cost their window only.
func TestWindowCapsBytes(t *testing.T) {
	capped, whole := newWindowedPool(t), windowed()
	whole.Groups[1].Window = 0
	open, err := NewPool(whole, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	a, b := newGrowing(t, capped), newGrowing(t, open)
	grow(t, a, ids(2000, 1), 64)
	grow(t, b, ids(2000, 1), 64)
	x, y := capped.Stats().UsedBytes(), open.Stats().UsedBytes()
	if 2*x > y {
		t.Errorf("capped %d bytes, whole %d: less than half was expected", x, y)
	}
	a.Drop()
	b.Drop()
}

// A table of 8,190 tokens of a model like Gemma 3 12B (48 layers of 8 KV heads
// of 256, five of six looking back 1,024), its open block included, takes less
// than 1/3.3 of what it would without windows; a running turn, which also holds
// the blocks of a step and two open ones in reserve, less than 1/2.7.
func TestWindowCapsOfALargeModel(t *testing.T) {
	for _, format := range []Format{FormatQ3, FormatQ4, FormatQ8, FormatF16} {
		turn, table := largeModel(t, format, 1024)
		turnWhole, tableWhole := largeModel(t, format, 0)
		t.Logf("%s: table %d of %d MiB (1/%.2f), running turn %d of %d (1/%.2f)", format, table>>20, tableWhole>>20, float64(tableWhole)/float64(table),
			turn>>20, turnWhole>>20, float64(turnWhole)/float64(turn))
		if 33*table > 10*tableWhole || 27*turn > 10*turnWhole {
			t.Errorf("%s: table %d of %d bytes, running turn %d of %d", format, table, tableWhole, turn, turnWhole)
		}
	}
}

// largeModel gives what a turn to 8,190 tokens reserves at most, and what its
// table holds; next to nothing of the pool is written to.
func largeModel(t *testing.T, format Format, window int) (turn, table int64) {
	t.Helper()
	const tokens, step = 8190, 256
	full := Group{KVHeads: 8, KDim: 256, VDim: 256}
	local := full
	local.Window = window
	for i := range 48 {
		if i%6 == 5 {
			full.Layers = append(full.Layers, i)
		} else {
			local.Layers = append(local.Layers, i)
		}
	}
	p, err := NewPool(Spec{Format: format, Groups: []Group{full, local}}, 8<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	turn = p.Bytes(p.NeedFor(tokens, step))
	g := newGrowing(t, p)
	grow(t, g, ids(tokens, 1), step)
	turn = max(turn, p.Stats().UsedBytes())
	a := g.Freeze()
	defer a.Release()
	return turn, p.Stats().UsedBytes()
}

// A prefix counts only if every group can serve it: the full group has all of
// it, the window group the blocks before its end.
func TestMatchNeedsEveryGroup(t *testing.T) {
	p := newWindowedPool(t)
	g := newGrowing(t, p)
	grow(t, g, ids(640, 1), 64)
	keys := append([]Key(nil), g.Keys()...)
	g.Drop() // ten blocks of each group are cached
	drop := func(group, block int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.evictLocked(p.index[indexKey{keys[block], group}])
	}
	match := func() (n int, shape string) {
		ids := p.Match(keys)
		for _, block := range ids {
			for g, id := range block {
				mark := "x"
				if id == NoBlock {
					mark = "."
				} else {
					p.Free(id)
				}
				shape += fmt.Sprintf("%d%s ", g, mark)
			}
		}
		return len(ids), shape
	}
	steps := []struct {
		do   func()
		want int
	}{
		{func() {}, 10},
		{func() { drop(1, 2) }, 10},    // far behind the window of the end
		{func() { drop(1, 9) }, 9},     // the window of 10 blocks is torn, that of 9 is whole
		{func() { drop(0, 6) }, 6},     // the full group ends at 6
		{func() { drop(1, 5) }, 5},     // needs 4 and 3
		{func() { drop(1, 4) }, 4 - 0}, // blocks 3 and 2 are needed, 2 is gone
	}
	steps[5].want = 2
	for i, s := range steps {
		s.do()
		if n, shape := match(); n != s.want {
			t.Errorf("step %d: %d blocks match (%s), want %d", i, n, shape, s.want)
		}
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// A table whose window has passed cannot begin a shorter sequence; its full
// group alone does not help.
func TestResumeAcrossTheWindow(t *testing.T) {
	p := newWindowedPool(t)
	g := newGrowing(t, p)
	grow(t, g, ids(640, 1), 64)
	a := g.Freeze()
	defer a.Release()
	for _, c := range []struct{ ask, want int }{{10, 10}, {9, 0}, {3, 0}} {
		next := newGrowing(t, p)
		next.ResumeSealed(a, c.ask)
		if got := len(next.Keys()); got != c.want {
			t.Errorf("resumed %d blocks of %d asked, want %d", got, c.ask, c.want)
		}
		next.Drop()
	}
	if err := p.Check(a); err != nil {
		t.Fatal(err)
	}
}

// A cached latent has keys only: half of the bytes, no V half.
func TestLatentGroup(t *testing.T) {
	latent := Spec{Format: FormatQ8, Groups: []Group{{Layers: []int{0, 1}, KVHeads: 1, KDim: 48}}}
	both := Spec{Format: FormatQ8, Groups: []Group{{Layers: []int{0, 1}, KVHeads: 1, KDim: 48, VDim: 48}}}
	if 2*latent.BlockBytes(0, quant.KVQ8) > both.BlockBytes(0, quant.KVQ8) {
		t.Errorf("latent block of %d bytes, with values %d", latent.BlockBytes(0, quant.KVQ8), both.BlockBytes(0, quant.KVQ8))
	}
	p, err := NewPool(latent, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	g := newGrowing(t, p)
	grow(t, g, ids(100, 1), 30)
	a := g.Freeze()
	if k, v := p.Half(a.SealedBlock(0, 0), 1, 0); len(k) == 0 || v != nil {
		t.Errorf("halves of %d and %d bytes", len(k), len(v))
	}
	id, n := a.OpenBlock(0)
	tail := make([]byte, p.Spec().TailBytes(0, n))
	p.CopyTailOut(tail, id, n)
	a.Release()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Reconfigure waits for nobody: it is refused while a block lives, drops what
// is cached, and recomputes capacity from the same bytes.
func TestReconfigure(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	budget := p.BudgetBytes()
	g := newGrowing(t, p)
	grow(t, g, ids(100, 1), 100)
	key := g.Keys()[0]
	if err := p.Reconfigure(windowed()); err == nil {
		t.Fatal("reconfigured under a live table")
	}
	g.Drop()
	r, _ := p.Allocate(Need{Open: 1})
	if err := p.Reconfigure(windowed()); err == nil {
		t.Fatal("reconfigured under a reservation")
	}
	r.Return()
	if err := p.Reconfigure(Spec{Format: "q5"}); err == nil {
		t.Fatal("reconfigured to nonsense")
	}
	if !p.Contains(key) {
		t.Error("a refused reconfigure dropped a cached block")
	}
	if err := p.Reconfigure(windowed()); err != nil {
		t.Fatal(err)
	}
	s := p.Stats()
	if len(s.Classes) != 6 || s.UnusedBytes != s.TotalBytes || s.TotalBytes > budget+int64(p.slabBytes) || p.Contains(key) {
		t.Errorf("after reconfigure: %+v", s)
	}
	next := newGrowing(t, p)
	grow(t, next, ids(300, 1), 64)
	next.Drop()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Bad use panics with the block and its owner.
func TestDoubleFreePanics(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	r, _ := p.Allocate(Need{Open: 1, Owner: "ada"})
	g := NewGrowing(p, testScope, r)
	g.Plan(3)
	g.Commit(ids(3, 1))
	a := g.Freeze()
	id, _ := a.OpenBlock(0)
	a.Release()
	for name, bad := range map[string]func(){
		"free":          func() { p.Free(id) },
		"retain":        func() { p.Retain(id) },
		"release twice": a.Release,
	} {
		func() {
			defer func() {
				if v := recover(); v == nil || name != "release twice" && !strings.Contains(fmt.Sprint(v), fmt.Sprintf("block %d of %q", id, "ada")) {
					t.Errorf("%s of a free block: %v", name, v)
				}
			}()
			bad()
		}()
	}
}

// A restored table reads of its windows what the end needs; if the end cannot be
// read, a shorter one reads what that needs.
func TestRestoreAcrossTheWindow(t *testing.T) {
	p := newWindowedPool(t)
	g := newGrowing(t, p)
	grow(t, g, ids(640, 1), 64)
	keys, tokens := append([]Key(nil), g.Keys()...), ids(640, 1)
	g.Drop()
	p.Forget(keys)
	for _, c := range []struct{ broken, want, reads int }{{10, 10, 10 + 2}, {7, 7, 10 + 2 + 7 + 2}, {0, 0, 10 + 2}} {
		next := newGrowing(t, p)
		r, ok := p.Allocate(next.Missing(640, 64))
		if !ok {
			t.Fatal("no room")
		}
		next.Stock(r)
		reads := 0
		var mu sync.Mutex
		n, err := next.RestoreSealed(keys, tokens, func(i, group int, id BlockID) error {
			mu.Lock()
			defer mu.Unlock()
			reads++
			if i == c.broken {
				return errors.New("broken")
			}
			return nil
		})
		if n != c.want || (err != nil) != (c.broken < 10) || reads > c.reads || next.Len() != 64*n {
			t.Errorf("broken at %d: %d blocks, %d reads, %v, want %d and at most %d", c.broken, n, reads, err, c.want, c.reads)
		}
		next.Drop()
		p.Forget(keys)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

// Reserving for a long sequence takes of a window group its window and a step.
func TestReservationKnowsWindows(t *testing.T) {
	p := newWindowedPool(t)
	need := p.NeedFor(6400, 512)
	if need.Later != 99 || need.Windowed != 3+8 {
		t.Errorf("need %+v, want 99 blocks in the full group and 11 in the other", need)
	}
}
