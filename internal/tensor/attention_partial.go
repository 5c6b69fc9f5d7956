package tensor

import (
	"encoding/binary"
	"fmt"

	"mneme/internal/quant"
)

// Partial takes in one block of which row i sees the tokens [first[i], last[i]),
// none where that is empty: a block in which a window begins. It works on the
// values that are stored, in f32 and plain order, in every variant; it is slow.
func (a *Attention) Partial(form quant.KVForm, kHalf, vHalf []byte, first, last []int) {
	if len(first) != a.rows || len(last) != a.rows {
		panic(fmt.Sprintf("tensor: partial block for %d and %d rows of %d", len(first), len(last), a.rows))
	}
	if a.block == nil {
		a.block = &plainBlock{keys: make([]float32, a.headDim*blockTokens), values: make([]float32, blockTokens*a.headDim), scores: make([]float32, blockTokens)}
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
}

func (b *plainBlock) load(form quant.KVForm, k, v []byte, headDim int) {
	readHalf(form, b.keys, k, headDim, blockTokens)
	readHalf(form, b.values, v, blockTokens, headDim)
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

// readHalf reads a half block [k][lanes] of any form.
func readHalf(form quant.KVForm, dst []float32, half []byte, k, lanes int) {
	switch form {
	case quant.KVF16:
		readHalves(dst[:k*lanes], half)
		return
	case quant.KVF32:
		readFloats(dst[:k*lanes], half)
		return
	}
	codes := codeBytes(form, k, lanes)
	scales, mids := half[codes:], half[codes+2*k:]
	for i := range k {
		scale := quant.F16Value(binary.LittleEndian.Uint16(scales[2*i:]))
		mid := quant.F16Value(binary.LittleEndian.Uint16(mids[2*i:]))
		row := dst[i*lanes:][:lanes]
		for l := range row {
			row[l] = mid + float32(scale*float32(storedCode(form, half, k, lanes, i, l)))
		}
	}
}

// storedCode is the code of element (i, lane) of a sealed half, less its centre.
func storedCode(form quant.KVForm, half []byte, k, lanes, i, lane int) int {
	switch form {
	case quant.KVQ8:
		return int(half[4*lanes*(i/4)+4*lane+i%4]) - 128
	case quant.KVQ4:
		at, shift := i, 0
		if i >= k/2 {
			at, shift = i-k/2, 4
		}
		return int(half[4*lanes*(at/4)+4*lane+at%4]>>shift&15) - 8
	}
	panic(fmt.Sprintf("tensor: no codes in a %s half", form))
}

// plain takes tokens of a block in f32 into one row.
func (g *genericRows) plain(i int, b *plainBlock, first, last int) {
	r := &g.rows[i]
	scores := b.score(r.q, first, last)
	alpha := r.softmax(scores)
	r.mid *= alpha
	b.add(r.out, alpha, scores, first)
}
