package tensor

import (
	"fmt"
	"math"
	"testing"

	"mneme/internal/quant"
)

// edgeCase is one block, of which every row sees the tokens from a first one on.
type edgeCase struct {
	form           quant.KVForm
	dim            int
	k, v           []byte    // the halves
	keys, values   []float64 // [token][dim] as stored
	queries        []float32
	first          []int
	openK, openV   []byte
	exactK, exactV []float64
}

// edgeFirst are the rows' first tokens: all, some, one, and none at 64.
var edgeFirst = []int{0, 3, 10, 63, 40, 64, 1}

func newEdgeCase(k *Kernels, form quant.KVForm, dim int) *edgeCase {
	x := newKVCase(k, form, dim, 1)
	c := &edgeCase{form: form, dim: dim, queries: kvQueries(len(edgeFirst), dim), first: edgeFirst,
		openK: x.openK[0], openV: x.openV[0], exactK: x.exactK, exactV: x.exactV}
	c.k, c.v = make([]byte, form.HalfBytes(dim, blockTokens)), make([]byte, form.HalfBytes(blockTokens, dim))
	x.sealBlock(form, 0, c.k, c.v)
	c.keys, c.values = x.sealedK, x.sealedV
	return c
}

// begin starts a tile of all rows from at on, at most n.
func (c *edgeCase) begin(a *Attention, at, n, own int) {
	a.Begin(n)
	for i := range n {
		a.Row(i, c.queries[(at+i)*c.dim:][:c.dim], own)
	}
}

func (c *edgeCase) end(a *Attention, n int) []float32 {
	out := make([]float32, n*c.dim)
	for i := range n {
		a.End(i, out[i*c.dim:][:c.dim])
	}
	return out
}

// A row sees of a block the tokens of its window and no others: sealed to the
// 2 % of int8 queries, in full precision to 2e-5; also where the window begins in
// the own block.
func TestWindowEdge(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, dim int) {
		c := newEdgeCase(k, form, dim)
		a := k.NewAttention(dim, len(c.first), 0)
		c.begin(a, 0, len(c.first), 1)
		a.SealedFrom(form, c.k, c.v, c.first)
		limit := 0.02
		if form == quant.KVF16 {
			limit = 2e-5
		}
		c.check(t, "sealed", c.end(a, len(c.first)), c.keys, c.values, blockTokens, limit)
		const own = 44
		c.begin(a, 0, len(c.first), own)
		a.OpenFrom(c.openK, c.openV, own+2, c.first)
		c.check(t, "own", c.end(a, len(c.first)), c.exactK, c.exactV, own, 2e-5)
	})
}

// check compares the rows that see something with attention in f64.
func (c *edgeCase) check(t *testing.T, what string, out []float32, keys, values []float64, last int, limit float64) {
	t.Helper()
	var got []float32
	var want []float64
	for i, first := range c.first {
		if first < last {
			got = append(got, out[i*c.dim:][:c.dim]...)
			want = append(want, plainAttention(c.queries[i*c.dim:][:c.dim], keys, values, first, last)...)
		}
	}
	if off := relative(got, want); !(off < limit) {
		t.Errorf("%s: off by %.6f, limit %g", what, off, limit)
	}
}

// A row's bits follow from its own window: they are the same alone and among
// others; a block that it sees whole counts as without a window, and one that it
// does not see as if it were not there.
func TestWindowEdgeOfARowIsItsOwn(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, dim int) {
		c := newEdgeCase(k, form, dim)
		a := k.NewAttention(dim, len(c.first), 0)
		tile := func(at, n int, edge func(first []int)) []float32 {
			c.begin(a, at, n, 20)
			a.Sealed(form, append(append([]byte{}, c.k...), c.v...), 0, len(c.k), oneBlock)
			edge(c.first[at:][:n])
			a.Open(c.openK, c.openV, 20)
			return c.end(a, n)
		}
		from := func(first []int) { a.SealedFrom(form, c.k, c.v, first) }
		together := tile(0, len(c.first), from)
		for i, first := range c.first {
			row := together[i*dim:][:dim]
			if at := firstDifference(tile(i, 1, from), row); at >= 0 {
				t.Errorf("row %d alone differs at %d", i, at)
			}
			other := func([]int) {}
			if first == 0 {
				other = func([]int) { a.Sealed(form, append(append([]byte{}, c.k...), c.v...), 0, len(c.k), oneBlock) }
			}
			if at := firstDifference(tile(i, 1, other), row); (at < 0) != (first == 0 || first == blockTokens) {
				t.Errorf("row %d, which sees from token %d on: without its window it differs at %d", i, first, at)
			}
		}
	})
}

// Hidden tokens whose scores are hundreds of bits above the others leave no
// trace: the visible ones do not drown.
func TestWindowEdgeHidesGiants(t *testing.T) {
	for _, k := range Variants() {
		for _, dim := range []int{64, 80} {
			c := newEdgeCase(k, quant.KVF16, dim)
			q := c.queries[:dim]
			giant := make([]float32, dim)
			for i := range giant {
				giant[i] = 2000 * q[i]
			}
			k.AppendKV(c.openK, c.openV, 2, giant, giant)
			for name, take := range map[string]func(a *Attention){
				"sealed": func(a *Attention) { a.SealedFrom(quant.KVF16, c.openK, c.openV, []int{3}) },
				"own":    func(a *Attention) { a.OpenFrom(c.openK, c.openV, 64, []int{3}) },
			} {
				a := k.NewAttention(dim, 1, 0)
				c.begin(a, 0, 1, 64)
				take(a)
				want := plainAttention(q, c.exactK, c.exactV, 3, blockTokens)
				if off := relative(c.end(a, 1), want); !(off < 2e-5) {
					t.Errorf("%s, %s, head dim %d: off by %g", k.Name(), name, dim, off)
				}
			}
			for _, form := range []quant.KVForm{quant.KVQ8, quant.KVQ4, quant.KVQ3} {
				kHalf, vHalf := make([]byte, form.HalfBytes(dim, blockTokens)), make([]byte, form.HalfBytes(blockTokens, dim))
				k.SealHalf(form, kHalf, c.openK, dim, blockTokens)
				k.SealHalf(form, vHalf, c.openV, blockTokens, dim)
				a := k.NewAttention(dim, 1, 0)
				c.begin(a, 0, 1, 64)
				a.SealedFrom(form, kHalf, vHalf, []int{3})
				for i, x := range c.end(a, 1) {
					if !(math.Abs(float64(x)) < 100) {
						t.Errorf("%s, %s, head dim %d: output %d is %g", k.Name(), form, dim, i, x)
					}
				}
			}
		}
	}
}

// plainAttention in f64 over keys and values [token][dim].
func plainAttention(q []float32, keys, values []float64, first, last int) []float64 {
	dim := len(q)
	scores, best := make([]float64, last), math.Inf(-1)
	for t := first; t < last; t++ {
		for c, x := range q {
			scores[t] += float64(x) * keys[t*dim+c] / math.Sqrt(float64(dim))
		}
		best = max(best, scores[t])
	}
	out, sum := make([]float64, dim), 0.0
	for t := first; t < last; t++ {
		p := math.Exp(scores[t] - best)
		sum += p
		for d := range out {
			out[d] += p * values[t*dim+d]
		}
	}
	for d := range out {
		out[d] /= sum
	}
	return out
}

// One block of 64 tokens as 3 rows (decode) and 48 (prefill) read it: whole, and
// where a window begins.
func BenchmarkWindowEdge(b *testing.B) {
	k := Variants()[0]
	for _, form := range []quant.KVForm{quant.KVQ4, quant.KVF16} {
		for _, rows := range []int{4, 48} {
			c := newEdgeCase(k, form, 256)
			c.queries, c.first = kvQueries(rows, 256), make([]int, rows)
			for i := range c.first {
				c.first[i] = i
			}
			a := k.NewAttention(256, rows, 0)
			c.begin(a, 0, rows, 1)
			both := append(append([]byte{}, c.k...), c.v...)
			b.Run(fmt.Sprintf("%s/rows%d/whole", form, rows), func(b *testing.B) {
				for b.Loop() {
					a.Sealed(form, both, 0, len(c.k), oneBlock)
				}
			})
			b.Run(fmt.Sprintf("%s/rows%d/edge", form, rows), func(b *testing.B) {
				for b.Loop() {
					a.SealedFrom(form, c.k, c.v, c.first)
				}
			})
		}
	}
}
