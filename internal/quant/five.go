package quant

import "encoding/binary"

// Q5_0: | d half | 32 bits, bit i the highest of element i | 16 bytes, nibbles as in Q4_0 |, x = d*(q-16).
// The scale is signed as in Q4_0.
func encodeQ5_0(src []float32, dst []byte) {
	d := largest(src) / -16
	binary.LittleEndian.PutUint16(dst, F16Bits(d))
	inv := inverse(d)
	packFives(src, dst[2:], func(x float32) float32 { return float32(x*inv) + 16.5 })
}

func decodeQ5_0(src []byte, dst []float32) {
	d := halfAt(src)
	for i := range dst {
		dst[i] = d * (float32(fiveAt(src[2:], i)) - 16)
	}
}

// Q5_1: | d half | m half | 32 bits and 16 bytes as in Q5_0 |, x = d*q + m.
func encodeQ5_1(src []float32, dst []byte) {
	low, high := extremes(src)
	d := (high - low) / 31
	binary.LittleEndian.PutUint16(dst, F16Bits(d))
	binary.LittleEndian.PutUint16(dst[2:], F16Bits(low))
	inv := inverse(d)
	packFives(src, dst[4:], func(x float32) float32 { return float32((x-low)*inv) + 0.5 })
}

func decodeQ5_1(src []byte, dst []float32) {
	d, m := halfAt(src), halfAt(src[2:])
	for i := range dst {
		dst[i] = float32(d*float32(fiveAt(src[4:], i))) + m
	}
}

// fiveAt is code i of the 32 bits and 16 bytes of codes.
func fiveAt(codes []byte, i int) byte {
	return codes[4+i%16]>>(i/16*4)&15 | codes[i/8]>>(i%8)&1<<4
}

// packFives writes level(x), cut to a whole number in 0..31, of 32 elements into 20 bytes.
func packFives(src []float32, dst []byte, level func(float32) float32) {
	clear(dst)
	for i, x := range src {
		q := byte(clamp(level(x), 0, 31))
		dst[i/8] |= q >> 4 << (i % 8)
		dst[4+i%16] |= q & 15 << (i / 16 * 4)
	}
}
