package tensor

import (
	"fmt"
	"math"
)

// RMSNorm is dst = x / sqrt(mean(x*x) + eps) * weight; dst may be x.
func (k *Kernels) RMSNorm(dst, x, weight []float32, eps float32) {
	n := len(x)
	if len(dst) != n || len(weight) != n {
		panic(fmt.Sprintf("tensor: norm of %d floats, weight %d, into %d", n, len(weight), len(dst)))
	}
	if n == 0 {
		return
	}
	mean := float64(k.linear.sumSquares(x)) / float64(n)
	k.linear.scaleMul(dst, x, weight, float32(1/math.Sqrt(mean+float64(eps))))
}

// Add is dst += x.
func (k *Kernels) Add(dst, x []float32) {
	if len(dst) != len(x) {
		panic(fmt.Sprintf("tensor: add %d floats to %d", len(x), len(dst)))
	}
	if len(x) > 0 {
		k.linear.add(dst, x)
	}
}

// Rope rotates the pairs (i, i+headDim/2) of each head of x [heads, headDim]
// by the angles whose cosines and then sines are cs [headDim].
func (k *Kernels) Rope(x []float32, heads, headDim int, cs []float32) {
	if headDim <= 0 || headDim%2 != 0 || heads < 0 || len(x) < heads*headDim || len(cs) < headDim {
		panic(fmt.Sprintf("tensor: rope of %d heads of %d in %d floats by %d", heads, headDim, len(x), len(cs)))
	}
	if heads > 0 {
		k.linear.rope(x, heads, headDim, cs)
	}
}
