package kvblock

import (
	"encoding/binary"
	"math"

	"mneme/internal/quant"
)

// LargestHalf is the largest finite f16.
const LargestHalf = 65504

// Append writes the key kx and the value vx as token slot of an open block of
// f16, what is beyond the largest finite half as the largest, NaN too.
func Append(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	v := vHalf[2*len(vx)*slot:]
	for i, x := range vx {
		binary.LittleEndian.PutUint16(v[2*i:], finiteHalf(x))
	}
	for i, x := range kx {
		binary.LittleEndian.PutUint16(kHalf[2*(Tokens*i+slot):], finiteHalf(x))
	}
}

// AppendExact does the same in a block of f32, as it is.
func AppendExact(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	for i := range kx {
		binary.LittleEndian.PutUint32(kHalf[4*(Tokens*i+slot):], math.Float32bits(kx[i]))
		binary.LittleEndian.PutUint32(vHalf[4*(len(vx)*slot+i):], math.Float32bits(vx[i]))
	}
}

// finiteHalf is the nearest finite f16; NaN becomes the largest.
func finiteHalf(x float32) uint16 {
	if !(x < LargestHalf) {
		x = LargestHalf
	}
	return quant.F16Bits(max(x, -LargestHalf))
}

// Seal writes the open half src, f16 [k][lanes], to dst in a sealed form. Each k
// is quantised on its own: lanes values between a smallest and a largest one.
func Seal(form quant.KVForm, dst, src []byte, k, lanes int) {
	codes := dst[:CodeBytes(form, k, lanes)]
	scales, mids := dst[len(codes):], dst[len(codes)+2*k:]
	clear(codes)
	for i := range k {
		row := src[2*lanes*i:][:2*lanes]
		s := newSealSteps(form, row)
		binary.LittleEndian.PutUint16(scales[2*i:], s.scaleBits)
		binary.LittleEndian.PutUint16(mids[2*i:], s.midBits)
		for l := range lanes {
			putCode(form, codes, i, l, k, lanes, s.code(quant.F16Value(binary.LittleEndian.Uint16(row[2*l:]))))
		}
	}
}

// sealSteps are the quantisation steps of one k, as they are stored.
type sealSteps struct {
	scaleBits, midBits uint16
	mid, inv           float32
	centre, top        float32
}

func newSealSteps(form quant.KVForm, row []byte) sealSteps {
	bits := codeBits(form)
	s := sealSteps{centre: float32(int(1) << (bits - 1)), top: float32(int(1)<<bits - 1)}
	lo, hi := rangeOf(row)
	scale := (hi - lo) * (1 / s.top)
	if !(scale > 0) { // also -0
		scale = 0
	}
	s.scaleBits = quant.F16Bits(scale)
	scale = quant.F16Value(s.scaleBits)
	s.midBits = quant.F16Bits(lo + float32(s.centre*scale))
	s.mid = quant.F16Value(s.midBits)
	s.inv = 1 / max(scale, 1e-8)
	return s
}

func (s *sealSteps) code(x float32) byte {
	c := float32((x-s.mid)*s.inv) + s.centre
	return byte(RoundEven(min(max(c, 0), s.top)))
}

func rangeOf(row []byte) (lo, hi float32) {
	lo, hi = math.MaxFloat32, -math.MaxFloat32
	for i := 0; i < len(row); i += 2 {
		x := quant.F16Value(binary.LittleEndian.Uint16(row[i:]))
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

// RoundEven is the nearest integer, ties to even, for |x| < 2^22.
func RoundEven(x float32) int32 {
	const shift = 3 << 22 // from here on a float32 has no fraction left
	return int32(float32(x+shift) - shift)
}

// Hadamard replaces each row of dim floats, a power of two, by its orthonormal
// Walsh-Hadamard transform. The strides from 16 up come first and 1 to 8 last, as
// in the vector kernel, so that all variants round alike.
func Hadamard(x []float32, dim int) {
	scale := float32(1 / math.Sqrt(float64(dim)))
	for row := range len(x) / dim {
		r := x[row*dim:][:dim]
		for i := range r {
			r[i] *= scale
		}
		for stride := 16; stride < dim; stride *= 2 {
			butterflies(r, stride)
		}
		for stride := 1; stride < min(dim, 16); stride *= 2 {
			butterflies(r, stride)
		}
	}
}

// butterflies replaces each pair at this distance by its sum and difference.
func butterflies(r []float32, stride int) {
	for at := 0; at < len(r); at += 2 * stride {
		low, high := r[at:][:stride], r[at+stride:][:stride]
		for i, a := range low {
			low[i], high[i] = a+high[i], a-high[i]
		}
	}
}
