package kvblock

import (
	"encoding/binary"

	"mneme/internal/quant"
)

// Sealed is a sealed half being read: the scale and mid value of each k.
type Sealed struct {
	k, lanes   int
	form       quant.KVForm
	codes      []byte
	Scale, Mid []float32 // [k]
}

// NewSealed makes room for halves of k x lanes.
func NewSealed(k, lanes int) Sealed {
	return Sealed{k: k, lanes: lanes, Scale: make([]float32, k), Mid: make([]float32, k)}
}

// Read turns to a half, which it goes on using.
func (h *Sealed) Read(form quant.KVForm, half []byte) {
	n := CodeBytes(form, h.k, h.lanes)
	h.form, h.codes = form, half[:n]
	ReadHalves(h.Scale, half[n:])
	ReadHalves(h.Mid, half[n+2*h.k:])
}

// Dot leaves in dst [lanes] the sums over k of x times code less centre.
func (h *Sealed) Dot(dst, x []int32) {
	var sum int32
	for _, n := range x {
		sum += n
	}
	start := -sum << (codeBits(h.form) - 1)
	for i := range dst {
		dst[i] = start
	}
	switch h.form {
	case quant.KVQ3:
		dotQ3(dst, x, h.codes)
	case quant.KVQ4:
		dotQ4(dst, x, h.codes)
	default:
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

func dotQ3(dst, x []int32, codes []byte) {
	low, high, part := codes, codes[len(dst)*len(x)/4:], len(x)/4
	for j := range part / 4 {
		for i := range dst {
			u := binary.LittleEndian.Uint32(low[4*(len(dst)*j+i):])
			bits := high[32*(len(dst)/16*j+i/16)+i%16/2:]
			for s := range 4 {
				h := uint32(bits[8*s]) >> (4 * (i % 2))
				at := x[s*part+4*j:][:4]
				v := u >> (2 * s)
				dst[i] += at[0]*int32(v&3|h<<2&4) + at[1]*int32(v>>8&3|h<<1&4) +
					at[2]*int32(v>>16&3|h&4) + at[3]*int32(v>>24&3|h>>1&4)
			}
		}
	}
}
