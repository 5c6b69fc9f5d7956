package tensor

import (
	"fmt"
	"math/bits"

	"mneme/internal/quant"
)

// attentionFuncs is a variant's part for attention and the blocks it reads.
// Sizes are checked by the methods of Kernels and Attention.
//   - append, seal and hadamard give equal bits in all variants; attention does within a numerics class.
type attentionFuncs struct {
	rows     func(headDim, maxRows int, scaleLog2 float32) attentionRows
	append   func(kHalf, vHalf []byte, slot int, kx, vx []float32)
	seal     func(form quant.KVForm, dst, src []byte, k, lanes int) // q8, q4 or q3
	hadamard func(x []float32, dim int)
	full     quant.KVForm // of open blocks and of those that stay in full precision
}

func (f *attentionFuncs) elemBytes() int { return f.full.HalfBytes(lineBytes, 1) / lineBytes }

// Exact is the portable variant with KV in f32 (quant.KVF32), for tests that
// hold a model to f32 truth.
func Exact() *Kernels {
	return &Kernels{name: "exact", class: "exact-1", linear: genericLinear(), attention: &exactAttention}
}

// attentionFor gives a variant its part by its name.
var attentionFor = map[string]*attentionFuncs{
	"generic":    &genericAttention,
	"avx512vnni": nativeAttention,
}

// AppendKV writes the key kx and the value vx, headDim floats each, as token
// slot of an open block: K [headDim][64], V [64][headDim] of f16. What is
// beyond the largest finite f16 becomes the largest, NaN too.
func (k *Kernels) AppendKV(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	size := k.attention.elemBytes() * blockTokens * len(kx)
	if len(kx) != len(vx) || len(kHalf) < size || len(vHalf) < size || uint(slot) >= blockTokens {
		panic(fmt.Sprintf("tensor: append of %d and %d floats as slot %d of halves of %d and %d bytes", len(kx), len(vx), slot, len(kHalf), len(vHalf)))
	}
	k.attention.append(kHalf, vHalf, slot, kx, vx)
}

// SealHalf writes the open half src, f16 [kDim][lanes], to dst in a sealed
// form; full precision is copied. The same src gives the same bytes in every variant; the
// padding up to a cache line is left as it is.
func (k *Kernels) SealHalf(form quant.KVForm, dst, src []byte, kDim, lanes int) {
	open := k.attention.elemBytes() * kDim * lanes
	if kDim <= 0 || lanes <= 0 || len(src) < open || len(dst) < form.HalfBytes(kDim, lanes) {
		panic(fmt.Sprintf("tensor: seal %d x %d as %s from %d to %d bytes", kDim, lanes, form, len(src), len(dst)))
	}
	checkForm(form, kDim, lanes)
	if form == k.attention.full {
		copy(dst, src[:open])
		return
	}
	k.attention.seal(form, dst, src, kDim, lanes)
}

// checkForm panics unless a half of these sizes exists in a form; attention
// asks for its K half, whose k is the head dim, so both are held to 16.
func checkForm(form quant.KVForm, kDim, lanes int) {
	if form != quant.KVF16 && form != quant.KVF32 && (kDim%16 != 0 || lanes%16 != 0) {
		panic(fmt.Sprintf("tensor: %s half block of %d x %d; both must be multiples of 16", form, kDim, lanes))
	}
}

// Hadamard replaces each row of dim floats of x by its orthonormal
// Walsh-Hadamard transform, which is its own inverse. dim is a power of two.
func (k *Kernels) Hadamard(x []float32, dim int) {
	if dim <= 0 || bits.OnesCount(uint(dim)) != 1 || len(x)%dim != 0 {
		panic(fmt.Sprintf("tensor: hadamard of %d floats in rows of %d", len(x), dim))
	}
	if len(x) > 0 {
		k.attention.hadamard(x, dim)
	}
}
