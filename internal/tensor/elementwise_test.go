package tensor

import (
	"math"
	"testing"
)

// Lengths to 300 at odd places, nothing written outside.
func eachLength(t *testing.T, story func(t *testing.T, k *Kernels, n, offset int)) {
	eachVariant(t, func(t *testing.T, k *Kernels) {
		for n := 0; n <= 300; n++ {
			story(t, k, n, n%5)
		}
	})
}

func TestRMSNorm(t *testing.T) {
	r := seeded(t)
	eachLength(t, func(t *testing.T, k *Kernels, n, offset int) {
		x, weight := normals(r, n, 0.2, 2), normals(r, n, 1, 0.1)
		dst, intact := guardedFloats(t, n, offset)
		k.RMSNorm(dst, x, weight, 1e-5)
		intact()
		var sum float64
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		scale := 1 / math.Sqrt(sum/float64(n)+1e-5)
		for i, v := range x {
			want := float64(v) * scale * float64(weight[i])
			if math.Abs(want-float64(dst[i])) > 1e-6*(1+math.Abs(want)) {
				t.Fatalf("length %d at %d: %v, not %v", n, i, dst[i], want)
			}
		}
		again, _ := guardedFloats(t, n, offset+1)
		copy(again, x)
		k.RMSNorm(again, again, weight, 1e-5)
		if err := sameBits(dst, again); err != nil {
			t.Fatalf("in place: %v", err)
		}
	})
}

func TestAdd(t *testing.T) {
	r := seeded(t)
	eachLength(t, func(t *testing.T, k *Kernels, n, offset int) {
		x, y := normals(r, n, 0, 1), normals(r, n, 0, 1)
		dst, intact := guardedFloats(t, n, offset)
		copy(dst, y)
		k.Add(dst, x)
		intact()
		for i := range dst {
			if dst[i] != y[i]+x[i] {
				t.Fatalf("length %d at %d: %v + %v is not %v", n, i, x[i], y[i], dst[i])
			}
		}
	})
}

func TestRope(t *testing.T) {
	r := seeded(t)
	eachVariant(t, func(t *testing.T, k *Kernels) {
		for headDim := 2; headDim <= 300; headDim += 2 {
			const heads = 3
			x, cs := normals(r, heads*headDim, 0, 1), make([]float32, headDim)
			half := headDim / 2
			for i := range half {
				sin, cos := math.Sincos(r.Float64() * 100)
				cs[i], cs[half+i] = float32(cos), float32(sin)
			}
			got, intact := guardedFloats(t, len(x), headDim%7)
			copy(got, x)
			k.Rope(got, heads, headDim, cs)
			intact()
			for i := range x {
				h, j := i-i%headDim, i%half
				a, b, c, s := float64(x[h+j]), float64(x[h+half+j]), float64(cs[j]), float64(cs[half+j])
				want := a*c - b*s
				if i%headDim >= half {
					want = b*c + a*s
				}
				if math.Abs(want-float64(got[i])) > 1e-6 {
					t.Fatalf("head dim %d at %d: %v, not %v", headDim, i, got[i], want)
				}
			}
		}
	})
}

func TestElementwiseMisuse(t *testing.T) {
	k := Variants()[0]
	x := make([]float32, 8)
	for name, misuse := range map[string]func(){
		"norm into less": func() { k.RMSNorm(x[:7], x, x, 0) },
		"short weight":   func() { k.RMSNorm(x, x, x[:7], 0) },
		"add of less":    func() { k.Add(x, x[:7]) },
		"odd head":       func() { k.Rope(x, 1, 7, x) },
		"short angles":   func() { k.Rope(x, 1, 8, x[:7]) },
	} {
		if !panics(misuse) {
			t.Errorf("%s: no panic", name)
		}
	}
	k.Rope(nil, 0, 8, x) // no heads, nothing to do
}
