package tensor

import (
	"encoding/binary"
	"fmt"
	"math"

	"mneme/internal/quant"
)

const (
	panelRows = 16 // weight rows side by side
	tileK     = 64 // columns of a tile
	groupLen  = 32 // columns that share a scale; two groups, the halves, make a tile
)

// tileKind says how a weight tile of 16 rows x 64 k is laid out. All parts
// are whole 64-byte lines, in this order; a panel is the tiles of 16 rows one
// after the other:
//
//	scales  2 x 16 f16: half 0, then half 1                           not tileDense
//	minima  2 x 16 f16                                                tile41 only
//	codes   line j, bytes 4r..4r+3 are k = 4j..4j+3 of row r
//	        tile8    16 lines, w = d*(code-128)
//	        tile4     8 lines, low nibble half 0, high nibble half 1: w = d*(code-8)
//	        tile41    8 lines likewise, w = d*code + m
//	        tileDense 64 lines of 16 f32, line k holds column k of all rows
//
// Scales and codes are the file's own, so a tile is exact. A row or group of
// padding has scale (and minimum) zero.
type tileKind uint8

const (
	tile8 tileKind = iota
	tile4
	tile41
	tileDense
	tileKinds
)

func (t tileKind) header() int {
	switch t {
	case tile41:
		return 128
	case tileDense:
		return 0
	}
	return 64
}

// bytes is the size of one tile.
func (t tileKind) bytes() int {
	return t.header() + [tileKinds]int{tile8: 1024, tile4: 512, tile41: 512, tileDense: 4096}[t]
}

// tileFor is the tile that holds a file format exactly.
func tileFor(f quant.Format) (tileKind, bool) {
	switch f {
	case quant.Q8_0:
		return tile8, true
	case quant.Q4_0:
		return tile4, true
	case quant.Q4_1:
		return tile41, true
	case quant.F32, quant.F16, quant.BF16:
		return tileDense, true
	}
	return 0, false
}

// putRow writes row r of a panel from the file's bytes; what padding there is
// must be zero already.
func (t tileKind) putRow(panel []byte, r int, f quant.Format, raw []byte, k int) {
	if t == tileDense {
		putDense(panel, r, f, raw, k)
		return
	}
	elems, size := f.Block()
	for g := range k / elems {
		tile, block := panel[g/2*t.bytes():][:t.bytes()], raw[g*size:][:size]
		copy(tile[32*(g%2)+2*r:][:2], block)
		switch t {
		case tile8:
			putBytes(tile, r, g%2, block[2:])
		case tile4:
			putNibbles(tile[t.header():], r, g%2, block[2:])
		case tile41:
			copy(tile[64+32*(g%2)+2*r:][:2], block[2:])
			putNibbles(tile[t.header():], r, g%2, block[4:])
		}
	}
}

// putBytes writes 32 signed bytes as codes of offset 128.
func putBytes(tile []byte, r, half int, codes []byte) {
	lines := tile[64+512*half+4*r:]
	for j := range groupLen / 4 {
		v := binary.LittleEndian.Uint32(codes[4*j:])
		binary.LittleEndian.PutUint32(lines[64*j:], v^0x80808080)
	}
}

// putNibbles writes 32 nibbles, element i in the low and i+16 in the high half
// of byte i. The second half of a tile is or-ed onto the first.
func putNibbles(lines []byte, r, half int, codes []byte) {
	for j := range groupLen / 8 {
		v := binary.LittleEndian.Uint32(codes[4*j:])
		putFour(lines[64*j+4*r:], half, v&0x0F0F0F0F)
		putFour(lines[64*(j+4)+4*r:], half, v>>4&0x0F0F0F0F)
	}
}

func putFour(at []byte, half int, nibbles uint32) {
	if half == 1 {
		nibbles = binary.LittleEndian.Uint32(at) | nibbles<<4
	}
	binary.LittleEndian.PutUint32(at, nibbles)
}

func putDense(panel []byte, r int, f quant.Format, raw []byte, k int) {
	row := make([]float32, k)
	if err := quant.Dequantize(f, raw, row); err != nil {
		panic(fmt.Sprintf("tensor: a row that was checked: %v", err))
	}
	for i, v := range row {
		binary.LittleEndian.PutUint32(panel[64*i+4*r:], math.Float32bits(v))
	}
}

// codes unpacks one half of a quantised tile: unsigned codes by row and k.
func (t tileKind) codes(tile []byte, half int, codes *[panelRows][groupLen]int32) {
	lines, shift, mask := tile[t.header():], 4*half, byte(0x0F)
	if t == tile8 {
		lines, shift, mask = lines[512*half:], 0, 0xFF
	}
	for j := range groupLen / 4 {
		line := lines[64*j:][:64]
		for r := range codes {
			for b, c := range line[4*r:][:4] {
				codes[r][4*j+b] = int32(c >> shift & mask)
			}
		}
	}
}

// offset is what a code of this kind has too much.
func (t tileKind) offset() int32 { return [tileKinds]int32{tile8: 128, tile4: 8}[t] }

// scale is the factor of row r in one half.
func (t tileKind) scale(tile []byte, r, half int) float32 { return halfAt(tile[32*half+2*r:]) }

// least is the minimum added to it.
func (t tileKind) least(tile []byte, r, half int) float32 {
	if t != tile41 {
		return 0
	}
	return halfAt(tile[64+32*half+2*r:])
}

func halfAt(b []byte) float32 { return quant.F16Value(binary.LittleEndian.Uint16(b)) }

// getRow reads row r of a panel back, exactly as quant.Dequantize gives it.
func (t tileKind) getRow(panel []byte, r int, dst []float32) {
	if t == tileDense {
		for k := range dst {
			dst[k] = math.Float32frombits(binary.LittleEndian.Uint32(panel[64*k+4*r:]))
		}
		return
	}
	for k := 0; k < len(dst); k += groupLen {
		tile := panel[k/tileK*t.bytes():][:t.bytes()]
		t.getGroup(tile, r, k%tileK/groupLen, dst[k:min(len(dst), k+groupLen)])
	}
}

func (t tileKind) getGroup(tile []byte, r, half int, dst []float32) {
	d, m := t.scale(tile, r, half), t.least(tile, r, half)
	lines, shift := tile[t.header()+4*r:], 4*half
	if t == tile8 {
		lines = lines[512*half:]
	}
	for k := range dst {
		code := lines[64*(k/4)+k%4]
		switch t {
		case tile8:
			dst[k] = d * float32(int8(code^0x80))
		case tile4:
			dst[k] = d * (float32(code>>shift&15) - 8)
		case tile41:
			dst[k] = float32(d*float32(code>>shift&15)) + m
		}
	}
}
