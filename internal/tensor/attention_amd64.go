//go:build amd64 && !noasm

package tensor

import (
	"encoding/binary"
	"unsafe"

	"mneme/internal/quant"
)

// vectorDim is the head dim that has vector kernels; the others take the generic code.
const vectorDim = 64

var nativeAttention = &attentionFuncs{
	rows:     newVectorRows,
	append:   vectorAppend,
	seal:     vectorSeal,
	hadamard: vectorHadamard,
}

type (
	sealedFunc func(k *byte, v *byte, table *int32, nblk int, st *byte, ngr int)
	fullFunc   func(k *byte, v *byte, nmax int, lim *float32, st *byte, ngr int)
)

// The kernels by the number of rows in a group.
var (
	sealedQ4 = [5]sealedFunc{1: attQ4Rows1, 2: attQ4Rows2, 3: attQ4Rows3, 4: attQ4Rows4}
	sealedQ8 = [5]sealedFunc{1: attQ8Rows1, 2: attQ8Rows2, 3: attQ8Rows3, 4: attQ8Rows4}
	fullF16  = [5]fullFunc{1: attF16Rows1, 2: attF16Rows2, 3: attF16Rows3, 4: attF16Rows4}
)

// A row that sees n tokens limits its scores by the 64 floats from
// 64-n of ownLimits; the kernel adds 64-n by itself. seenLimits hides nothing.
var ownLimits, seenLimits = limits(blockTokens), limits(2 * blockTokens)

func limits(open int) *[2 * blockTokens]float32 {
	l := new([2 * blockTokens]float32)
	for i := range l {
		l[i] = 3e38
		if i >= open {
			l[i] = maskedScore
		}
	}
	return l
}

// vectorRows is the state of a tile: groups of four rows, then one group of what is left.
type vectorRows struct {
	scale      float32
	fours, few rowGroups
}

func newVectorRows(headDim, maxRows int, scale float32) attentionRows {
	if headDim != vectorDim {
		return newGenericRows(headDim, maxRows, scale)
	}
	return &vectorRows{scale: scale, fours: newRowGroups(4, (maxRows+3)/4), few: newRowGroups(3, 1)}
}

// rowGroups are n groups of size rows each, as the kernels lay them out
// (gen/attention.go): scratch, then per group
//
//	q[size][64]  out[size][64]  sum[size][16]  mid[size][16]  f32;  max[4] f32  own[4] i32  (32 bytes unused)
type rowGroups struct {
	size, n int
	mem     []byte
}

const groupScratch = 3072

func groupBytes(size int) int { return 640*size + 64 }

func newRowGroups(size, n int) rowGroups {
	bytes := groupScratch + n*groupBytes(size)
	mem := make([]byte, bytes+lineBytes)
	start := int(-uintptr(unsafe.Pointer(&mem[0])) & (lineBytes - 1))
	return rowGroups{mem: mem[start : start+bytes : start+bytes]}
}

func (g *rowGroups) reset(size, n int) {
	g.size, g.n = size, n
	clear(g.mem[groupScratch : groupScratch+n*groupBytes(size)])
	for i := range n {
		for r := range 4 {
			*(*float32)(g.at(i*size, 640*size+4*r)) = maskedScore
		}
	}
}

// at is off bytes into the group of a row.
func (g *rowGroups) at(row, off int) unsafe.Pointer {
	return unsafe.Pointer(&g.mem[groupScratch+row/g.size*groupBytes(g.size)+off])
}

func (g *rowGroups) q(row int) *float32 { return (*float32)(g.at(row, row%g.size*256)) }
func (g *rowGroups) out(row int) *float32 {
	return (*float32)(g.at(row, 256*g.size+row%g.size*256))
}
func (g *rowGroups) sum(row int) *float32 {
	return (*float32)(g.at(row, 512*g.size+row%g.size*64))
}
func (g *rowGroups) mid(row int) *float32 {
	return (*float32)(g.at(row, 576*g.size+row%g.size*64))
}
func (g *rowGroups) own(row int) *int32 { return (*int32)(g.at(row, 640*g.size+16+row%g.size*4)) }

func (g *rowGroups) sealed(form quant.KVForm, k, v *byte, table []int32) {
	if g.n == 0 {
		return
	}
	f := &sealedQ8
	if form == quant.KVQ4 {
		f = &sealedQ4
	}
	f[g.size](k, v, &table[0], len(table), &g.mem[0], g.n)
}

func (g *rowGroups) full(k, v *byte, nmax int, lim *float32) {
	if g.n > 0 {
		fullF16[g.size](k, v, nmax, lim, &g.mem[0], g.n)
	}
}

func (s *vectorRows) begin(rows int) {
	s.fours.reset(4, rows/4)
	s.few.reset(max(rows%4, 1), min(rows%4, 1))
}

// place finds the groups of row i, and its number there.
func (s *vectorRows) place(i int) (*rowGroups, int) {
	if first := 4 * s.fours.n; i >= first {
		return &s.few, i - first
	}
	return &s.fours, i
}

func (s *vectorRows) row(i int, q []float32, own int) {
	g, r := s.place(i)
	attRowBegin(g.q(r), &q[0], s.scale)
	*g.own(r) = int32(own)
}

func (s *vectorRows) sealed(form quant.KVForm, k, v []byte, table []int32) {
	s.fours.sealed(form, &k[0], &v[0], table)
	s.few.sealed(form, &k[0], &v[0], table)
}

func (s *vectorRows) full(k, v []byte, nmax int) {
	s.fours.full(&k[0], &v[0], nmax, &ownLimits[0])
	s.few.full(&k[0], &v[0], nmax, &ownLimits[0])
}

func (s *vectorRows) fullSeen(k, v []byte) {
	s.fours.full(&k[0], &v[0], blockTokens, &seenLimits[0])
	s.few.full(&k[0], &v[0], blockTokens, &seenLimits[0])
}

func (s *vectorRows) end(i int, dst []float32) {
	g, r := s.place(i)
	attRowEnd(&dst[0], g.out(r), g.sum(r), g.mid(r))
}

func vectorAppend(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	if len(kx) != vectorDim {
		genericAppend(kHalf, vHalf, slot, kx, vx)
		return
	}
	var k, v [vectorDim]uint16
	halves64(&k[0], &kx[0])
	halves64(&v[0], &vx[0])
	kAt, vAt := kHalf[2*slot:], vHalf[2*vectorDim*slot:][:2*vectorDim]
	for i := range vectorDim {
		binary.LittleEndian.PutUint16(kAt[2*blockTokens*i:], k[i])
		binary.LittleEndian.PutUint16(vAt[2*i:], v[i])
	}
}

func vectorSeal(form quant.KVForm, dst, src []byte, k, lanes int) {
	switch {
	case k != vectorDim || lanes != vectorDim:
		genericSeal(form, dst, src, k, lanes)
	case form == quant.KVQ4:
		sealQ4(&dst[0], &src[0])
	default:
		sealQ8(&dst[0], &src[0])
	}
}

func vectorHadamard(x []float32, dim int) {
	if dim == vectorDim {
		hadamard64(&x[0], len(x)/dim)
		return
	}
	genericHadamard(x, dim)
}
