package tensor

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"mneme/internal/arena"
	"mneme/internal/quant"
)

// benchWeights are n x k in one format, in huge pages, from a few random rows.
func benchWeights(b *testing.B, k *Kernels, f quant.Format, n, kdim int) *Weights {
	r := rand.New(rand.NewPCG(1, 1))
	size, err := quant.RowBytes(f, kdim)
	if err != nil {
		b.Fatal(err)
	}
	rows := make([][]byte, 64)
	for i := range rows {
		rows[i] = make([]byte, size)
		if err := quant.Quantize(f, normals(r, kdim, 0, 0.05), rows[i]); err != nil {
			b.Fatal(err)
		}
	}
	var memory arena.Bump
	w, err := k.Pack(n, kdim, func(i int) (quant.Format, []byte) { return f, rows[i%len(rows)] }, memory.Take)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = memory.Free() })
	return w
}

// One row is bound by memory (64 MiB of weights do not fit a cache), sixteen
// by arithmetic.
func BenchmarkMatMul(b *testing.B) {
	for _, k := range Variants() {
		for _, f := range append(append(quantised, superblocks...), quant.F32) {
			for _, c := range []struct{ rows, n, k int }{{1, 49152, 1536}, {16, 1536, 768}, {512, 1536, 768}} {
				if c.n > 2048 && (k.Name() == "generic" || f == quant.F32) || c.rows > 16 && k.Name() == "generic" {
					continue
				}
				b.Run(fmt.Sprintf("variant=%s/format=%s/rows=%d", k.Name(), f, c.rows), func(b *testing.B) {
					w := benchWeights(b, k, f, c.n, c.k)
					a := begun(b, k, normals(rand.New(rand.NewPCG(2, 2)), c.rows*c.k, 0, 1), c.rows, w)
					dst := make([]float32, a.PaddedRows()*w.PaddedN())
					b.SetBytes(int64(w.SizeBytes()))
					for b.Loop() {
						k.MatMul(dst, w.PaddedN(), w, a, 0, 1)
					}
					macs := float64(c.rows) * float64(c.n) * float64(c.k)
					b.ReportMetric(macs*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GMAC/s")
				})
			}
		}
	}
}

func BenchmarkRMSNorm(b *testing.B) {
	for _, k := range Variants() {
		b.Run("variant="+k.Name(), func(b *testing.B) {
			x := normals(rand.New(rand.NewPCG(3, 3)), 576, 0, 1)
			dst := make([]float32, len(x))
			for b.Loop() {
				k.RMSNorm(dst, x, x, 1e-5)
			}
		})
	}
}

func BenchmarkSetRow(b *testing.B) {
	for _, k := range Variants() {
		b.Run("variant="+k.Name(), func(b *testing.B) {
			w := benchWeights(b, k, quant.Q8_0, 16, 576)
			x := normals(rand.New(rand.NewPCG(4, 4)), 576, 0, 1)
			a := begun(b, k, x, 1, w)
			for b.Loop() {
				k.SetRow(a, 0, x)
			}
		})
	}
}

func BenchmarkPack(b *testing.B) {
	const n, kdim = 49152, 1536
	raw := make([]byte, kdim/32*20)
	memory := make([]byte, 64<<20)
	b.SetBytes(int64(n * len(raw)))
	for b.Loop() {
		_, err := Variants()[0].Pack(n, kdim, func(int) (quant.Format, []byte) { return quant.Q4_1, raw },
			func(int) ([]byte, error) { return memory, nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}
