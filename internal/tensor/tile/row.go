package tile

import (
	"encoding/binary"
	"fmt"
	"math"

	"mneme/internal/quant"
)

// PutRow writes row r of a panel from the file's bytes of k columns; the panel
// must be zero there already.
func (t Kind) PutRow(panel []byte, r int, f quant.Format, raw []byte, k int) {
	if t == Dense {
		putDense(panel, r, f, raw, k)
		return
	}
	if f == quant.Q6_K {
		f, raw = quant.Q8_0, eightBits(raw, k)
	}
	var g group
	var tile Tile
	elems, size := f.Block()
	for n := range k / GroupLen {
		if n%2 == 0 {
			tile = t.At(panel, n/2)
		}
		g.read(f, raw[n*GroupLen/elems*size:][:size], n)
		tile.put(r, n%2, &g)
	}
}

func putDense(panel []byte, r int, f quant.Format, raw []byte, k int) {
	row := make([]float32, k)
	mustDequantize(f, raw, row)
	for i, v := range row {
		binary.LittleEndian.PutUint32(panel[64*i+4*r:], math.Float32bits(v))
	}
}

func mustDequantize(f quant.Format, raw []byte, row []float32) {
	if err := quant.Dequantize(f, raw, row); err != nil {
		panic(fmt.Sprintf("tile: a row that was checked: %v", err))
	}
}

// GetRow reads row r of a panel back, exactly as quant.Dequantize gives it.
func (t Kind) GetRow(panel []byte, r int, dst []float32) {
	if t == Dense {
		for k := range dst {
			dst[k] = math.Float32frombits(binary.LittleEndian.Uint32(panel[64*k+4*r:]))
		}
		return
	}
	for k := 0; k < len(dst); k += GroupLen {
		t.At(panel, k/Cols).get(r, k%Cols/GroupLen, dst[k:min(len(dst), k+GroupLen)])
	}
}

// get reads a group of a row.
func (t Tile) get(r, half int, dst []float32) {
	d, m, offset := t.Scale(r, half), t.Least(r, half), t.kind.Offset()
	for k := range dst {
		if dst[k] = d * float32(t.code(r, half, k)-offset); t.kind.HasMinima() {
			dst[k] += m
		}
	}
}

// words are the 32 codes of a group, four in a word.
type words [GroupLen / 4]uint32

// group is a row's share of half a tile: codes with their offset, and scale and
// minimum as halves, or, in a superblock, as the small numbers they are.
type group struct {
	codes        words
	scale, least uint16
	d, dmin      uint16 // of a superblock
}

// read finds group number n of a row in the file's block that has it.
func (g *group) read(f quant.Format, block []byte, n int) {
	g.scale = binary.LittleEndian.Uint16(block)
	switch f {
	case quant.Q8_0:
		g.codes = bytesOf(block[2:], 0xFF, 0)
		g.codes.flip(0x80808080)
	case quant.Q4_0:
		g.codes = nibblesOf(block[2:])
	case quant.Q4_1:
		g.codes, g.least = nibblesOf(block[4:]), binary.LittleEndian.Uint16(block[2:])
	case quant.Q5_0:
		g.codes = nibblesOf(block[6:])
		g.codes.addBits(binary.LittleEndian.Uint32(block[2:]))
	case quant.Q5_1:
		g.codes, g.least = nibblesOf(block[8:]), binary.LittleEndian.Uint16(block[2:])
		g.codes.addBits(binary.LittleEndian.Uint32(block[4:]))
	case quant.Q4_K, quant.Q5_K:
		g.readSuper(f, block, n%8)
	}
}

// readSuper finds group n of a superblock.
func (g *group) readSuper(f quant.Format, block []byte, n int) {
	g.d, g.dmin = binary.LittleEndian.Uint16(block), binary.LittleEndian.Uint16(block[2:])
	scale, least := quant.ScaleMin(block[4:16], n)
	g.scale, g.least = uint16(scale), uint16(least)
	nibbles := block[16:]
	if f == quant.Q5_K {
		nibbles = block[48:]
	}
	g.codes = bytesOf(nibbles[32*(n/2):], 0x0F, 4*(n%2))
	if f == quant.Q5_K {
		for j, bits := range bytesOf(block[16:], 1, n) {
			g.codes[j] |= bits << 4
		}
	}
}

// bytesOf takes mask's bits of 32 bytes, shift further up.
func bytesOf(codes []byte, mask uint32, shift int) (w words) {
	for j := range w {
		w[j] = binary.LittleEndian.Uint32(codes[4*j:]) >> shift & (mask * 0x01010101)
	}
	return w
}

// nibblesOf takes element i from the low and i+16 from the high nibble of byte i.
func nibblesOf(codes []byte) (w words) {
	for j := range 4 {
		v := binary.LittleEndian.Uint32(codes[4*j:])
		w[j], w[j+4] = v&0x0F0F0F0F, v>>4&0x0F0F0F0F
	}
	return w
}

func (w *words) flip(bits uint32) {
	for j := range w {
		w[j] ^= bits
	}
}

// addBits puts bit i of bits above the nibble of element i.
func (w *words) addBits(bits uint32) {
	for j := range w {
		w[j] |= bits >> (4 * j) & 15 * 0x00204081 & 0x01010101 << 4
	}
}

// put writes a group of row r. The second half's nibbles are or-ed onto the first's.
func (t *Tile) put(r, half int, g *group) {
	t.putScales(r, half, g)
	f, lines := &forms[t.kind], t.data[t.kind.header()+4*r:]
	if f.wide {
		for j, w := range g.codes {
			binary.LittleEndian.PutUint32(lines[line*(8*half+j):], w)
		}
		return
	}
	if f.plane {
		t.putPlane(r, half, &g.codes)
	}
	for j, w := range g.codes {
		at := lines[line*j:]
		binary.LittleEndian.PutUint32(at, binary.LittleEndian.Uint32(at)|w<<(4*half))
	}
}

// putPlane takes the plane's bit from each code and leaves nibbles.
func (t *Tile) putPlane(r, half int, codes *words) {
	plane, low := t.data[t.kind.planeAt()+64*half+r/2:], !forms[t.kind].minima
	for j, w := range codes {
		bit := w >> 4 & 0x01010101
		if low {
			bit, w = w&0x01010101, w>>1
		}
		codes[j] = w & 0x0F0F0F0F
		plane[8*j] |= byte(bit*0x01020408>>24&15) << (4 * (r % 2)) // bit b is byte b's
	}
}

func (t *Tile) putScales(r, half int, g *group) {
	if forms[t.kind].super {
		binary.LittleEndian.PutUint16(t.super[2*r:], g.d)
		binary.LittleEndian.PutUint16(t.super[2*(Rows+r):], g.dmin)
		t.data[Rows*half+r], t.data[Rows*(2+half)+r] = byte(g.scale), byte(g.least)
		return
	}
	binary.LittleEndian.PutUint16(t.data[2*(Rows*half+r):], g.scale)
	if forms[t.kind].minima {
		binary.LittleEndian.PutUint16(t.data[line+2*(Rows*half+r):], g.least)
	}
}

// halfAt is half number i of b.
func halfAt(b []byte, i int) float32 { return quant.F16Value(binary.LittleEndian.Uint16(b[2*i:])) }
