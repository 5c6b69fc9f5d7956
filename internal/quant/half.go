package quant

import "math"

const (
	signMask32 = 1 << 31
	inf32      = 0x7f800000 // bits of float32 +Inf; above it, NaN
	quiet32    = 1 << 22
	quiet16    = 1 << 9
	inf16      = 0x7c00
	maxHalf32  = 0x47800000 // bits of float32 65536: from here on there is only Inf (and 65520 rounds up to it)
	minHalf32  = 0x38800000 // bits of float32 2^-14: below it, halves are subnormal
)

// F16Bits is the half nearest to v, ties to even: exactly what the conversion instructions of amd64 and arm64 give.
// Beyond the range it is an infinity; a NaN becomes quiet and keeps its sign and the upper bits of its payload.
func F16Bits(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	abs := bits &^ signMask32
	switch {
	case abs > inf32:
		return sign | inf16 | quiet16 | uint16(abs>>13&0x3ff)
	case abs >= maxHalf32:
		return sign | inf16
	case abs < minHalf32:
		// One unit of a float32 in [0.5, 1) is one unit of a subnormal half: the addition rounds, to even.
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-math.Float32bits(0.5))
	}
	odd := abs >> 13 & 1
	return sign | uint16((abs-112<<23+0xfff+odd)>>13)
}

// F16Value is the value of a half; a NaN becomes quiet, everything else is exact.
func F16Value(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	abs := uint32(h&0x7fff) << 13
	if h&inf16 == inf16 {
		return specialValue(sign, abs)
	}
	// With the exponent 112 too small, subnormals included; the product by 2^112 is exact.
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(abs)*0x1p112))
}

// specialValue widens an infinity or a NaN.
func specialValue(sign, abs uint32) float32 {
	if abs&0x7fffff != 0 {
		abs |= quiet32
	}
	return math.Float32frombits(sign | inf32 | abs)
}

// bf16Bits rounds to the nearest bfloat16, ties to even; a NaN becomes quiet.
func bf16Bits(v float32) uint16 {
	bits := math.Float32bits(v)
	if bits&^signMask32 > inf32 {
		return uint16(bits>>16) | quiet32>>16
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

func bf16Value(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
