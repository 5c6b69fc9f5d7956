package quant

import (
	"encoding/binary"
	"math"
)

// The superblocks: 256 elements, whose groups have small whole scales of a common half.
const superLen = 256

// Q4_K: | d half | dmin half | 12 bytes of scales (ScaleMin) | 128 bytes of nibbles |, x = d*scale*q - dmin*min.
// Groups of 32; group 2p is in the low nibbles of bytes 32p..32p+31, group 2p+1 in the high ones.
func encodeQ4K(src []float32, dst []byte) {
	clear(dst)
	encodeMinima(src, dst, 15, func(g, i int, q byte) { dst[16+g/2*32+i] |= q << (g % 2 * 4) })
}

func decodeQ4K(src []byte, dst []float32) {
	decodeMinima(src, dst, func(g, i int) byte { return src[16+g/2*32+i] >> (g % 2 * 4) & 15 })
}

// Q5_K: | d half | dmin half | 12 bytes of scales | 32 bytes, bit g of byte i the highest of element i of group g |
// 128 bytes of nibbles as in Q4_K |.
func encodeQ5K(src []float32, dst []byte) {
	clear(dst)
	encodeMinima(src, dst, 31, func(g, i int, q byte) {
		dst[16+i] |= q >> 4 << g
		dst[48+g/2*32+i] |= q & 15 << (g % 2 * 4)
	})
}

func decodeQ5K(src []byte, dst []float32) {
	decodeMinima(src, dst, func(g, i int) byte { return src[48+g/2*32+i]>>(g%2*4)&15 | src[16+i]>>g&1<<4 })
}

func decodeMinima(src []byte, dst []float32, code func(g, i int) byte) {
	d, dmin := halfAt(src), halfAt(src[2:])
	for g := range superLen / 32 {
		scale, least := ScaleMin(src[4:16], g)
		ds, dm := d*float32(scale), dmin*float32(least)
		for i := range 32 {
			dst[32*g+i] = float32(ds*float32(code(g, i))) - dm
		}
	}
}

// encodeMinima writes a superblock's scales and gives put the codes, 0..top. A group's minimum is never above zero.
func encodeMinima(src []float32, dst []byte, top float32, put func(g, i int, q byte)) {
	var steps, lows [8]float32
	for g := range steps {
		low, high := extremes(src[32*g:][:32])
		low = min(low, 0)
		steps[g], lows[g] = max(high-low, 0)/top, -low
	}
	d, dmin := putHalf(dst, largest(steps[:])/63), putHalf(dst[2:], largest(lows[:])/63)
	for g := range steps {
		scale, least := nearest(steps[g]*inverse(d), 0, 63), nearest(lows[g]*inverse(dmin), 0, 63)
		putScaleMin(dst[4:16], g, byte(scale), byte(least))
		inv, shift := inverse(d*scale), dmin*least
		for i, x := range src[32*g:][:32] {
			put(g, i, byte(nearest((x+shift)*inv, 0, top)))
		}
	}
}

// ScaleMin unpacks the 6-bit scale and minimum of group g, 0..7, from the 12 bytes of a Q4_K or Q5_K superblock.
//
//	byte  0..3   scale of group 0..3, and above it the two high bits of the scale of group 4..7
//	      4..7   minimum of group 0..3, likewise
//	      8..11  low nibble of the scale of group 4..7, and above it that of its minimum
func ScaleMin(scales []byte, g int) (scale, least byte) {
	if g < 4 {
		return scales[g] & 63, scales[g+4] & 63
	}
	return scales[g+4]&15 | scales[g-4]>>6<<4, scales[g+4]>>4 | scales[g]>>6<<4
}

// putScaleMin writes them, in bytes that were zero before.
func putScaleMin(scales []byte, g int, scale, least byte) {
	if g < 4 {
		scales[g] |= scale
		scales[g+4] |= least
		return
	}
	scales[g+4] = scale&15 | least<<4
	scales[g-4] |= scale >> 4 << 6
	scales[g] |= least >> 4 << 6
}

// Q6_K: | 128 bytes, low nibbles | 64 bytes, upper two bits | 16 x int8 scales | d half |, x = d*scale*(q-32), groups
// of 16. Element i of each half of 128: sixAt.
func encodeQ6K(src []float32, dst []byte) {
	clear(dst)
	var steps [16]float32
	for g := range steps {
		steps[g] = largest(src[16*g:][:16]) / -32
	}
	d := putHalf(dst[208:], largest(steps[:])/-128)
	for g, step := range steps {
		scale := nearest(step*inverse(d), -128, 127)
		dst[192+g] = byte(int8(scale))
		inv := inverse(d * scale)
		for i, x := range src[16*g:][:16] {
			putSix(dst, 16*g+i, byte(nearest(x*inv, -32, 31)+32))
		}
	}
}

func decodeQ6K(src []byte, dst []float32) {
	d := halfAt(src[208:])
	for i := range dst {
		dst[i] = float32(d*float32(int8(src[192+i/16]))) * (float32(sixAt(src, i)) - 32)
	}
}

// sixAt is code i: with i = 128h + 32p + j, its low bits are in byte 64h + 32(p%2) + j, nibble p/2, its high ones in
// byte 128 + 32h + j, pair p.
func sixAt(src []byte, i int) byte {
	h, p, j := i/128, i%128/32, i%32
	return src[64*h+32*(p%2)+j]>>(p/2*4)&15 | src[128+32*h+j]>>(2*p)&3<<4
}

func putSix(dst []byte, i int, q byte) {
	h, p, j := i/128, i%128/32, i%32
	dst[64*h+32*(p%2)+j] |= q & 15 << (p / 2 * 4)
	dst[128+32*h+j] |= q >> 4 << (2 * p)
}

// putHalf stores v as a half and returns what was stored.
func putHalf(dst []byte, v float32) float32 {
	binary.LittleEndian.PutUint16(dst, F16Bits(v))
	return halfAt(dst)
}

// nearest is v as a whole number within low..high.
func nearest(v, low, high float32) float32 {
	return clamp(float32(math.RoundToEven(float64(v))), low, high)
}
