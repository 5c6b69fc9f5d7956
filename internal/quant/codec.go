package quant

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// codec turns one block of numbers into its bytes and back.
type codec struct {
	encode func(src []float32, dst []byte)
	decode func(src []byte, dst []float32)
}

var codecs = map[Format]codec{
	F32:  {encodeF32, decodeF32},
	F16:  {encodeF16, decodeF16},
	BF16: {encodeBF16, decodeBF16},
	Q8_0: {encodeQ8_0, decodeQ8_0},
	Q4_0: {encodeQ4_0, decodeQ4_0},
	Q4_1: {encodeQ4_1, decodeQ4_1},
	Q5_0: {encodeQ5_0, decodeQ5_0},
	Q5_1: {encodeQ5_1, decodeQ5_1},
	Q4_K: {encodeQ4K, decodeQ4K},
	Q5_K: {encodeQ5K, decodeQ5K},
	Q6_K: {encodeQ6K, decodeQ6K},
}

// Dequantize decodes src into dst; src must be exactly the bytes of len(dst) elements.
func Dequantize(f Format, src []byte, dst []float32) error {
	c, err := f.codecFor(len(dst), len(src))
	if err != nil {
		return err
	}
	elems, size := f.Block()
	for i := 0; i < len(dst)/elems; i++ {
		c.decode(src[i*size:(i+1)*size], dst[i*elems:(i+1)*elems])
	}
	return nil
}

// Quantize encodes src into dst, which must be exactly the bytes of len(src) elements. The scale of a block comes from
// its extremes, without a search, as ggml's reference does; it is a half, so blocks beyond its range become infinite.
func Quantize(f Format, src []float32, dst []byte) error {
	c, err := f.codecFor(len(src), len(dst))
	if err != nil {
		return err
	}
	elems, size := f.Block()
	for i := 0; i < len(src)/elems; i++ {
		c.encode(src[i*elems:(i+1)*elems], dst[i*size:(i+1)*size])
	}
	return nil
}

// codecFor is the codec of f, once elems elements are known to take size bytes.
func (f Format) codecFor(elems, size int) (codec, error) {
	c, ok := codecs[f]
	if !ok {
		return c, fmt.Errorf("quant: no codec for %s; supported are %s", f, supported())
	}
	want, err := RowBytes(f, elems)
	if err == nil && want != size {
		err = fmt.Errorf("quant: %d elements of %s take %d bytes, not %d", elems, f, want, size)
	}
	return c, err
}

// supported lists the formats with a codec.
func supported() string {
	var names []string
	for _, f := range slices.Sorted(maps.Keys(codecs)) {
		names = append(names, f.String())
	}
	return strings.Join(names, ", ")
}

func encodeF32(src []float32, dst []byte) {
	binary.LittleEndian.PutUint32(dst, math.Float32bits(src[0]))
}

func decodeF32(src []byte, dst []float32) {
	dst[0] = math.Float32frombits(binary.LittleEndian.Uint32(src))
}

func encodeF16(src []float32, dst []byte)  { binary.LittleEndian.PutUint16(dst, F16Bits(src[0])) }
func decodeF16(src []byte, dst []float32)  { dst[0] = halfAt(src) }
func encodeBF16(src []float32, dst []byte) { binary.LittleEndian.PutUint16(dst, bf16Bits(src[0])) }
func decodeBF16(src []byte, dst []float32) { dst[0] = bf16Value(binary.LittleEndian.Uint16(src)) }

// Q8_0: | d half | 32 x int8 |, x = d*q.
func encodeQ8_0(src []float32, dst []byte) {
	d := abs32(largest(src)) / 127
	binary.LittleEndian.PutUint16(dst, F16Bits(d))
	inv := inverse(d)
	for i, x := range src {
		dst[2+i] = byte(int8(math.Round(float64(clamp(x*inv, -127, 127)))))
	}
}

func decodeQ8_0(src []byte, dst []float32) {
	d := halfAt(src)
	for i := range dst {
		dst[i] = d * float32(int8(src[2+i]))
	}
}

// Q4_0: | d half | 16 bytes, element i in the low and i+16 in the high nibble |, x = d*(q-8).
// The scale is signed: the element furthest from zero gets q = 0, exactly.
func encodeQ4_0(src []float32, dst []byte) {
	d := largest(src) / -8
	binary.LittleEndian.PutUint16(dst, F16Bits(d))
	inv := inverse(d)
	packNibbles(src, dst[2:], func(x float32) float32 { return float32(x*inv) + 8.5 })
}

func decodeQ4_0(src []byte, dst []float32) {
	d := halfAt(src)
	for i, b := range src[2:18] {
		dst[i] = d * (float32(b&15) - 8)
		dst[i+16] = d * (float32(b>>4) - 8)
	}
}

// Q4_1: | d half | m half | 16 bytes, nibbles as in Q4_0 |, x = d*q + m.
func encodeQ4_1(src []float32, dst []byte) {
	low, high := extremes(src)
	d := (high - low) / 15
	binary.LittleEndian.PutUint16(dst, F16Bits(d))
	binary.LittleEndian.PutUint16(dst[2:], F16Bits(low))
	inv := inverse(d)
	packNibbles(src, dst[4:], func(x float32) float32 { return float32((x-low)*inv) + 0.5 })
}

func decodeQ4_1(src []byte, dst []float32) {
	d, m := halfAt(src), halfAt(src[2:])
	for i, b := range src[4:20] {
		dst[i] = float32(d*float32(b&15)) + m
		dst[i+16] = float32(d*float32(b>>4)) + m
	}
}

// packNibbles writes level(x), cut to a whole number in 0..15, of 32 elements into 16 bytes.
func packNibbles(src []float32, dst []byte, level func(float32) float32) {
	for i := range dst {
		low, high := clamp(level(src[i]), 0, 15), clamp(level(src[i+16]), 0, 15)
		dst[i] = byte(low) | byte(high)<<4
	}
}

func halfAt(src []byte) float32 { return F16Value(binary.LittleEndian.Uint16(src)) }

// largest is the first element that is furthest from zero, with its sign.
func largest(src []float32) float32 {
	var most float32
	for _, x := range src {
		if abs32(x) > abs32(most) {
			most = x
		}
	}
	return most
}

func extremes(src []float32) (low, high float32) {
	low, high = src[0], src[0]
	for _, x := range src {
		low, high = min(low, x), max(high, x)
	}
	return low, high
}

func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// clamp keeps v within low..high; a NaN becomes low, so that no input gives bytes that depend on the processor.
func clamp(v, low, high float32) float32 {
	switch {
	case v > high:
		return high
	case v >= low:
		return v
	}
	return low
}

func abs32(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ signMask32) }
