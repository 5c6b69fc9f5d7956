package kvblock

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mneme/internal/quant"
)

// Rows that rise over their lanes are sealed; each value comes back within half a
// step, and the integer product with one k alone picks that k's codes.
func TestWhatIsSealedIsReadBack(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for form, top := range map[quant.KVForm]float32{quant.KVQ8: 255, quant.KVQ4: 15, quant.KVQ3: 7} {
		for _, size := range [][2]int{{64, 64}, {16, 64}, {64, 16}, {80, 64}, {64, 256}} {
			k, lanes := size[0], size[1]
			open, sealed := make([]byte, 2*k*lanes), make([]byte, form.HalfBytes(k, lanes))
			for i := range k * lanes {
				x := float32(i/lanes) + float32(i%lanes*(i/lanes))/8 + r.Float32()
				binary.LittleEndian.PutUint16(open[2*i:], quant.F16Bits(x))
			}
			Seal(form, sealed, open, k, lanes)
			given, got := make([]float32, k*lanes), make([]float32, k*lanes)
			read(quant.KVF16, given, open, k, lanes)
			read(form, got, sealed, k, lanes)
			h := NewSealed(k, lanes)
			h.Read(form, sealed)
			for i := range k {
				row := given[i*lanes:][:lanes]
				step := (slices.Max(row) - slices.Min(row)) / top
				one, codes := make([]int32, k), make([]int32, lanes)
				one[i] = 1
				h.Dot(codes, one)
				for l, x := range row {
					y := got[i*lanes+l]
					if d := x - y; max(d, -d) > 0.6*step+x/500 {
						t.Fatalf("%s %v, k %d lane %d: %g became %g, step %g", form, size, i, l, x, y, step)
					}
					if z := h.Mid[i] + float32(h.Scale[i]*float32(codes[l])); z != y {
						t.Fatalf("%s %v, k %d lane %d: read as %g, by the product %g", form, size, i, l, y, z)
					}
				}
			}
		}
	}
}

// Token 3 of a block of 2 channels: column 3 of K, row 3 of V.
func TestAppend(t *testing.T) {
	k, v := make([]byte, 4*2*Tokens), make([]byte, 4*2*Tokens)
	AppendExact(k, v, 3, []float32{1, 2}, []float32{3, 4})
	keys, values := make([]float32, 2*Tokens), make([]float32, 2*Tokens)
	read(quant.KVF32, keys, k, 2, Tokens)
	read(quant.KVF32, values, v, Tokens, 2)
	if keys[3] != 1 || keys[Tokens+3] != 2 || values[6] != 3 || values[7] != 4 {
		t.Errorf("keys %v, values %v", keys, values)
	}
}

// read reads a half block [k][lanes] of any form.
func read(form quant.KVForm, dst []float32, half []byte, k, lanes int) {
	switch form {
	case quant.KVF16:
		ReadHalves(dst[:k*lanes], half)
		return
	case quant.KVF32:
		ReadFloats(dst[:k*lanes], half)
		return
	}
	codes := CodeBytes(form, k, lanes)
	scales, mids := half[codes:], half[codes+2*k:]
	for i := range k {
		scale := quant.F16Value(binary.LittleEndian.Uint16(scales[2*i:]))
		mid := quant.F16Value(binary.LittleEndian.Uint16(mids[2*i:]))
		row := dst[i*lanes:][:lanes]
		for l := range row {
			row[l] = mid + float32(scale*float32(storedCode(form, half, k, lanes, i, l)))
		}
	}
}

// storedCode is the code of element (i, lane) of a sealed half, less its centre.
func storedCode(form quant.KVForm, half []byte, k, lanes, i, lane int) int {
	switch form {
	case quant.KVQ8:
		return int(half[4*lanes*(i/4)+4*lane+i%4]) - 128
	case quant.KVQ4:
		at, shift := i, 0
		if i >= k/2 {
			at, shift = i-k/2, 4
		}
		return int(half[4*lanes*(at/4)+4*lane+at%4]>>shift&15) - 8
	case quant.KVQ3:
		part, at := i/(k/4), i%(k/4)
		bit := 4*(lane%16) + at%4
		low := half[4*lanes*(at/4)+4*lane+at%4] >> (2 * part) & 3
		high := half[k*lanes/4+32*(lanes/16*(at/4)+lane/16)+8*part+bit/8] >> (bit % 8) & 1
		return int(low|high<<2) - 4
	}
	panic(fmt.Sprintf("kvblock: no codes in a %s half", form))
}
