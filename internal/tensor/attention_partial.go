package tensor

import (
	"fmt"

	"mneme/internal/quant"
	"mneme/internal/tensor/kvblock"
)

// Partial takes in one block of which row i sees the tokens [first[i], last[i]),
// none where that is empty: a block in which a window begins. It works on the
// values that are stored, in f32 and plain order, in every variant; it is slow.
func (a *Attention) Partial(form quant.KVForm, kHalf, vHalf []byte, first, last []int) {
	if len(first) != a.rows || len(last) != a.rows {
		panic(fmt.Sprintf("tensor: partial block for %d and %d rows of %d", len(first), len(last), a.rows))
	}
	if a.block == nil {
		a.block = newPlainBlock(a.headDim)
	}
	a.block.load(form, kHalf, vHalf, a.headDim)
	for i := range a.rows {
		if first[i] < 0 || last[i] > blockTokens {
			panic(fmt.Sprintf("tensor: row %d sees tokens %d to %d of a block", i, first[i], last[i]))
		}
		if first[i] < last[i] {
			a.state.plain(i, a.block, first[i], last[i])
		}
	}
}

// plainBlock is a block's values in f32.
type plainBlock struct {
	keys   []float32 // [headDim][64]
	values []float32 // [64][headDim]
	scores []float32 // [64]
	q, out []float32 // [headDim], of a row that the vector kernels keep in pieces
}

func newPlainBlock(headDim int) *plainBlock {
	half := headDim * blockTokens
	floats := make([]float32, 2*half+blockTokens+2*headDim)
	cut := func(n int) (part []float32) {
		part, floats = floats[:n:n], floats[n:]
		return part
	}
	return &plainBlock{keys: cut(half), values: cut(half), scores: cut(blockTokens), q: cut(headDim), out: cut(headDim)}
}

func (b *plainBlock) load(form quant.KVForm, k, v []byte, headDim int) {
	kvblock.Read(form, b.keys, k, headDim, blockTokens)
	kvblock.Read(form, b.values, v, blockTokens, headDim)
}

// score fills scores with the products of q and the keys of tokens [first, last).
func (b *plainBlock) score(q []float32, first, last int) []float32 {
	scores := b.scores[first:last]
	clear(scores)
	for c, x := range q {
		for t, k := range b.keys[blockTokens*c+first : blockTokens*c+last] {
			scores[t] += float32(x * k)
		}
	}
	return scores
}

// add is out = out*alpha + sum of probability times value, from token first on.
func (b *plainBlock) add(out []float32, alpha float32, probabilities []float32, first int) {
	for d := range out {
		out[d] *= alpha
	}
	for t, p := range probabilities {
		for d, v := range b.values[(first+t)*len(out):][:len(out)] {
			out[d] += float32(p * v)
		}
	}
}

// plain takes tokens of a block in f32 into one row.
func (g *genericRows) plain(i int, b *plainBlock, first, last int) {
	r := &g.rows[i]
	scores := b.score(r.q, first, last)
	alpha := r.softmax(scores)
	r.mid *= alpha
	b.add(r.out, alpha, scores, first)
}
