package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// kind is the type of a metadata value by its number in the file.
type kind uint32

const (
	kindU8 kind = iota
	kindI8
	kindU16
	kindI16
	kindU32
	kindI32
	kindF32
	kindBool
	kindString
	kindArray
	kindU64
	kindI64
	kindF64
	kindCount
)

// sizes of one value in bytes; 0 where the value says its own.
var kindSizes = [kindCount]int{
	kindU8: 1, kindI8: 1, kindU16: 2, kindI16: 2, kindU32: 4, kindI32: 4, kindF32: 4,
	kindBool: 1, kindU64: 8, kindI64: 8, kindF64: 8,
}

var kindNames = [kindCount]string{
	"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64", "float64",
}

func (k kind) String() string {
	if k < kindCount {
		return kindNames[k]
	}
	return fmt.Sprintf("value type %d", uint32(k))
}

// leastBytes is how few bytes a value can take: a string has at least its length.
func (k kind) leastBytes() int {
	if k == kindString {
		return 8
	}
	return kindSizes[k]
}

// value is a checked, still encoded metadata value.
type value struct {
	kind  kind
	elem  kind   // of an array: what it holds, never an array
	count int    // of an array: how many
	data  []byte // a scalar's or a string's bytes; an array's elements, strings with their lengths
}

// Keys are the metadata keys in file order.
func (f *File) Keys() []string { return slices.Clone(f.keys) }

// String is the text under key; false when there is none or it is no string.
func (f *File) String(key string) (string, bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindString {
		return "", false
	}
	return string(v.data), true
}

// Uint is the number under key; false when there is none, it is no integer of any width, or it is negative.
func (f *File) Uint(key string) (uint64, bool) {
	v, ok := f.values[key]
	if !ok || !v.kind.integer() {
		return 0, false
	}
	n, negative := integerAt(v.kind, v.data)
	return n, !negative
}

// Float is the number under key; false when there is none or it is no float32 or float64.
func (f *File) Float(key string) (float64, bool) {
	v, ok := f.values[key]
	if !ok || !v.kind.float() {
		return 0, false
	}
	return floatAt(v.kind, v.data), true
}

// Bool is the truth under key; false, false when there is none or it is no bool.
func (f *File) Bool(key string) (value, ok bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindBool {
		return false, false
	}
	return v.data[0] == 1, true
}

// Strings is the array of strings under key. They share one copy of the file's bytes, made by this call.
func (f *File) Strings(key string) ([]string, bool) {
	v, ok := f.array(key)
	if !ok || v.elem != kindString {
		return nil, false
	}
	all, out := string(v.data), make([]string, v.count)
	for i, at := 0, 0; i < v.count; i++ {
		start := at + 8
		at = start + int(binary.LittleEndian.Uint64(v.data[at:]))
		out[i] = all[start:at]
	}
	return out, true
}

// Ints is the array of integers under key, of any width; false too when one of them is no int32.
func (f *File) Ints(key string) ([]int32, bool) {
	v, ok := f.array(key)
	if !ok || !v.elem.integer() {
		return nil, false
	}
	out := make([]int32, v.count)
	for i := range out {
		bits, negative := integerAt(v.elem, v.data[i*kindSizes[v.elem]:])
		n := int64(bits)
		if n < math.MinInt32 || n > math.MaxInt32 || (n < 0) != negative {
			return nil, false
		}
		out[i] = int32(n)
	}
	return out, true
}

// Floats is the array of float32 or float64 under key, as float32.
func (f *File) Floats(key string) ([]float32, bool) {
	v, ok := f.array(key)
	if !ok || !v.elem.float() {
		return nil, false
	}
	out := make([]float32, v.count)
	for i := range out {
		out[i] = float32(floatAt(v.elem, v.data[i*kindSizes[v.elem]:]))
	}
	return out, true
}

func (f *File) array(key string) (value, bool) {
	v, ok := f.values[key]
	return v, ok && v.kind == kindArray
}

func (k kind) float() bool { return k == kindF32 || k == kindF64 }

func (k kind) integer() bool {
	return k <= kindI32 || k == kindU64 || k == kindI64
}

// integerAt decodes one integer, sign-extended to 64 bits.
func integerAt(k kind, data []byte) (bits uint64, negative bool) {
	var n int64
	switch k {
	case kindU8:
		n = int64(data[0])
	case kindI8:
		n = int64(int8(data[0]))
	case kindU16:
		n = int64(binary.LittleEndian.Uint16(data))
	case kindI16:
		n = int64(int16(binary.LittleEndian.Uint16(data)))
	case kindU32:
		n = int64(binary.LittleEndian.Uint32(data))
	case kindI32:
		n = int64(int32(binary.LittleEndian.Uint32(data)))
	case kindU64:
		return binary.LittleEndian.Uint64(data), false
	case kindI64:
		n = int64(binary.LittleEndian.Uint64(data))
	}
	return uint64(n), n < 0
}

func floatAt(k kind, data []byte) float64 {
	if k == kindF32 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(data)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(data))
}
