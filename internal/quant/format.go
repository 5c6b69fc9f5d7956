// Package quant knows the bytes of every number format: how many elements share a block, how many bytes the block
// takes, and, for the formats in use, the slow, true codec that every kernel is measured against.
//
// It leaves the order of rows and tensors to gguf, the arrangement of weights and KV for speed to tensor, and what a
// number means to model.
package quant

import (
	"fmt"
	"math"
)

// Format is a tensor type by its ggml number.
type Format uint32

// The formats with a codec.
const (
	F32  Format = 0
	F16  Format = 1
	Q4_0 Format = 2
	Q4_1 Format = 3
	Q5_0 Format = 6
	Q5_1 Format = 7
	Q8_0 Format = 8
	Q4_K Format = 12
	Q5_K Format = 13
	Q6_K Format = 14
	BF16 Format = 30
)

// layout is what a format's name promises: elems numbers in bytes bytes.
type layout struct {
	name  string
	elems int
	bytes int
}

// layouts is the closed table of ggml's types; numbers that ggml has given up (4, 5, 31-33, 36-38) are not in it.
var layouts = map[Format]layout{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, Q4_0: {"Q4_0", 32, 18}, Q4_1: {"Q4_1", 32, 20},
	Q5_0: {"Q5_0", 32, 22}, Q5_1: {"Q5_1", 32, 24}, Q8_0: {"Q8_0", 32, 34}, 9: {"Q8_1", 32, 36},
	10: {"Q2_K", 256, 84}, 11: {"Q3_K", 256, 110}, Q4_K: {"Q4_K", 256, 144}, Q5_K: {"Q5_K", 256, 176},
	Q6_K: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292}, 16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74},
	18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50}, 20: {"IQ4_NL", 32, 18}, 21: {"IQ3_S", 256, 110},
	22: {"IQ2_S", 256, 82}, 23: {"IQ4_XS", 256, 136}, 24: {"I8", 1, 1}, 25: {"I16", 1, 2},
	26: {"I32", 1, 4}, 27: {"I64", 1, 8}, 28: {"F64", 1, 8}, 29: {"IQ1_M", 256, 56}, BF16: {"BF16", 1, 2},
	34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66}, 39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36}, 41: {"Q1_0", 128, 18},
}

// String is ggml's name of the format, or "type N" for a number that has none.
func (f Format) String() string {
	if l, ok := layouts[f]; ok {
		return l.name
	}
	return fmt.Sprintf("type %d", uint32(f))
}

// Known reports whether ggml names this type; its sizes are then known, its codec perhaps not.
func (f Format) Known() bool {
	_, ok := layouts[f]
	return ok
}

// Supported reports whether Quantize and Dequantize take this format.
func (f Format) Supported() bool {
	_, ok := codecs[f]
	return ok
}

// Block is how many elements share a block and how many bytes it takes; 0, 0 for a type that is not Known.
func (f Format) Block() (elems, bytes int) {
	l := layouts[f]
	return l.elems, l.bytes
}

// RowBytes is the size of n elements. It fails for an unknown type, for n that is not whole blocks, and on overflow.
func RowBytes(f Format, n int) (int, error) {
	elems, size := f.Block()
	switch {
	case elems == 0:
		return 0, fmt.Errorf("quant: unknown tensor type %d", uint32(f))
	case n < 0 || n%elems != 0:
		return 0, fmt.Errorf("quant: %d elements are not whole %s blocks of %d", n, f, elems)
	case n/elems > math.MaxInt/size:
		return 0, fmt.Errorf("quant: %d elements of %s overflow the address space", n, f)
	}
	return n / elems * size, nil
}
