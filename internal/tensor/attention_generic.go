package tensor

import (
	"math"

	"mneme/internal/quant"
	"mneme/internal/tensor/kvblock"
)

// The portable attention: the arithmetic of the vector kernels, for every head
// dim, summed in plain order. Products are rounded before they are added.

var genericAttention = attentionFuncs{
	rows:     newGenericRows,
	append:   kvblock.Append,
	seal:     kvblock.Seal,
	hadamard: kvblock.Hadamard,
}

// exactAttention keeps blocks in f32.
var exactAttention = attentionFuncs{
	rows: func(headDim, maxRows int, scale float32) attentionRows {
		g := newGenericRows(headDim, maxRows, scale).(*genericRows)
		g.wide = true
		return g
	},
	append:   kvblock.AppendExact,
	seal:     kvblock.Seal,
	hadamard: kvblock.Hadamard,
	full:     quant.KVF32,
}

// genericRows is the state of a tile, and the block it is reading.
type genericRows struct {
	headDim int
	scale   float32 // of the queries, log2(e) included
	rows    []genericRow
	used    int
	wide    bool // full-precision blocks are f32

	key, value kvblock.Sealed // the sealed block
	keys       []float32      // [headDim][64] of the full-precision block
	values     []float32      // [64][headDim]

	ints   []int32   // int8 queries [headDim], or u8 probabilities [64]
	dots   []int32   // their integer products [64] or [headDim]
	scores []float32 // [64]; softmax makes them probabilities
	folded []float32 // [headDim] or [64]: queries or probabilities times the half's scales
}

// genericRow is one query row: its output is (out + mid) / sum.
type genericRow struct {
	q    []float32 // [headDim], scaled
	out  []float32 // [headDim]
	own  int       // tokens seen of its own block
	from int       // the first token seen of a block in which a window begins
	max  float32   // of the scores so far, log2
	sum  float32   // of the probabilities, relative to max
	mid  float32   // of probability times the token's mid value
}

func newGenericRows(headDim, maxRows int, scale float32) attentionRows {
	longest := max(headDim, blockTokens)
	g := &genericRows{
		headDim: headDim,
		scale:   scale,
		rows:    make([]genericRow, maxRows),
		keys:    make([]float32, headDim*blockTokens),
		values:  make([]float32, headDim*blockTokens),
		ints:    make([]int32, longest),
		dots:    make([]int32, longest),
		scores:  make([]float32, blockTokens),
		folded:  make([]float32, longest),
		key:     kvblock.NewSealed(headDim, blockTokens),
		value:   kvblock.NewSealed(blockTokens, headDim),
	}
	floats := make([]float32, 2*headDim*maxRows)
	for i := range g.rows {
		at := floats[2*headDim*i:]
		g.rows[i].q, g.rows[i].out = at[:headDim], at[headDim:2*headDim]
	}
	return g
}

func (g *genericRows) begin(rows int) { g.used = rows }

func (g *genericRows) row(i int, q []float32, own int) {
	r := &g.rows[i]
	r.own, r.max, r.sum, r.mid = own, maskedScore, 0, 0
	clear(r.out)
	for c, x := range q {
		r.q[c] = x * g.scale
	}
}

func (g *genericRows) from(i, first int) { g.rows[i].from = first }

// sees is which tokens of a block a row sees.
func (r *genericRow) sees(sees seen) (first, last int) {
	first, last = 0, blockTokens
	if sees == seenFrom || sees == seenBetween {
		first = r.from
	}
	if sees == seenOwn || sees == seenBetween {
		last = r.own
	}
	return first, max(first, last)
}

func (g *genericRows) end(i int, dst []float32) {
	r := &g.rows[i]
	inv := 1 / r.sum
	for d, x := range r.out {
		dst[d] = (x + r.mid) * inv
	}
}

func (g *genericRows) sealed(form quant.KVForm, k, v []byte, table []int32, sees seen) {
	for _, line := range table {
		g.key.Read(form, k[lineBytes*int(line):])
		g.value.Read(form, v[lineBytes*int(line):])
		for i := range g.rows[:g.used] {
			if first, _ := g.rows[i].sees(sees); first < blockTokens {
				g.sealedRow(&g.rows[i], first)
			}
		}
	}
}

// sealedRow takes the tokens from first on of the sealed block into one row.
func (g *genericRows) sealedRow(r *genericRow, first int) {
	width, shift := g.foldQuery(r)
	dots := g.dots[:blockTokens]
	g.key.Dot(dots, g.ints[:g.headDim])
	for t, n := range dots {
		g.scores[t] = float32(float32(n)*width) + shift
		if t < first {
			g.scores[t] = maskedScore
		}
	}
	alpha := r.softmax(g.scores)
	width = g.foldProbabilities(r, alpha)
	dots = g.dots[:g.headDim]
	g.value.Dot(dots, g.ints[:blockTokens])
	for d, n := range dots {
		r.out[d] = float32(r.out[d]*alpha) + float32(float32(n)*width)
	}
}

// foldQuery makes the int8 query of the block: q times the channels' scales,
// in steps of width. shift is what the channels' mid values give every token.
func (g *genericRows) foldQuery(r *genericRow) (width, shift float32) {
	var largest float32
	for c, q := range r.q {
		shift += float32(q * g.key.Mid[c])
		f := q * g.key.Scale[c]
		g.folded[c] = f
		largest = max(largest, abs32(f))
	}
	return roundInts(g.ints, g.folded[:g.headDim], largest, 127), shift
}

// foldProbabilities makes the u8 probabilities of the block times the tokens'
// scales, in steps of width, and takes the tokens' mid values into the row.
func (g *genericRows) foldProbabilities(r *genericRow, alpha float32) (width float32) {
	var largest, mid float32
	for t, p := range g.scores {
		mid += float32(p * g.value.Mid[t])
		f := p * g.value.Scale[t]
		g.folded[t] = f
		largest = max(largest, f)
	}
	r.mid = float32(r.mid*alpha) + mid
	return roundInts(g.ints, g.folded[:blockTokens], largest, 255)
}

// roundInts writes x as integers, at most top for the largest, and returns the size of their step.
func roundInts(ints []int32, x []float32, largest, top float32) (width float32) {
	largest = max(largest, 1e-30)
	inv := top / largest
	for i, f := range x {
		ints[i] = kvblock.RoundEven(float32(f * inv))
	}
	return largest * (1 / top)
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// softmax replaces log2 scores by probabilities relative to the running max
// and returns alpha, by which all that was summed before must shrink.
func (r *genericRow) softmax(scores []float32) (alpha float32) {
	m := r.max
	for _, s := range scores {
		m = max(m, s)
	}
	alpha = pow2(r.max - m)
	var sum float32
	for t, s := range scores {
		scores[t] = pow2(s - m)
		sum += scores[t]
	}
	r.max, r.sum = m, float32(r.sum*alpha)+sum
	return alpha
}

// pow2 is 2^x for x <= 1, with a relative error of 3e-6; exact at integers, 0 below 2^-126.
func pow2(x float32) float32 {
	if x < -126 {
		return 0
	}
	n := int32(x)
	if float32(n) > x {
		n--
	}
	f := x - float32(n)
	p := float32(0.013426686496937686*f) + 0.05224246918821467
	p = float32(p*f) + 0.2412802083335222
	p = float32(p*f) + 0.693044844127218
	p = float32(p*f) + 1
	return math.Float32frombits(math.Float32bits(p) + uint32(n)<<23)
}

func (g *genericRows) full(k, v []byte, nmax int, sees seen) {
	g.loadFull(k, v, nmax)
	for i := range g.rows[:g.used] {
		if first, last := g.rows[i].sees(sees); first < last {
			g.fullRow(&g.rows[i], first, last)
		}
	}
}

// loadFull widens the first n tokens of a full-precision block.
func (g *genericRows) loadFull(k, v []byte, n int) {
	read, elem := kvblock.ReadHalves, 2
	if g.wide {
		read, elem = kvblock.ReadFloats, 4
	}
	for c := range g.headDim {
		read(g.keys[blockTokens*c:][:n], k[elem*blockTokens*c:])
	}
	read(g.values[:n*g.headDim], v)
}

// fullRow takes the tokens [first, last) of the full-precision block into one row.
func (g *genericRows) fullRow(r *genericRow, first, last int) {
	scores := g.scores[first:last]
	clear(scores)
	for c, q := range r.q {
		for t, k := range g.keys[blockTokens*c:][first:last] {
			scores[t] += float32(q * k)
		}
	}
	alpha := r.softmax(scores)
	r.mid *= alpha
	for d := range r.out {
		r.out[d] *= alpha
	}
	for t, p := range scores {
		for d, v := range g.values[g.headDim*(first+t):][:g.headDim] {
			r.out[d] += float32(p * v)
		}
	}
}
