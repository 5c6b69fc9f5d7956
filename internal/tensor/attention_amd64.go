//go:build amd64 && !noasm

package tensor

import (
	"encoding/binary"
	"unsafe"

	"mneme/internal/quant"
	"mneme/internal/tensor/kvblock"
)

const (
	narrowDim = 64  // has kernels of its own; the wide ones take
	wideUnit  = 16  // multiples of this
	widestDim = 256 // up to here. Others take the generic code.
)

var nativeAttention = &attentionFuncs{
	rows:     newVectorRows,
	append:   vectorAppend,
	seal:     vectorSeal,
	hadamard: vectorHadamard,
}

type (
	sealedFunc     func(k *byte, v *byte, table *int32, nblk int, lim *float32, st *byte, ngr int)
	fullFunc       func(k *byte, v *byte, nmax int, lim *float32, st *byte, ngr int)
	wideSealedFunc func(k *byte, v *byte, table *int32, nblk int, lim *float32, st *byte, ngr int, dim int)
	wideFullFunc   func(k *byte, v *byte, nmax int, lim *float32, st *byte, ngr int, dim int)
)

// The kernels by the number of rows in a group.
var (
	sealedKernels = map[quant.KVForm]*[5]sealedFunc{
		quant.KVQ3: {1: attQ3Rows1, 2: attQ3Rows2, 3: attQ3Rows3, 4: attQ3Rows4},
		quant.KVQ4: {1: attQ4Rows1, 2: attQ4Rows2, 3: attQ4Rows3, 4: attQ4Rows4},
		quant.KVQ8: {1: attQ8Rows1, 2: attQ8Rows2, 3: attQ8Rows3, 4: attQ8Rows4},
	}
	fullF16 = [5]fullFunc{1: attF16Rows1, 2: attF16Rows2, 3: attF16Rows3, 4: attF16Rows4}

	wideSealed = map[quant.KVForm]*[5]wideSealedFunc{
		quant.KVQ3: {1: attWideQ3Rows1, 2: attWideQ3Rows2, 3: attWideQ3Rows3, 4: attWideQ3Rows4},
		quant.KVQ4: {1: attWideQ4Rows1, 2: attWideQ4Rows2, 3: attWideQ4Rows3, 4: attWideQ4Rows4},
		quant.KVQ8: {1: attWideQ8Rows1, 2: attWideQ8Rows2, 3: attWideQ8Rows3, 4: attWideQ8Rows4},
	}
	wideF16 = [5]wideFullFunc{1: attWideF16Rows1, 2: attWideF16Rows2, 3: attWideF16Rows3, 4: attWideF16Rows4}
)

// limits are what scores are cut to, by what a row sees of a block. Those of a
// row that sees [first, own) begin at 64-first, as far as they hide the tokens
// before first, and at 128-own for those from own on; the kernels count so.
var limits = [seenKinds]*[3 * blockTokens]float32{
	seenAll: limitsOf(3e38, 3e38), seenOwn: limitsOf(3e38, maskedScore),
	seenFrom: limitsOf(maskedScore, 3e38), seenBetween: limitsOf(maskedScore, maskedScore),
}

func limitsOf(before, behind float32) *[3 * blockTokens]float32 {
	l := new([3 * blockTokens]float32)
	for i := range blockTokens {
		l[i], l[blockTokens+i], l[2*blockTokens+i] = before, 3e38, behind
	}
	return l
}

// vectorRows is the state of a tile: groups of four rows, then one group of what is left.
type vectorRows struct {
	dim        int
	scale      float32
	fours, few rowGroups
}

func newVectorRows(headDim, maxRows int, scale float32) attentionRows {
	if headDim%wideUnit != 0 || headDim > widestDim {
		return newGenericRows(headDim, maxRows, scale)
	}
	return &vectorRows{dim: headDim, scale: scale, fours: newRowGroups(headDim, 4, (maxRows+3)/4), few: newRowGroups(headDim, 3, 1)}
}

// rowGroups are n groups of size rows each, as the kernels lay them out
// (gen/attention.go, gen/attention_wide.go): scratch, then the groups.
type rowGroups struct {
	groupPlaces
	dim, size, n int
	mem          []byte
}

// groupPlaces says where things lie in a group of rows.
type groupPlaces struct {
	scratch, bytes     int // before the groups; of one
	q, out             int // f32 of row 0: [rows][64], or wide [dim/16][rows][16]
	sum, mid           int // f32 [rows][16]
	limits             int // max[4] f32, own[4], first[4] i32
	rowBytes, vecBytes int // in q and out: from one row to the next, from 16 floats to the next
}

func placesFor(dim, size int) groupPlaces {
	if dim == narrowDim {
		return groupPlaces{scratch: 3072, bytes: 640*size + 64, out: 256 * size, sum: 512 * size, mid: 576 * size,
			limits: 640 * size, rowBytes: 256, vecBytes: 64}
	}
	q := 64 + 128*size
	return groupPlaces{scratch: 5760, bytes: q + 8*dim*size, q: q, out: q + 4*dim*size, sum: 64, mid: 64 + 64*size,
		rowBytes: 64, vecBytes: 64 * size}
}

func newRowGroups(dim, size, n int) rowGroups {
	p := placesFor(dim, size)
	bytes := p.scratch + n*p.bytes
	mem := make([]byte, bytes+lineBytes)
	start := int(-uintptr(unsafe.Pointer(&mem[0])) & (lineBytes - 1))
	return rowGroups{dim: dim, mem: mem[start : start+bytes : start+bytes]}
}

func (g *rowGroups) reset(size, n int) {
	g.size, g.n, g.groupPlaces = size, n, placesFor(g.dim, size)
	clear(g.mem[g.scratch:][:n*g.bytes])
	for i := range n {
		for r := range 4 {
			*(*float32)(g.at(i*size, g.limits+4*r)) = maskedScore
		}
	}
}

// at is off bytes into the group of a row.
func (g *rowGroups) at(row, off int) unsafe.Pointer {
	return unsafe.Pointer(&g.mem[g.scratch+row/g.size*g.bytes+off])
}

// float is the first float of a row in what begins at off and gives every row so many bytes.
func (g *rowGroups) float(row, off, bytes int) *float32 {
	return (*float32)(g.at(row, off+row%g.size*bytes))
}

func (g *rowGroups) own(row int) *int32 {
	return (*int32)(g.at(row, g.limits+16+row%g.size*4))
}

func (g *rowGroups) first(row int) *int32 {
	return (*int32)(g.at(row, g.limits+32+row%g.size*4))
}

// begin gives a row its query.
func (g *rowGroups) begin(row int, q []float32, own int, scale float32) {
	*g.own(row) = int32(own)
	dst := g.float(row, g.q, g.rowBytes)
	if g.dim == narrowDim {
		attRowBegin(dst, &q[0], scale)
		return
	}
	attWideRowBegin(dst, &q[0], scale, g.dim/wideUnit, g.vecBytes)
}

// end writes a row's output.
func (g *rowGroups) end(row int, dst []float32) {
	out, sum, mid := g.float(row, g.out, g.rowBytes), g.float(row, g.sum, 64), g.float(row, g.mid, 64)
	if g.dim == narrowDim {
		attRowEnd(&dst[0], out, sum, mid)
		return
	}
	attWideRowEnd(&dst[0], out, sum, mid, g.dim/wideUnit, g.vecBytes)
}

func (g *rowGroups) sealed(form quant.KVForm, k, v *byte, table []int32, lim *float32) {
	switch {
	case g.n == 0:
	case g.dim == narrowDim:
		sealedKernels[form][g.size](k, v, &table[0], len(table), lim, &g.mem[0], g.n)
	default:
		wideSealed[form][g.size](k, v, &table[0], len(table), lim, &g.mem[0], g.n, g.dim)
	}
}

func (g *rowGroups) full(k, v *byte, nmax int, lim *float32) {
	switch {
	case g.n == 0:
	case g.dim == narrowDim:
		fullF16[g.size](k, v, nmax, lim, &g.mem[0], g.n)
	default:
		wideF16[g.size](k, v, nmax, lim, &g.mem[0], g.n, g.dim)
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
	g.begin(r, q, own, s.scale)
}

func (s *vectorRows) from(i, first int) {
	g, r := s.place(i)
	*g.first(r) = int32(first)
}

func (s *vectorRows) sealed(form quant.KVForm, k, v []byte, table []int32, sees seen) {
	var lim *float32
	if sees != seenAll {
		lim = &limits[sees][0]
	}
	s.fours.sealed(form, &k[0], &v[0], table, lim)
	s.few.sealed(form, &k[0], &v[0], table, lim)
}

func (s *vectorRows) full(k, v []byte, nmax int, sees seen) {
	s.fours.full(&k[0], &v[0], nmax, &limits[sees][0])
	s.few.full(&k[0], &v[0], nmax, &limits[sees][0])
}

func (s *vectorRows) end(i int, dst []float32) {
	g, r := s.place(i)
	g.end(r, dst)
}

// vectorAppend converts 64 floats at a time.
func vectorAppend(kHalf, vHalf []byte, slot int, kx, vx []float32) {
	const unit = 64
	if len(kx)%unit != 0 {
		kvblock.Append(kHalf, vHalf, slot, kx, vx)
		return
	}
	var k, v [unit]uint16
	for at := 0; at < len(kx); at += unit {
		halves64(&k[0], &kx[at])
		halves64(&v[0], &vx[at])
		kAt, vAt := kHalf[2*(blockTokens*at+slot):], vHalf[2*(len(vx)*slot+at):][:2*unit]
		for i := range unit {
			binary.LittleEndian.PutUint16(kAt[2*blockTokens*i:], k[i])
			binary.LittleEndian.PutUint16(vAt[2*i:], v[i])
		}
	}
}

// vectorSeal finds the scales of all k and then the codes.
func vectorSeal(form quant.KVForm, dst, src []byte, k, lanes int) {
	if k > widestDim {
		kvblock.Seal(form, dst, src, k, lanes)
		return
	}
	var steps [2 * widestDim]float32
	par := &dst[kvblock.CodeBytes(form, k, lanes)]
	switch form {
	case quant.KVQ3:
		sealScalesQ3(par, &steps[0], &src[0], k, lanes/16)
		sealCodesQ3(&dst[0], &dst[k*lanes/4], &src[0], &steps[0], k, lanes/16)
	case quant.KVQ4:
		sealScalesQ4(par, &steps[0], &src[0], k, lanes/16)
		sealCodesQ4(&dst[0], nil, &src[0], &steps[0], k, lanes/16)
	default:
		sealScalesQ8(par, &steps[0], &src[0], k, lanes/16)
		sealCodesQ8(&dst[0], nil, &src[0], &steps[0], k, lanes/16)
	}
}

func vectorHadamard(x []float32, dim int) {
	switch dim {
	case 64:
		hadamard64(&x[0], len(x)/dim)
	case 128:
		hadamard128(&x[0], len(x)/dim)
	case 256:
		hadamard256(&x[0], len(x)/dim)
	default:
		kvblock.Hadamard(x, dim)
	}
}
