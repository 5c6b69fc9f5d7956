// Package kvblock knows how the K or the V of one KV head lies in memory for a
// block of tokens: open in full precision and sealed in each number format; how
// a token is appended and a half sealed, read, and multiplied with integers. It
// is plain Go, the truth that the vector kernels are tested against.
//
// A half is the K or the V of a block. It is summed over k and has lanes beside
// each other:
//
//	     k         lanes
//	K    headDim   64 tokens
//	V    64 tokens headDim
//
// Full precision (an open block, or a complete one under KVF16) is f16 [k][lanes].
// Sealed, which needs lanes and k in multiples of 16:
//
//	codes   lane l of step j has 4 bytes at 4*(lanes*j + l); byte b is
//	        q8, j < k/4:  the code of k = 4j+b
//	        q4, j < k/8:  low nibble the code of k = 4j+b, high nibble of k = K/2+4j+b
//	        q3, j < k/16: bits 2s..2s+1 the low bits of the code of k = s*K/4+4j+b, s = 0..3; then their high bits in
//	                      words of 64 [j][lanes/16][s], bit 4*(l%16)+b
//	scale   f16 [k]
//	mid     f16 [k], the value at the centre code:  x = mid + scale*(code - centre), centre 128, 8 or 4
//
// and the whole rounded up to cache lines (quant.KVForm.HalfBytes).
//
// It leaves softmax and the vector kernels to tensor, and sizes to quant.
package kvblock

import (
	"encoding/binary"
	"math"

	"mneme/internal/quant"
)

// Tokens is how many tokens a block has.
const Tokens = 64

// CodeBytes is the size of a sealed half's codes, and the offset of its scales.
func CodeBytes(form quant.KVForm, k, lanes int) int { return k * lanes * codeBits(form) / 8 }

func codeBits(form quant.KVForm) int {
	switch form {
	case quant.KVQ3:
		return 3
	case quant.KVQ4:
		return 4
	}
	return 8
}

// putCode writes the code of row i, lane l of a half, whose codes were zero.
func putCode(form quant.KVForm, codes []byte, i, l, k, lanes int, code byte) {
	switch form {
	case quant.KVQ8:
		codes[4*(lanes*(i/4)+l)+i%4] = code
	case quant.KVQ4:
		part, at := i/(k/2), i%(k/2)
		codes[4*(lanes*(at/4)+l)+at%4] |= code << (4 * part)
	case quant.KVQ3:
		part, at := i/(k/4), i%(k/4)
		codes[4*(lanes*(at/4)+l)+at%4] |= code & 3 << (2 * part)
		bit := 4*(l%16) + at%4
		codes[k*lanes/4+32*(lanes/16*(at/4)+l/16)+8*part+bit/8] |= code >> 2 << (bit % 8)
	}
}

// ReadHalves widens len(dst) f16.
func ReadHalves(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = quant.F16Value(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// ReadFloats copies len(dst) f32.
func ReadFloats(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}
