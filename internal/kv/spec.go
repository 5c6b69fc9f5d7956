// Package kv knows which blocks of key/value memory are free, reserved, held or
// cached, which of them an agent holds, and under which key a sealed block can
// be found. It does not know files (store), the arithmetic on blocks (tensor)
// or why somebody wants a block (engine).
//
// Locking: Pool has one mutex; it is never held over I/O or compute and no
// other lock is taken under it.
package kv

import (
	"fmt"

	"mneme/internal/arena"
	"mneme/internal/kv/key"
	"mneme/internal/quant"
)

// What sealed blocks are named by; see package key.
type (
	Key   = key.Key
	Scope = key.Scope
)

// BlockTokens is the number of positions in a block: the unit of allocation,
// sharing, checksums and disk.
const BlockTokens = 64

// Pos is a position in a sequence, from 0.
type Pos int

// InBlock is the position's place in its block.
func (p Pos) InBlock() int { return int(p) % BlockTokens }

// Tier says where an agent's KV is.
type Tier string

const (
	TierHot  Tier = "hot"  // in the pool
	TierWarm Tier = "warm" // on this machine's disk
)

// Format is how sealed blocks are stored.
type Format string

const (
	FormatQ3  Format = "q3"
	FormatQ4  Format = "q4"
	FormatQ8  Format = "q8"
	FormatF16 Format = "f16"
	// FormatF32 keeps everything in f32; for tests against f32 truth only.
	FormatF32 Format = "f32"
)

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case FormatQ3, FormatQ4, FormatQ8, FormatF16:
		return f, nil
	}
	return "", fmt.Errorf("kv format %q: supported are q3, q4, q8, f16", s)
}

// Form is the stored form of the block with the given index in its sequence.
// Under q4 and q3 the first block is q8: the first tokens are attention sinks
// whose outliers spoil a block of few bits (docs/ARCHITECTURE.md, KV formats).
func (f Format) Form(blockIndex int) quant.KVForm {
	switch {
	case f == FormatF16 || f == FormatF32:
		return f.Open()
	case f == FormatQ8 || blockIndex == 0:
		return quant.KVQ8
	case f == FormatQ3:
		return quant.KVQ3
	}
	return quant.KVQ4
}

// Open is the form of open blocks: full precision, which is f16.
func (f Format) Open() quant.KVForm {
	if f == FormatF32 {
		return quant.KVF32
	}
	return quant.KVF16
}

// elemBytes is the size of one number in full precision.
func (f Format) elemBytes() int {
	if f == FormatF32 {
		return 4
	}
	return 2
}

// RotatesV says whether V is kept Hadamard-rotated, in every form.
func (f Format) RotatesV() bool { return f == FormatQ4 || f == FormatQ3 }

// Group is a set of layers with the same cache geometry and retention.
type Group struct {
	Layers  []int // model layers, ascending
	KVHeads int
	KDim    int // per head
	VDim    int // per head; 0 where values are part of the keys (a cached latent)
	Window  int // positions a query looks back, itself included; 0: all
}

// FirstRead is the first of so many sealed blocks that a position behind them may
// read: 0 without a window.
func (g Group) FirstRead(sealed int) int {
	if g.Window == 0 {
		return 0
	}
	return max(0, sealed-blocksFor(g.Window))
}

// Spec is the geometry of one model's KV.
type Spec struct {
	Groups []Group
	Format Format
}

// Check verifies that the kernels can hold this geometry.
func (s Spec) Check() error {
	if _, err := ParseFormat(string(s.Format)); err != nil && s.Format != FormatF32 {
		return err
	}
	if len(s.Groups) == 0 {
		return fmt.Errorf("kv: spec without layer groups")
	}
	for i, g := range s.Groups {
		if len(g.Layers) == 0 || g.KVHeads <= 0 || g.KDim <= 0 || g.KDim%16 != 0 || g.VDim < 0 || g.VDim%16 != 0 || g.Window < 0 {
			return fmt.Errorf("kv: group %d has %d layers, %d KV heads, dims %d and %d (must be multiples of 16), window %d", i, len(g.Layers), g.KVHeads, g.KDim, g.VDim, g.Window)
		}
	}
	return nil
}

// BytesPerToken is what a token costs in sealed blocks, beyond the first block.
func (s Spec) BytesPerToken() int {
	n := 0
	for i := range s.Groups {
		n += s.BlockBytes(i, s.Format.Form(1))
	}
	return n / BlockTokens
}

// RunBytes is the size of the sealed blocks from one up to another that positions
// behind them may read: what restoring them reads.
func (s Spec) RunBytes(from, to int) (total int64) {
	for g, group := range s.Groups {
		for i := max(from, group.FirstRead(to)); i < to; i++ {
			total += int64(s.BlockBytes(g, s.Format.Form(i)))
		}
	}
	return total
}

// TableBytes is what an agent of so many tokens has in the pool between turns: sealed
// blocks, of a window group its window, and in full precision the open one.
func (s Spec) TableBytes(tokens int) int64 {
	total := s.RunBytes(0, tokens/BlockTokens)
	for g := range s.Groups {
		total += int64(s.BlockBytes(g, s.Format.Open()))
	}
	return total
}

// BlockBytes is the size of one block of a group in the given form.
func (s Spec) BlockBytes(group int, form quant.KVForm) int {
	g := s.Groups[group]
	return g.halves() * len(g.Layers) * g.KVHeads * g.halfBytes(form)
}

// halves is 2 where K and V are stored, 1 where values are part of the keys.
func (g Group) halves() int {
	if g.VDim == 0 {
		return 1
	}
	return 2
}

// halfBytes is the room of K or V of one (layer, head): the larger of both, so
// that one table of offsets serves K and V.
func (g Group) halfBytes(form quant.KVForm) int {
	n := form.HalfBytes(g.KDim, BlockTokens)
	if g.VDim > 0 {
		n = max(n, form.HalfBytes(BlockTokens, g.VDim))
	}
	return arena.Align(n)
}
