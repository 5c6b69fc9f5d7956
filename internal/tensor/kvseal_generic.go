package tensor

import (
	"encoding/binary"
	"math"

	"mneme/internal/quant"
)

// largestHalf is the largest finite f16.
const largestHalf = 65504

// sealedHalf reads one half block at a time.
type sealedHalf struct {
	k, lanes   int
	form       quant.KVForm
	codes      []byte
	scale, mid []float32 // [k]
}

func newSealedHalf(k, lanes int) sealedHalf {
	return sealedHalf{k: k, lanes: lanes, scale: make([]float32, k), mid: make([]float32, k)}
}

func (h *sealedHalf) read(form quant.KVForm, half []byte) {
	n := codeBytes(form, h.k, h.lanes)
	h.form, h.codes = form, half[:n]
	readHalves(h.scale, half[n:])
	readHalves(h.mid, half[n+2*h.k:])
}

// codeBytes is the size of a half's codes, and the offset of its scales.
func codeBytes(form quant.KVForm, k, lanes int) int { return k * lanes * codeBits(form) / 8 }

func codeBits(form quant.KVForm) int {
	if form == quant.KVQ4 {
		return 4
	}
	return 8
}

// dot leaves in dst [lanes] the sums over k of x times code less centre.
func (h *sealedHalf) dot(dst, x []int32) {
	var sum int32
	for _, n := range x {
		sum += n
	}
	start := -sum << (codeBits(h.form) - 1)
	for i := range dst {
		dst[i] = start
	}
	if h.form == quant.KVQ4 {
		dotQ4(dst, x, h.codes)
	} else {
		dotQ8(dst, x, h.codes)
	}
}

func dotQ8(dst, x []int32, codes []byte) {
	for j := range len(x) / 4 {
		a, b, c, d := x[4*j], x[4*j+1], x[4*j+2], x[4*j+3]
		step := codes[4*len(dst)*j:][:4*len(dst)]
		for i := range dst {
			u := binary.LittleEndian.Uint32(step[4*i:])
			dst[i] += a*int32(u&255) + b*int32(u>>8&255) + c*int32(u>>16&255) + d*int32(u>>24)
		}
	}
}

func dotQ4(dst, x []int32, codes []byte) {
	low, high := x[:len(x)/2], x[len(x)/2:]
	for j := range len(low) / 4 {
		a, b, c, d := low[4*j], low[4*j+1], low[4*j+2], low[4*j+3]
		e, f, g, h := high[4*j], high[4*j+1], high[4*j+2], high[4*j+3]
		step := codes[4*len(dst)*j:][:4*len(dst)]
		for i := range dst {
			u := binary.LittleEndian.Uint32(step[4*i:])
			dst[i] += a*int32(u&15) + b*int32(u>>8&15) + c*int32(u>>16&15) + d*int32(u>>24&15) +
				e*int32(u>>4&15) + f*int32(u>>12&15) + g*int32(u>>20&15) + h*int32(u>>28)
		}
	}
}

func genericAppend(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	v := vHalf[2*len(vx)*slot:]
	for i, x := range vx {
		binary.LittleEndian.PutUint16(v[2*i:], finiteHalf(x))
	}
	for i, x := range kx {
		binary.LittleEndian.PutUint16(kHalf[2*(blockTokens*i+slot):], finiteHalf(x))
	}
}

func exactAppend(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	for i := range kx {
		binary.LittleEndian.PutUint32(kHalf[4*(blockTokens*i+slot):], math.Float32bits(kx[i]))
		binary.LittleEndian.PutUint32(vHalf[4*(len(vx)*slot+i):], math.Float32bits(vx[i]))
	}
}

// finiteHalf is the nearest finite f16; NaN becomes the largest.
func finiteHalf(x float32) uint16 {
	if !(x < largestHalf) {
		x = largestHalf
	}
	return quant.F16Bits(max(x, -largestHalf))
}

// genericSeal quantises each k on its own: lanes values between a smallest and a largest one.
func genericSeal(form quant.KVForm, dst, src []byte, k, lanes int) {
	codes := dst[:codeBytes(form, k, lanes)]
	scales, mids := dst[len(codes):], dst[len(codes)+2*k:]
	clear(codes)
	for i := range k {
		row := src[2*lanes*i:][:2*lanes]
		s := newSealSteps(form, row)
		binary.LittleEndian.PutUint16(scales[2*i:], s.scaleBits)
		binary.LittleEndian.PutUint16(mids[2*i:], s.midBits)
		at, shift := i, 0
		if form == quant.KVQ4 && i >= k/2 {
			at, shift = i-k/2, 4
		}
		step := codes[4*lanes*(at/4)+at%4:]
		for l := range lanes {
			step[4*l] |= s.code(quant.F16Value(binary.LittleEndian.Uint16(row[2*l:]))) << shift
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
	return byte(roundEven(min(max(c, 0), s.top)))
}

func rangeOf(row []byte) (lo, hi float32) {
	lo, hi = math.MaxFloat32, -math.MaxFloat32
	for i := 0; i < len(row); i += 2 {
		x := quant.F16Value(binary.LittleEndian.Uint16(row[i:]))
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

// genericHadamard does the strides from 16 up first and 1 to 8 last, as the
// vector kernel does, so that all variants round alike.
func genericHadamard(x []float32, dim int) {
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
