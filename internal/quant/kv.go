package quant

import "fmt"

// KVForm is the number format of a block's keys or values.
type KVForm uint8

// The forms of KV: full precision, and the sealed forms.
const (
	KVF16 KVForm = iota
	KVQ8
	KVQ4
	// KVF32 is full precision for tests that hold a model to f32 truth.
	KVF32
	// KVQ3 is the smallest sealed form.
	KVQ3
)

// cacheLine is what a half block is rounded up to, so that halves never share a line.
const cacheLine = 64

// String is the form's name in flags, metrics and fingerprints.
func (f KVForm) String() string {
	switch f {
	case KVF16:
		return "f16"
	case KVQ8:
		return "q8"
	case KVQ4:
		return "q4"
	case KVF32:
		return "f32"
	case KVQ3:
		return "q3"
	}
	return fmt.Sprintf("KVForm(%d)", uint8(f))
}

// HalfBytes is the size of one half block (K or V of one KV head), a multiple of 64.
//   - k is what is summed over and carries the scales (K: channels; V: tokens), lanes the other side.
//   - f16 takes 2 bytes an element; q8, q4 and q3 take N bits, and 4 bytes of scale and zero for each of the k.
func (f KVForm) HalfBytes(k, lanes int) int {
	switch f {
	case KVF16:
		return roundUp(2 * k * lanes)
	case KVF32:
		return roundUp(4 * k * lanes)
	case KVQ8:
		return roundUp(k*lanes + 4*k)
	case KVQ4:
		return roundUp(k*lanes/2 + 4*k)
	case KVQ3:
		return roundUp(k*lanes*3/8 + 4*k)
	}
	panic(fmt.Sprintf("quant: half block of %s, k %d, lanes %d", f, k, lanes))
}

func roundUp(n int) int { return (n + cacheLine - 1) &^ (cacheLine - 1) }
