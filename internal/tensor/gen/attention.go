package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Attention over blocks of 64 tokens, head dim 64, for AVX-512 VNNI; other head
// dims are in attention_wide.go.
//
// A half block is the K or the V of one layer, KV head and block. "k" is the
// summed index and "lane" the other one: K has k = dim, lane = token; V is
// transposed, k = token, lane = dim. One layout serves both. Sealed:
//
//	codes   vector (j, p) at 256*j + 64*p, p = 0..3; its byte 4*r + b belongs to lane 16*p + r
//	        q4: j = 0..7,  low nibble k = 4j+b, high nibble k = 32+4j+b   (2048 bytes)
//	        q8: j = 0..15, k = 4j+b                                       (4096 bytes)
//	        q3: j = 0..3, bits 2s..2s+1 the low bits of k = 16s+4j+b; then their high bits in words of 64, at
//	            128*j + 32*p + 8*s, bit 4*r + b                           (1024 and 512 bytes)
//	scale   64 x f16, one per k
//	mid     64 x f16, one per k: the value at the centre code.  x = mid[k] + scale[k] * (code - centre), centre 4, 8 or 128
//
// Full precision: 64 k x 64 lanes of f16, so K is [dim][token] and V is [token][dim].
//
// The state of the rows is scratch (frame), then groups of rg rows (rowGroups in
// attention_amd64.go knows its outer shape).
//
// Group: q[rg][64], out[rg][64], sum[rg][16], mid[rg][16] f32, max[4] f32,
// own[4], first[4] i32. q holds the queries times scale*log2(e); sum and mid are sums
// left in 16 lanes; a row's output is (out + sum of mid) / (sum of sum).
//
// Limits (limits in attention_amd64.go): 192 floats that hide tokens in VMINPS.
// Tokens before a row's first one meet the 64 + 64 floats at 0, those behind its
// own count the 64 + 64 at 64; each part is -1e30 where it hides, +big where not.
const (
	foldAhead = 4 // queries are folded for this many blocks at once: their latency chains overlap
	prefetch  = 2 // blocks are called into the L2 cache this many ahead
)

// frame says where things lie in the scratch:
//
//	0          foldAhead slots: int8 queries [4][dim], then 4 lanes each of init (i32), scale, shift, inverse (f32)
//	sProb      u8 probabilities [4][64]; sMax, sAlpha, sInv, sWidth: 4 lanes of f32 each
//	sProbF     f32 probabilities [4][64] of the full-precision kernel
type frame struct {
	slotInit, slotScale, slotShift, slotInv, slotB int

	sProb, sMax, sAlpha, sInv, sWidth, sProbF int

	scratchB int
}

// narrow is the frame of head dim 64.
var narrow = frame{
	slotInit: 256, slotScale: 272, slotShift: 288, slotInv: 304, slotB: 320,
	sProb: 1280, sMax: 1536, sAlpha: 1552, sInv: 1568, sWidth: 1584, sProbF: 2048,
	scratchB: 3072,
}

// attention emits every kernel of the set.
func attention() {
	for rg := 1; rg <= 4; rg++ {
		newSealedKernel(3, rg).emit()
		newSealedKernel(4, rg).emit()
		newSealedKernel(8, rg).emit()
		newFullKernel(rg).emit()
	}
	rowBegin()
	rowEnd()
	for rg := 1; rg <= 4; rg++ {
		newWideSealed(3, rg).emit()
		newWideSealed(4, rg).emit()
		newWideSealed(8, rg).emit()
		newWideFull(rg).emit()
	}
	wideRowBegin()
	wideRowEnd()
	for _, bits := range []int{3, 4, 8} {
		sealScales(bits)
		sealCodes(bits)
	}
	for _, dim := range []int{64, 128, 256} {
		hadamard(dim)
	}
	halves()
}

// rows is what the attention kernels share: where the rows of a group lie.
type rows struct {
	frame
	rg     int
	wide   bool          // the groups of attention_wide.go
	st, gp reg.GPVirtual // scratch; the current group
}

func (k rows) q(r, p int) Mem   { return at(k.gp, 256*r+64*p) }
func (k rows) out(r, p int) Mem { return at(k.gp, 256*(k.rg+r)+64*p) }
func (k rows) sum(r int) Mem    { return at(k.gp, k.sums()+64*r) }
func (k rows) mid(r int) Mem    { return at(k.gp, k.sums()+64*(k.rg+r)) }
func (k rows) max() Mem         { return at(k.gp, k.limits()) }
func (k rows) own(r int) Mem    { return at(k.gp, k.limits()+16+4*r) }
func (k rows) first(r int) Mem  { return at(k.gp, k.limits()+32+4*r) }
func (k rows) groupBytes() int  { return 640*k.rg + 64 }

func (k rows) sums() int {
	if k.wide {
		return 64
	}
	return 512 * k.rg
}

func (k rows) limits() int {
	if k.wide {
		return 0
	}
	return 640 * k.rg
}

// hide takes the minimum of row r and its limits: those that begin at disp of
// lim with count tokens cut off in front.
func (k rows) hide(op instr, lim reg.Register, disp int, count Mem, f []reg.VecVirtual) {
	back := GP64()
	MOVLQSX(count, back)
	NEGQ(back)
	for i := range f {
		op(Mem{Base: lim, Index: back, Scale: 4, Disp: disp + 64*i}, f[i], f[i])
	}
}

// hideBefore hides the tokens before each row's first one.
func (k rows) hideBefore(op instr, lim reg.Register, f [][]reg.VecVirtual) {
	for r := range f {
		k.hide(op, lim, 4*64, k.first(r), f[r])
	}
}

// grid is rg rows of 4 vectors.
func (k rows) grid() [][]reg.VecVirtual {
	g := make([][]reg.VecVirtual, k.rg)
	for r := range g {
		g[r] = zs(4)
	}
	return g
}

// spread fills a register with one float (or int) of memory.
func spread(m Mem) reg.VecVirtual {
	z := ZMM()
	VBROADCASTSS(m, z)
	return z
}

// loadHalves widens n vectors of 16 f16.
func loadHalves(base reg.Register, disp, n int) []reg.VecVirtual {
	z := zs(n)
	for i := range z {
		VCVTPH2PS(at(base, disp+32*i), z[i])
	}
	return z
}

// folded is op over each row's four vectors, rows as lanes of one xmm.
func folded(op instr, f [][]reg.VecVirtual) reg.VecVirtual {
	v := make([]reg.VecVirtual, len(f))
	for r := range f {
		v[r] = tree(op, f[r])
	}
	return reduce4(op, v)
}

// exp2 on [0,1) as a polynomial: its value at 0 is 1 exactly, its relative error 3e-6.
var exp2Coefficients = [5]float64{1, 0.693044844127218, 0.2412802083335222, 0.05224246918821467, 0.013426686496937686}

type exp2Regs [5]reg.VecVirtual

func newExp2() (e exp2Regs) {
	for i := range e {
		e[i] = bcast(exp2Coefficients[i])
	}
	return e
}

// do replaces x by 2^x; f and p are temporaries of the same width. VREDUCEPS
// leaves x - floor(x), VSCALEFPS floors its exponent.
func (e exp2Regs) do(x, f, p reg.VecVirtual, as func(reg.VecVirtual) reg.Register) {
	VREDUCEPS(Imm(1), x, f)
	VMOVAPS(as(e[4]), p)
	for i := 3; i >= 0; i-- {
		VFMADD213PS(as(e[i]), f, p)
	}
	VSCALEFPS(x, p, x)
}

func asX(v reg.VecVirtual) reg.Register { return v.AsX() }
func asZ(v reg.VecVirtual) reg.Register { return v.AsZ() }

// newMax takes the block's maxima m (rows as lanes) into the running ones and leaves alpha = 2^(old - new) at sAlpha.
func (k rows) newMax(m reg.VecVirtual, e exp2Regs) {
	old := XMM()
	VMOVUPS(k.max(), old)
	VMAXPS(old, m, m)
	VMOVUPS(m, k.max())
	VSUBPS(m, old, old)
	e.do(old, XMM(), XMM(), asX)
	VMOVUPS(old, at(k.st, k.sAlpha))
}

// addSums takes the probabilities into row r's running sum.
func (k rows) addSums(r int, f []reg.VecVirtual) {
	t := tree(VADDPS, f)
	VFMADD231PS(k.sum(r), spread(at(k.st, k.sAlpha+4*r)), t)
	VMOVUPS(t, k.sum(r))
}

// endGroup steps to the next group, back to label while there is one.
func (k rows) endGroup(left reg.GPVirtual, label string) {
	ADDQ(U32(uint32(k.groupBytes())), k.gp)
	DECQ(left)
	JNZ(LabelRef(label))
}

// rowBegin: q = src * s, 64 floats.
func rowBegin() {
	TEXT("attRowBegin", NOSPLIT, "func(q *float32, src *float32, s float32)")
	Pragma("noescape")
	Doc("attRowBegin writes src times s to q: one query row.")
	q, x, s := Load(Param("q"), GP64()), Load(Param("src"), GP64()), ZMM()
	VBROADCASTSS(Load(Param("s"), XMM()), s)
	for i := 0; i < 4; i++ {
		t := ZMM()
		VMULPS(at(x, 64*i), s, t)
		VMOVUPS(t, at(q, 64*i))
	}
	VZEROUPPER()
	RET()
}

// rowEnd: dst = (out + sum of mid) / sum of sum.
func rowEnd() {
	TEXT("attRowEnd", NOSPLIT, "func(dst *float32, out *float32, sum *float32, mid *float32)")
	Pragma("noescape")
	Doc("attRowEnd writes (out + mid) / sum to dst: one finished row.")
	dst, out := Load(Param("dst"), GP64()), Load(Param("out"), GP64())
	zInv, zMid := rowFactors()
	for i := 0; i < 4; i++ {
		t := ZMM()
		VADDPS(at(out, 64*i), zMid, t)
		VMULPS(t, zInv, t)
		VMOVUPS(t, at(dst, 64*i))
	}
	VZEROUPPER()
	RET()
}

// rowFactors is 1 / sum of sum, and the sum of mid, in all lanes.
func rowFactors() (zInv, zMid reg.VecVirtual) {
	total := func(name string) reg.VecVirtual {
		z := ZMM()
		VMOVUPS(at(Load(Param(name), GP64()), 0), z)
		return reduce4(VADDPS, []reg.VecVirtual{z})
	}
	sum, mid, inv := total("sum"), total("mid"), XMM()
	VBROADCASTSS(f32c(1), inv)
	VDIVPS(sum, inv, inv)
	zInv, zMid = ZMM(), ZMM()
	VBROADCASTSS(inv, zInv)
	VBROADCASTSS(mid, zMid)
	return zInv, zMid
}

// kernelName is the name of the kernel for groups of rg rows.
func kernelName(form string, rg int) string { return fmt.Sprintf("att%sRows%d", form, rg) }
