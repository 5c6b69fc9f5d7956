package tensor

import (
	"fmt"
	"strings"
	"sync"

	"mneme/internal/tensor/tile"
)

// Kernels is one variant of all kernels; it holds no state and any number of
// goroutines may use it.
type Kernels struct {
	name      string
	class     string
	linear    linearFuncs
	attention *attentionFuncs
}

// linearFuncs is the variant's part for weights, activations and elements.
// Lengths are checked by the methods of Kernels, not here.
type linearFuncs struct {
	gemm       [tile.Kinds][len(heights)]gemmFunc
	quantRow   func(x []float32, a []byte, at rowPlace)
	sumSquares func(x []float32) float32
	scaleMul   func(dst, x, weight []float32, s float32)
	add        func(dst, x []float32)
	rope       func(x []float32, heads, headDim int, cs []float32)
	siluTile   func(dst []float32, ld int, tile []float32, rows int)
}

// gemmFunc multiplies one activation panel of a fixed height, tiles*64 long,
// with panels of 16 weight rows: c[m*ldc + 16*p + lane].
type gemmFunc func(w *byte, panels int, a *byte, tiles int, c *float32, ldc int)

// Name is the variant's name in flags, logs and the registry.
func (k *Kernels) Name() string { return k.name }

// Class names the numerics class: variants and versions of one class give
// equal bits, so that their KV may be mixed.
func (k *Kernels) Class() string { return k.class }

var variants = sync.OnceValue(func() []*Kernels {
	all := append(native(), &Kernels{name: "generic", class: "generic-2", linear: genericLinear()})
	for _, k := range all {
		k.attention = attentionFor[k.name]
	}
	return all
})

// Variants lists what this machine can run, best first; generic is last.
func Variants() []*Kernels { return variants() }

// Pick finds a variant by name; "" is the best one.
func Pick(name string) (*Kernels, error) {
	var names []string
	for _, k := range Variants() {
		if name == "" || k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	return nil, fmt.Errorf("tensor: no kernels %q on this machine; it runs %s", name, strings.Join(names, ", "))
}
