package kv

import (
	"testing"

	"mneme/internal/token"
)

func sizedPool(t *testing.T, format Format, bytes int64) *Pool {
	t.Helper()
	p, err := NewPool(Spec{Format: format, Groups: []Group{{Layers: []int{0, 1}, KVHeads: 1, KDim: 64, VDim: 64}}}, bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// growTo appends n tokens in steps of chunk; false when the pool has no room.
func growTo(p *Pool, g *Growing, n, chunk int) bool {
	for n > 0 {
		c := min(chunk, n)
		r, ok := p.Allocate(g.Missing(g.Len()+c, 512))
		if !ok {
			return false
		}
		g.Stock(r)
		g.Plan(c)
		tokens := make([]token.ID, c)
		for i := range tokens {
			tokens[i] = token.ID(g.Len() + i)
		}
		g.Commit(tokens)
		n -= c
	}
	return true
}

// An Allocate that fails drops nothing from the cache.
func TestFailedAllocateDropsNothing(t *testing.T) {
	p := sizedPool(t, FormatQ4, 1<<20)
	empty, _ := p.Allocate(Need{})
	g := NewGrowing(p, Scope{Fingerprint: "f", Namespace: "n"}, empty)
	if !growTo(p, g, 640, 64) {
		t.Fatal("no room")
	}
	keys := append([]Key(nil), g.Keys()...)
	g.Drop() // ten blocks are cached
	held, ok := p.Allocate(Need{Open: 20})
	if !ok {
		t.Fatal("no room for 20")
	}
	defer held.Return()
	if _, ok := p.Allocate(Need{Later: 1000}); ok {
		t.Fatal("1,000 blocks in 1 MiB")
	}
	left := 0
	for _, k := range keys {
		if p.Contains(k) {
			left++
		}
	}
	if left != len(keys) {
		t.Errorf("a request that got nothing left %d of %d cached blocks", left, len(keys))
	}
}
