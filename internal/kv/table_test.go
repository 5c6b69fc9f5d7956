package kv

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"mneme/internal/quant"
)

// A table restored from the bytes of another, block by block, holds the same
// bytes; one that cannot be read ends the restore there and takes nothing.
func TestRestore(t *testing.T) {
	p := newTestPool(t, FormatQ4, 128)
	g := newGrowing(t, p)
	grow(t, g, ids(300, 1), 64)
	a := g.Freeze()
	var frames [][]byte
	for i := range a.Keys() {
		id := a.SealedBlock(0, i)
		k, v := p.Half(id, 1, 0)
		copy(k, fmt.Sprintf("keys of block %d", i))
		copy(v, fmt.Sprintf("values of block %d", i))
		frame := make([]byte, p.SizeOf(id))
		p.CopyOut(frame, id)
		frames = append(frames, frame)
	}
	open, n := a.OpenBlock(0)
	tail := make([]byte, p.Spec().TailBytes(0, n))
	p.CopyTailOut(tail, open, n)
	keys, tokens := a.Keys(), a.Tokens()
	a.Release()
	p.Forget(keys)
	if p.Contains(keys[0]) {
		t.Fatal("forgotten blocks are found")
	}

	next := newGrowing(t, p)
	r, _ := p.Allocate(next.Missing(400, 512))
	next.Stock(r)
	gone := errors.New("gone")
	got, err := next.RestoreSealed(keys, tokens, func(i, group int, id BlockID) error {
		if i == 3 {
			return gone
		}
		p.CopyIn(id, frames[i])
		return nil
	})
	if got != 3 || !errors.Is(err, gone) || next.Len() != 3*BlockTokens {
		t.Fatalf("restored %d blocks, %d tokens, %v", got, next.Len(), err)
	}
	if got, err = next.RestoreSealed(keys[3:], tokens[3*BlockTokens:], func(i, group int, id BlockID) error { p.CopyIn(id, frames[3+i]); return nil }); got != 1 || err != nil {
		t.Fatalf("the fourth block: %d, %v", got, err)
	}
	if err := next.RestoreOpen(tokens[256:], func(int, BlockID) error { return gone }); !errors.Is(err, gone) || next.Len() != 256 {
		t.Fatalf("open block: %v, %d tokens", err, next.Len())
	}
	if err := next.RestoreOpen(tokens[256:], func(_ int, id BlockID) error { p.CopyTailIn(id, tail, n); return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		frame := make([]byte, p.SizeOf(next.SealedBlock(0, i)))
		p.CopyOut(frame, next.SealedBlock(0, i))
		if !bytes.Equal(frame, frames[i]) {
			t.Errorf("block %d came back with other bytes", i)
		}
	}
	b := next.Freeze()
	again := make([]byte, len(tail))
	id, _ := b.OpenBlock(0)
	p.CopyTailOut(again, id, n)
	if !bytes.Equal(again, tail) {
		t.Error("the open block came back with other bytes")
	}
	if total, shared := b.Bytes(); total != p.Stats().UsedBytes() || shared != 0 {
		t.Errorf("table of %d bytes, %d shared, pool uses %d", total, shared, p.Stats().UsedBytes())
	}
	c := b.Retain()
	if total, shared := b.Bytes(); shared != total {
		t.Errorf("%d of %d bytes shared by two", shared, total)
	}
	c.Release()
	b.Release()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Two that compute the same beginning: the second takes over what the first
// sealed and gives its own reservation back.
func TestFollow(t *testing.T) {
	p := newTestPool(t, FormatQ4, 128)
	leader, follower := newGrowing(t, p), newGrowing(t, p)
	r, _ := p.Allocate(follower.Missing(200, 512))
	follower.Stock(r)
	grow(t, leader, ids(200, 1), 64)
	before := p.Stats().form(quant.KVQ4).Reserved
	for i, key := range leader.Keys() {
		found, ok := p.Lookup(key)
		if !ok {
			t.Fatalf("block %d is not found", i)
		}
		follower.FollowSealed(key, ids(200, 1)[i*BlockTokens:(i+1)*BlockTokens], found)
	}
	if after := p.Stats().form(quant.KVQ4).Reserved; after != before-2 || follower.Len() != 192 {
		t.Errorf("%d blocks reserved, %d before; %d tokens", after, before, follower.Len())
	}
	matched := newGrowing(t, p)
	matched.AdoptPrefix(leader.Keys(), ids(200, 1), p.Match(leader.Keys()))
	if matched.Len() != 192 || len(matched.Tokens()) != 192 {
		t.Errorf("matched %d tokens", matched.Len())
	}
	for _, g := range []*Growing{leader, follower, matched} {
		g.Drop()
		g.Drop() // does nothing
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Where a block lies: Line and Offsets lead to the halves that Half gives.
func TestPlaces(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	g := newGrowing(t, p)
	grow(t, g, ids(200, 1), 200)
	defer g.Drop()
	for i := range g.Keys() {
		id := g.SealedBlock(0, i)
		for layer := range 2 {
			k, v := p.Half(id, layer, 0)
			kOff, vOff := p.Offsets(0, p.FormOf(id), layer, 0)
			at := 64 * int(p.Line(id))
			if &p.Mem()[at+kOff] != &k[0] || &p.Mem()[at+vOff] != &v[0] {
				t.Errorf("block %d, layer %d lies elsewhere", i, layer)
			}
		}
	}
}

func TestFormats(t *testing.T) {
	for name, want := range map[string]string{"q3": "q8 q3 f16 true", "q4": "q8 q4 f16 true", "q8": "q8 q8 f16 false", "f16": "f16 f16 f16 false"} {
		f, err := ParseFormat(name)
		if got := fmt.Sprint(f.Form(0), " ", f.Form(1), " ", f.Open(), " ", f.RotatesV()); err != nil || got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if FormatF32.Form(3) != quant.KVF32 || FormatF32.elemBytes() != 4 {
		t.Error("f32 is not f32")
	}
	for _, bad := range []string{"", "q5", "f32"} {
		if _, err := ParseFormat(bad); err == nil {
			t.Errorf("format %q was taken", bad)
		}
	}
	if n := small(FormatQ4).BytesPerToken(); n != small(FormatQ4).BlockBytes(0, quant.KVQ4)/BlockTokens {
		t.Errorf("%d bytes per token", n)
	}
	for _, spec := range []Spec{{Format: FormatQ4}, {Format: FormatQ4, Groups: []Group{{Layers: []int{0}, KVHeads: 1, KDim: 20}}}} {
		if _, err := NewPool(spec, 1<<20); err == nil {
			t.Errorf("pool of %+v", spec)
		}
	}
	if _, err := NewPool(small(FormatQ4), 1000); err == nil {
		t.Error("pool of 1,000 bytes")
	}
	p := newTestPool(t, FormatQ4, 64)
	if need := p.NeedFor(300, 512); !p.Fits(need) || p.Bytes(need) <= 0 || p.Fits(p.NeedFor(1<<20, 512)) || p.NeedFor(10, 512) != (Need{Open: 1}) {
		t.Errorf("need %+v of %d bytes", need, p.Bytes(need))
	}
}

// Check finds what does not add up.
func TestCheckFindsFaults(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	g := newGrowing(t, p)
	grow(t, g, ids(150, 1), 150)
	a := g.Freeze()
	if p.Check() == nil {
		t.Error("a live table was not missed")
	}
	if p.Check(a, a) == nil {
		t.Error("a table counted twice was not seen")
	}
	id := a.SealedBlock(0, 1)
	for name, break_ := range map[string]func() (mend func()){
		"refs":  func() func() { p.blocks[id].refs++; return func() { p.blocks[id].refs-- } },
		"state": func() func() { p.blocks[id].state = cached; return func() { p.blocks[id].state = held } },
		"key":   func() func() { p.blocks[id].keyed = false; return func() { p.blocks[id].keyed = true } },
		"count": func() func() { p.classes[0].count[free]++; return func() { p.classes[0].count[free]-- } },
		"busy":  func() func() { p.slabs[0].busy++; return func() { p.slabs[0].busy-- } },
	} {
		mend := break_()
		if p.Check(a) == nil {
			t.Errorf("a wrong %s was not found", name)
		}
		mend()
	}
	if err := p.Check(a); err != nil {
		t.Fatal(err)
	}
	a.Release()
}

// The constructor of a table refuses what can never be one.
func TestAgentBlocksInvariants(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	keys := testScope.Chain(ids(64, 1), BlockTokens)
	for name, make_ := range map[string]func(){
		"keys missing":   func() { newAgentBlocks(p, p.spec, ids(70, 1), nil, [][]BlockID{{0}}, []BlockID{1}) },
		"block missing":  func() { newAgentBlocks(p, p.spec, ids(70, 1), keys, [][]BlockID{{}}, []BlockID{1}) },
		"no block":       func() { newAgentBlocks(p, p.spec, ids(70, 1), keys, [][]BlockID{{NoBlock}}, []BlockID{1}) },
		"open missing":   func() { newAgentBlocks(p, p.spec, ids(70, 1), keys, [][]BlockID{{0}}, nil) },
		"open too many":  func() { newAgentBlocks(p, p.spec, ids(64, 1), keys, [][]BlockID{{0}}, []BlockID{1}) },
		"group missing":  func() { newAgentBlocks(p, p.spec, ids(64, 1), keys, nil, nil) },
		"beyond the end": func() { g := newGrowing(t, p); g.RestoreSealed(keys, ids(64, 1), nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			make_()
		}()
	}
}

// A running table's Check finds a block that is not held.
func TestGrowingCheck(t *testing.T) {
	p := newTestPool(t, FormatQ4, 64)
	g := newGrowing(t, p)
	for _, n := range []int{0, 30, 64, 150, 192} {
		grow(t, g, ids(n, 1)[g.Len():], 50)
		if err := g.Check(); err != nil {
			t.Errorf("%d tokens: %v", n, err)
		}
	}
	id := g.SealedBlock(0, 1)
	p.blocks[id].refs = 0
	if g.Check() == nil {
		t.Error("a block without references was not found")
	}
	p.blocks[id].refs = 1
	g.keys = g.keys[:2]
	if g.Check() == nil {
		t.Error("a missing key was not found")
	}
	g.keys = g.keys[:3]
	a := g.Freeze()
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	a.Release()
}
