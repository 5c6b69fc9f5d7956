package tensor

import (
	"math"
	"testing"

	"mneme/internal/quant"
	"mneme/internal/tensor/kvblock"
)

// A block read by Partial up to its end gives what the whole-block kernel gives,
// within the rounding of its int8 queries and probabilities; ranges give what
// f64 over the stored values gives.
func TestPartial(t *testing.T) {
	r := seeded(t)
	for _, k := range Variants() {
		for _, dim := range []int{16, 64, 80, 128} {
			const rows = 7
			kHalf, vHalf := make([]byte, quant.KVF16.HalfBytes(dim, blockTokens)), make([]byte, quant.KVF16.HalfBytes(blockTokens, dim))
			for slot := range blockTokens {
				k.AppendKV(kHalf, vHalf, slot, normals(r, dim, 0, 1), normals(r, dim, 0, 1))
			}
			queries := normals(r, rows*dim, 0, 1)
			first, last := []int{0, 3, 10, 63, 40, 5, 64}, []int{64, 64, 20, 64, 40, 6, 64}
			for _, form := range []quant.KVForm{quant.KVF16, quant.KVQ8, quant.KVQ4, quant.KVQ3} {
				kSealed, vSealed := make([]byte, form.HalfBytes(dim, blockTokens)), make([]byte, form.HalfBytes(blockTokens, dim))
				k.SealHalf(form, kSealed, kHalf, dim, blockTokens)
				k.SealHalf(form, vSealed, vHalf, blockTokens, dim)
				a := k.NewAttention(dim, rows, 0)
				a.Begin(rows)
				for i := range rows {
					a.Row(i, queries[i*dim:][:dim], 1)
				}
				a.Partial(form, kSealed, vSealed, first, last)
				keys, values := make([]float32, dim*blockTokens), make([]float32, dim*blockTokens)
				kvblock.Read(form, keys, kSealed, dim, blockTokens)
				kvblock.Read(form, values, vSealed, blockTokens, dim)
				out := make([]float32, dim)
				for i := range rows {
					if first[i] == last[i] {
						continue // sees nothing: its output is another block's matter
					}
					a.End(i, out)
					want := plainAttention(queries[i*dim:][:dim], keys, values, first[i], last[i])
					for d := range out {
						if math.Abs(float64(out[d])-want[d]) > 2e-5 {
							t.Fatalf("%s, dim %d, %s: row %d, dim %d is %g, want %g", k.Name(), dim, form, i, d, out[d], want[d])
						}
					}
				}
			}
		}
	}
}

// plainAttention in f64 over keys [dim][64] and values [64][dim].
func plainAttention(q, keys, values []float32, first, last int) []float64 {
	dim := len(q)
	scores := make([]float64, blockTokens)
	best := math.Inf(-1)
	for t := first; t < last; t++ {
		for c, x := range q {
			scores[t] += float64(x) * float64(keys[c*blockTokens+t]) / math.Sqrt(float64(dim))
		}
		best = math.Max(best, scores[t])
	}
	out, sum := make([]float64, dim), 0.0
	for t := first; t < last; t++ {
		p := math.Exp(scores[t] - best)
		sum += p
		for d := range out {
			out[d] += p * float64(values[t*dim+d])
		}
	}
	for d := range out {
		out[d] /= sum
	}
	return out
}
