package tile

import (
	"encoding/binary"
	"math"

	"mneme/internal/quant"
)

// scalesTried is how many scales a group of 32 is tried with: those that put
// its largest number on the codes 127 down to 111.
const scalesTried = 17

// eightBits requantises a row of Q6_K, whose scales stand for 16, to Q8_0 with
// the scale of each group that loses least (the sum of squares, in f64).
func eightBits(raw []byte, k int) []byte {
	row := make([]float32, k)
	mustDequantize(quant.Q6_K, raw, row)
	_, size := quant.Q8_0.Block()
	out := make([]byte, k/GroupLen*size)
	for g := range k / GroupLen {
		putBest(out[g*size:][:size], (*[GroupLen]float32)(row[g*GroupLen:]))
	}
	return out
}

// putBest writes x as a block of Q8_0.
func putBest(block []byte, x *[GroupLen]float32) {
	var most uint32 // of the bits of the absolute values, which are in their order
	for _, v := range x {
		most = max(most, math.Float32bits(v)&math.MaxInt32)
	}
	scale := bestScale(x, math.Float32frombits(most))
	binary.LittleEndian.PutUint16(block, scale)
	inv := inverse(float64(quant.F16Value(scale)))
	for i, v := range x {
		block[2+i] = byte(int8(nearest(float64(v), inv)))
	}
}

// tries are the scales that a group is tried with, and what it loses with each.
type tries struct {
	half         [scalesTried]uint16
	d, inv, loss [scalesTried]float64
}

// bestScale is the half that loses least of those that keep most, the largest number, within the codes.
func bestScale(x *[GroupLen]float32, most float32) uint16 {
	var t tries
	for i := range t.half {
		t.half[i] = quant.F16Bits(most / float32(127-i))
		t.d[i] = float64(quant.F16Value(t.half[i]))
		t.inv[i] = inverse(t.d[i])
	}
	losses(x, &t)
	best, scale := math.Inf(1), quant.F16Bits(most/127)+1
	for i, loss := range t.loss {
		if loss < best && float64(most)*t.inv[i] <= 127.49 {
			best, scale = loss, t.half[i]
		}
	}
	return scale
}

func inverse(d float64) float64 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// plainLosses sums in 8 lanes and folds them as a 512-bit register is folded,
// so that all machines choose alike.
func plainLosses(x *[GroupLen]float32, t *tries) {
	for i, d := range t.d {
		var s [8]float64
		for j := range s {
			s[j] = lossAt(x[j], d, t.inv[i]) + lossAt(x[8+j], d, t.inv[i]) + lossAt(x[16+j], d, t.inv[i]) + lossAt(x[24+j], d, t.inv[i])
		}
		t.loss[i] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
	}
}

func lossAt(x float32, d, inv float64) float64 {
	v := float64(x)
	e := v - float64(d*nearest(v, inv))
	return float64(e * e)
}

// nearest is the code of v.
func nearest(v, inv float64) float64 {
	const shift = 3 << 51 // from here on a float64 has no fraction left
	return float64(float64(v*inv)+shift) - shift
}
