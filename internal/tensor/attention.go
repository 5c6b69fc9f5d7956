package tensor

import (
	"fmt"
	"math"

	"mneme/internal/quant"
	"mneme/internal/tensor/kvblock"
)

const (
	blockTokens = kvblock.Tokens
	lineBytes   = 64 // block tables count in cache lines

	maskedScore = -1e30 // of a token that a row does not see; also the running max before the first one
)

// Attention is the softmax attention of a tile of query rows on one KV head:
// the scratch of one worker.
//   - The rows of a tile share all blocks, the own (last, open) one included, of which row i sees its first tokens.
//   - Per tile: Begin; Row for every row; Sealed as often as needed, blocks in order; Open; End for every row.
//     Where a window begins, SealedFrom and OpenFrom stand for Sealed and Open.
//   - Blocks are summed one after the other. A row's bits depend on its query, its position and the bytes of the
//     blocks, never on the other rows, the size of the tile or its place in it.
//   - Sealed blocks meet int8 queries and u8 probabilities; full precision ones are computed in f32.
type Attention struct {
	headDim, maxRows int
	rows, maxOwn     int
	state            attentionRows
	full             quant.KVForm
}

// seen is what a row sees of a block.
type seen int

const (
	seenAll     seen = iota
	seenOwn          // its first tokens, as many as it sees of its own block
	seenFrom         // those from its first one on
	seenBetween      // those that are in both
	seenKinds
)

// attentionRows is a variant's state of a tile; Attention has checked all sizes.
type attentionRows interface {
	begin(rows int)
	row(i int, q []float32, own int)
	from(i, first int)                                               // the first token that row i sees where seen says so, 0 to 64
	sealed(form quant.KVForm, k, v []byte, table []int32, sees seen) // no full form; tables count from the start of k and v
	full(k, v []byte, nmax int, sees seen)                           // tokens from nmax on are hidden anyway
	end(i int, dst []float32)
}

// NewAttention makes the scratch for tiles of up to maxRows rows. Scores are
// q*k*scale; a scale of 0 stands for 1/sqrt(headDim). headDim is a multiple of
// 8, and of 16 where blocks are sealed.
func (k *Kernels) NewAttention(headDim, maxRows int, scale float32) *Attention {
	if headDim <= 0 || headDim%8 != 0 || maxRows <= 0 {
		panic(fmt.Sprintf("tensor: attention of head dim %d, %d rows", headDim, maxRows))
	}
	perHead := float64(scale)
	if scale == 0 {
		perHead = 1 / math.Sqrt(float64(headDim))
	}
	state := k.attention.rows(headDim, maxRows, float32(perHead*math.Log2E))
	return &Attention{headDim: headDim, maxRows: maxRows, state: state, full: k.attention.full}
}

// Begin starts a tile.
func (a *Attention) Begin(rows int) {
	if rows <= 0 || rows > a.maxRows {
		panic(fmt.Sprintf("tensor: attention tile of %d rows, room for %d", rows, a.maxRows))
	}
	a.rows, a.maxOwn = rows, 0
	a.state.begin(rows)
}

// Row gives row i its query q [headDim] and how many tokens of its own block it sees, 1 to 64.
func (a *Attention) Row(i int, q []float32, own int) {
	if uint(i) >= uint(a.rows) || len(q) != a.headDim || own <= 0 || own > blockTokens {
		panic(fmt.Sprintf("tensor: attention row %d of %d, query of %d, head dim %d, sees %d", i, a.rows, len(q), a.headDim, own))
	}
	a.maxOwn = max(a.maxOwn, own)
	a.state.row(i, q, own)
}

// Sealed takes in complete blocks that every row sees whole, in the order of
// table: the halves of block i begin at mem[kOff+64*table[i]] and mem[vOff+64*table[i]].
func (a *Attention) Sealed(form quant.KVForm, mem []byte, kOff, vOff int, table []int32) {
	if len(table) == 0 {
		return
	}
	checkForm(form, a.headDim, blockTokens)
	checkTable("K", mem, kOff, form.HalfBytes(a.headDim, blockTokens), table)
	checkTable("V", mem, vOff, form.HalfBytes(blockTokens, a.headDim), table)
	k, v := mem[kOff:], mem[vOff:]
	if form != a.full {
		a.state.sealed(form, k, v, table, seenAll)
		return
	}
	for _, line := range table {
		at := lineBytes * int(line)
		a.state.full(k[at:], v[at:], blockTokens, seenAll)
	}
}

// oneBlock is the table of a block that lies where its halves begin.
var oneBlock = []int32{0}

// SealedFrom takes in one complete block in which a window begins: row i sees
// the tokens [first[i], 64) of it, none at 64.
func (a *Attention) SealedFrom(form quant.KVForm, kHalf, vHalf []byte, first []int) {
	checkForm(form, a.headDim, blockTokens)
	checkTable("K", kHalf, 0, form.HalfBytes(a.headDim, blockTokens), oneBlock)
	checkTable("V", vHalf, 0, form.HalfBytes(blockTokens, a.headDim), oneBlock)
	a.from(first)
	if form == a.full {
		a.state.full(kHalf, vHalf, blockTokens, seenFrom)
		return
	}
	a.state.sealed(form, kHalf, vHalf, oneBlock, seenFrom)
}

// OpenFrom is Open where the window begins in the own block: row i sees the
// tokens from first[i] up to its own count.
func (a *Attention) OpenFrom(kHalf, vHalf []byte, nmax int, first []int) {
	a.checkOpen(kHalf, vHalf, nmax)
	a.from(first)
	a.state.full(kHalf, vHalf, nmax, seenBetween)
}

func (a *Attention) from(first []int) {
	if len(first) != a.rows {
		panic(fmt.Sprintf("tensor: windows of %d rows in a tile of %d", len(first), a.rows))
	}
	for i, n := range first {
		if n < 0 || n > blockTokens {
			panic(fmt.Sprintf("tensor: the window of row %d begins at token %d of a block", i, n))
		}
		a.state.from(i, n)
	}
}

// checkTable panics unless every half that the table names lies in mem.
func checkTable(name string, mem []byte, off, half int, table []int32) {
	last := len(mem) - off - half
	for i, line := range table {
		if off < 0 || line < 0 || lineBytes*int(line) > last {
			panic(fmt.Sprintf("tensor: %s half of block %d at %d + line %d, %d bytes of %d", name, i, off, line, half, len(mem)))
		}
	}
}

// Open takes in the rows' own block in full precision, K [headDim][64] and V
// [64][headDim] of f16. Row i sees its own count of tokens, at most nmax. What
// lies in the slots from nmax on is of no account, be it NaN.
func (a *Attention) Open(kHalf, vHalf []byte, nmax int) {
	a.checkOpen(kHalf, vHalf, nmax)
	a.state.full(kHalf, vHalf, nmax, seenOwn)
}

func (a *Attention) checkOpen(kHalf, vHalf []byte, nmax int) {
	size := a.full.HalfBytes(a.headDim, blockTokens)
	if len(kHalf) < size || len(vHalf) < size || nmax < a.maxOwn || nmax > blockTokens {
		panic(fmt.Sprintf("tensor: open block of %d and %d bytes, want %d; %d tokens, rows see up to %d", len(kHalf), len(vHalf), size, nmax, a.maxOwn))
	}
}

// End writes row i's output to dst [headDim], in the basis in which the values were stored.
func (a *Attention) End(i int, dst []float32) {
	if uint(i) >= uint(a.rows) || len(dst) != a.headDim {
		panic(fmt.Sprintf("tensor: end of attention row %d of %d to %d floats, head dim %d", i, a.rows, len(dst), a.headDim))
	}
	a.state.end(i, dst)
}
