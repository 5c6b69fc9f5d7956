package kvblock

import (
	"encoding/binary"
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
			Read(quant.KVF16, given, open, k, lanes)
			Read(form, got, sealed, k, lanes)
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
	Read(quant.KVF32, keys, k, 2, Tokens)
	Read(quant.KVF32, values, v, Tokens, 2)
	if keys[3] != 1 || keys[Tokens+3] != 2 || values[6] != 3 || values[7] != 4 {
		t.Errorf("keys %v, values %v", keys, values)
	}
}
