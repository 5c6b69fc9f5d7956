// Package tile knows how 16 rows of weights lie in memory for the kernels: the
// kinds of tiles, which file formats they hold exactly, and how a row goes in
// and comes back.
//
// It leaves matrices to tensor, arithmetic to its kernels, and the bytes of
// file formats to quant.
package tile

import (
	"maps"
	"slices"
	"strings"

	"mneme/internal/quant"
)

//go:generate go -C ../gen run . -set losses -out ../tile/losses_kernel_amd64.s -stubs ../tile/losses_kernel_amd64.go -pkg tile

const (
	Rows     = 16 // weight rows side by side, a panel
	Cols     = 64 // columns of a tile
	GroupLen = 32 // columns that share a scale; two groups, the halves, make a tile

	superTiles = 4 // tiles that share a line of halves in the kinds that have one
	line       = 64
)

// Kind says how a weight tile of 16 rows x 64 k is laid out. All parts are
// whole 64-byte lines, in this order; a panel is the tiles of 16 rows one after
// the other:
//
//	super   16 f16 d, 16 f16 dmin; one line before every fourth tile   Q4K, Q5K
//	scales  2 x 16 f16: half 0, then half 1                            all but Dense, Q4K, Q5K
//	minima  2 x 16 f16                                                 Q41, Q51
//	        or both in one line of 4 x 16 u8, factors of d and -dmin   Q4K, Q5K
//	codes   line j, bytes 4r..4r+3 are k = 4j..4j+3 of row r
//	        Q8       16 lines, w = d*(code-128)
//	        Q4        8 lines, low nibble half 0, high nibble half 1: w = d*(code-8)
//	        Q41, Q4K  8 lines likewise, w = d*code + m
//	        Q5        8 lines of code>>1, w = d*(code-16)
//	        Q51, Q5K  8 lines of code&15, w = d*code + m
//	        Dense    64 lines of 16 f32, line k holds column k of all rows
//	plane   16 x 64 bits, number 8*half+j: bit 4r+b is of k = 4j+b of row r, in
//	        Q5 the lowest bit of the code, in Q51 and Q5K the highest
//
// Scales and codes are the file's own, so a tile is exact; Q6_K alone is
// requantised to Q8. A row or group of padding has scale (and minimum) zero.
// Four-row words of symmetric nibbles keep the upper bits, so that a kernel that
// reads them left-aligned in a byte finds offset 128 in every kind.
type Kind uint8

// The kinds, by the name of the format that they hold.
const (
	Q8 Kind = iota
	Q4
	Q41
	Q5
	Q51
	Q4K
	Q5K
	Dense
	Kinds
)

// form is what tells the quantised kinds apart.
type form struct {
	offset int32 // what a code has too much
	wide   bool  // a byte per code; else a nibble
	minima bool
	plane  bool
	super  bool
}

var forms = [Kinds]form{
	Q8:  {offset: 128, wide: true},
	Q4:  {offset: 8},
	Q41: {minima: true},
	Q5:  {offset: 16, plane: true},
	Q51: {minima: true, plane: true},
	Q4K: {minima: true, super: true},
	Q5K: {minima: true, plane: true, super: true},
}

// kindOf is the tile that holds a file format.
var kindOf = map[quant.Format]Kind{
	quant.Q8_0: Q8, quant.Q4_0: Q4, quant.Q4_1: Q41, quant.Q5_0: Q5, quant.Q5_1: Q51,
	quant.Q4_K: Q4K, quant.Q5_K: Q5K, quant.Q6_K: Q8,
	quant.F32: Dense, quant.F16: Dense, quant.BF16: Dense,
}

// For is the tile that holds a file format.
func For(f quant.Format) (Kind, bool) {
	kind, ok := kindOf[f]
	return kind, ok
}

// Offset is what a code of this kind has too much.
func (t Kind) Offset() int32 { return forms[t].offset }

// HasMinima reports whether a minimum is added to scale*code.
func (t Kind) HasMinima() bool { return forms[t].minima }

// PanelBytes is the size of a panel of so many tiles, a multiple of 4 in the
// kinds that share a line.
func (t Kind) PanelBytes(tiles int) int {
	return t.start(tiles) - t.start(0)
}

// start is where tile number n of a panel begins.
func (t Kind) start(n int) int {
	at := n * t.bytes()
	if forms[t].super {
		at += (n/superTiles + 1) * line
	}
	return at
}

// bytes is the size of one tile without what it shares.
func (t Kind) bytes() int {
	f := &forms[t]
	switch {
	case t == Dense:
		return Cols * line
	case f.wide:
		return t.header() + Cols*Rows
	case f.plane:
		return t.planeAt() + Cols*Rows/8
	}
	return t.planeAt()
}

// header is where the codes begin.
func (t Kind) header() int {
	if forms[t].minima && !forms[t].super {
		return 2 * line
	}
	return line
}

// planeAt is the end of the nibbles.
func (t Kind) planeAt() int { return t.header() + Cols*Rows/2 }

// Tile is one quantised tile of a panel.
type Tile struct {
	kind  Kind
	super []byte // the line it shares
	data  []byte
}

// At is tile number n of a panel.
func (t Kind) At(panel []byte, n int) Tile {
	tile := Tile{kind: t, data: panel[t.start(n):][:t.bytes()]}
	if forms[t].super {
		tile.super = panel[t.start(n/superTiles*superTiles)-line:][:line]
	}
	return tile
}

// Scale is the factor of row r in one half.
func (t Tile) Scale(r, half int) float32 {
	if forms[t.kind].super {
		return halfAt(t.super, r) * float32(t.data[Rows*half+r])
	}
	return halfAt(t.data, Rows*half+r)
}

// Least is the minimum added to it.
func (t Tile) Least(r, half int) float32 {
	switch f := &forms[t.kind]; {
	case f.super:
		return -(halfAt(t.super, Rows+r) * float32(t.data[Rows*(2+half)+r]))
	case f.minima:
		return halfAt(t.data[line:], Rows*half+r)
	}
	return 0
}

// Codes unpacks one half: unsigned codes by row and k.
func (t Tile) Codes(half int, codes *[Rows][GroupLen]int32) {
	f, lines, shift, mask := &forms[t.kind], t.data[t.kind.header():], 4*half, byte(0x0F)
	if f.wide {
		lines, shift, mask = lines[512*half:], 0, 0xFF
	}
	for j := range GroupLen / 4 {
		words := lines[line*j:][:line]
		for r := range codes {
			for b, c := range words[4*r:][:4] {
				codes[r][4*j+b] = int32(c >> shift & mask)
			}
		}
	}
	if f.plane {
		t.addPlane(half, codes)
	}
}

// addPlane completes nibbles to five bits.
func (t Tile) addPlane(half int, codes *[Rows][GroupLen]int32) {
	for r := range codes {
		for k, c := range codes[r] {
			codes[r][k] = t.five(c, r, half, k)
		}
	}
}

// five is the code of a nibble and its bit in the plane.
func (t Tile) five(nibble int32, r, half, k int) int32 {
	at := 4*r + k%4
	bit := int32(t.data[t.kind.planeAt()+8*(8*half+k/4)+at/8] >> (at % 8) & 1)
	if forms[t.kind].minima {
		return nibble | bit<<4
	}
	return nibble<<1 | bit
}

// code is the unsigned code of one weight.
func (t Tile) code(r, half, k int) int32 {
	f, at := &forms[t.kind], t.kind.header()+line*(k/4)+4*r+k%4
	if f.wide {
		return int32(t.data[at+512*half])
	}
	c := int32(t.data[at] >> (4 * half) & 15)
	if f.plane {
		return t.five(c, r, half, k)
	}
	return c
}

// Formats lists the file formats that a tile holds, for error messages.
func Formats() string {
	var names []string
	for _, f := range slices.Sorted(maps.Keys(kindOf)) {
		names = append(names, f.String())
	}
	return strings.Join(names, ", ")
}
