package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func elementwise() {
	quantRow()
	sumSquares()
	scaleMul()
	addTo()
	ropeHeads()
	siluTile()
}

// begin opens a kernel that keeps none of its pointers.
func begin(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + " " + doc)
}

func end() {
	VZEROUPPER()
	RET()
}

func gp(param string) reg.GPVirtual { return Load(Param(param), GP64()).(reg.GPVirtual) }

func broadcastParam(param string) reg.VecVirtual {
	x, z := Load(Param(param), XMM()), ZMM()
	VBROADCASTSS(x, z)
	return z
}

// lanes are the 16 floats of one step, or the first few of them in the last.
type lanes struct{ mask reg.Register }

func (l lanes) load(m Mem) reg.VecVirtual {
	z := ZMM()
	if l.mask == nil {
		VMOVUPS(m, z)
	} else {
		VMOVUPS_Z(m, l.mask, z)
	}
	return z
}

func (l lanes) store(z reg.VecVirtual, m Mem) {
	if l.mask == nil {
		VMOVUPS(z, m)
	} else {
		VMOVUPS(z, l.mask, m)
	}
}

// steps runs body over n floats, 16 at a time, then once under a mask for the
// rest; the pointers move along. n is used up.
func steps(label string, n reg.GPVirtual, pointers []reg.GPVirtual, body func(lanes)) {
	full := GP64()
	MOVQ(n, full)
	SHRQ(Imm(4), full)
	JZ(LabelRef(label + "Tail"))
	Label(label)
	body(lanes{})
	for _, p := range pointers {
		ADDQ(Imm(64), p)
	}
	DECQ(full)
	JNZ(LabelRef(label))
	Label(label + "Tail")
	ANDQ(Imm(15), n)
	JZ(LabelRef(label + "End"))
	bits, mask := GP32(), K()
	MOVL(U32(0xFFFF), bits)
	BZHIL(n.As32(), bits, bits)
	KMOVW(bits, mask)
	body(lanes{mask: mask})
	Label(label + "End")
}

// quantRow writes one row of an activation panel: per group of 32 its int8
// codes, -128 times their sum, and the scale max/127.
func quantRow() {
	begin("quantRow", "func(x *float32, groups int, a *byte, stride int, start int, scale int)",
		"quantises groups of 32 floats; start and scale are offsets from a, which moves by stride.")
	x, groups, a, stride, start, scale := gp("x"), gp("groups"), gp("a"), gp("stride"), gp("start"), gp("scale")
	abs, tiny := bcast32(0x7FFFFFFF), bcast(1e-20)
	zero := ZMM()
	clr(zero)
	Label("group")
	v := []reg.VecVirtual{lanes{}.load(at(x, 0)), lanes{}.load(at(x, 64))}
	t := zs(2)
	for i := range v {
		VPANDD(abs, v[i], t[i])
	}
	VMAXPS(t[0], t[1], t[0])
	VMAXPS(tiny, t[0], t[0])
	most, s, inverse, spread := hmax(t[0]), XMM(), XMM(), ZMM()
	VMULSS(f32c(1.0/127), most, s)
	VMOVSS(s, Mem{Base: a, Index: scale, Scale: 1})
	VBROADCASTSS(f32c(127), inverse)
	VDIVSS(most, inverse, inverse)
	VBROADCASTSS(inverse, spread)
	for i := range v {
		VMULPS(spread, v[i], v[i])
		VCVTPS2DQ(v[i], v[i])
		VPMOVSDB(v[i], at(a, 16*i))
	}
	VPADDD(v[0], v[1], v[0])
	sum, start128 := isum(v[0]), XMM()
	VPSLLD(Imm(7), sum, sum)
	VPSUBD(sum, zero.AsX(), start128)
	VMOVD(start128, Mem{Base: a, Index: start, Scale: 1})
	ADDQ(U32(128), x)
	ADDQ(stride, a)
	DECQ(groups)
	JNZ(LabelRef("group"))
	end()
}

// isum leaves the sum of 16 int32 in every lane.
func isum(z reg.VecVirtual) reg.VecVirtual {
	x, t := fold8(VPADDD, z), XMM()
	VPSHUFD(Imm(0x4E), x, t)
	VPADDD(t, x, x)
	VPSHUFD(Imm(0xB1), x, t)
	VPADDD(t, x, x)
	return x
}

func sumSquares() {
	begin("sumSquares16", "func(x *float32, n int) float32", "sums squares in 16 lanes, which are then folded pairwise.")
	x, n := gp("x"), gp("n")
	acc := ZMM()
	clr(acc)
	steps("step", n, []reg.GPVirtual{x}, func(l lanes) {
		v := l.load(at(x, 0))
		VFMADD231PS(v, v, acc)
	})
	Store(hsum(acc), ReturnIndex(0))
	end()
}

func scaleMul() {
	begin("scaleMul16", "func(dst *float32, x *float32, w *float32, n int, s float32)", "is dst = x*s * w.")
	dst, x, w, n, s := gp("dst"), gp("x"), gp("w"), gp("n"), broadcastParam("s")
	steps("step", n, []reg.GPVirtual{dst, x, w}, func(l lanes) {
		v, weight := l.load(at(x, 0)), l.load(at(w, 0))
		VMULPS(s, v, v)
		VMULPS(weight, v, v)
		l.store(v, at(dst, 0))
	})
	end()
}

func addTo() {
	begin("addTo16", "func(dst *float32, x *float32, n int)", "is dst += x.")
	dst, x, n := gp("dst"), gp("x"), gp("n")
	steps("step", n, []reg.GPVirtual{dst, x}, func(l lanes) {
		v, old := l.load(at(x, 0)), l.load(at(dst, 0))
		VADDPS(v, old, v)
		l.store(v, at(dst, 0))
	})
	end()
}

// ropeHeads turns the pairs (i, i+half) of every head by the angles of cs.
func ropeHeads() {
	begin("ropeHeads", "func(x *float32, heads int, half int, cs *float32)",
		"rotates the pairs (i, i+half) of every head; cs holds half cosines, then half sines.")
	x, heads, half, cs0 := gp("x"), gp("heads"), gp("half"), gp("cs")
	stride, n, cs := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: half, Index: half, Scale: 1}, stride)
	SHLQ(Imm(1), stride) // bytes from a float to its partner, and from a cosine to its sine
	row := GP64()
	Label("head")
	MOVQ(half, n)
	MOVQ(cs0, cs)
	MOVQ(x, row)
	steps("step", n, []reg.GPVirtual{row, cs}, func(l lanes) {
		partner := Mem{Base: row, Index: stride, Scale: 1}
		cos, sin := l.load(at(cs, 0)), l.load(Mem{Base: cs, Index: stride, Scale: 1})
		x1, x2, y1, y2 := l.load(at(row, 0)), l.load(partner), ZMM(), ZMM()
		VMULPS(sin, x2, y1)
		VFMSUB231PS(x1, cos, y1)
		VMULPS(sin, x1, y2)
		VFMADD231PS(x2, cos, y2)
		l.store(y1, at(row, 0))
		l.store(y2, partner)
	})
	LEAQ(Mem{Base: x, Index: stride, Scale: 2}, x)
	DECQ(heads)
	JNZ(LabelRef("head"))
	end()
}

// siluTile: rows of [16 gate | 16 up] become 16 of silu(gate)*up.
func siluTile() {
	begin("siluTile16", "func(dst *float32, ld int, tile *float32, rows int)",
		"is dst = silu(gate)*up over rows of 16 gates and 16 ups; a row of dst is ld floats.")
	dst, ld, tile, rows := gp("dst"), gp("ld"), gp("tile"), gp("rows")
	SHLQ(Imm(2), ld)
	e, sign, most := newExp(), bcast32(0x80000000), bcast(87)
	Label("row")
	v, t := lanes{}.load(at(tile, 0)), ZMM()
	VPXORD(sign, v, t)
	VMINPS(most, t, t)
	e.do(t)
	VADDPS(e.c[0], t, t)
	VMULPS(at(tile, 64), v, v)
	VDIVPS(t, v, v)
	VMOVUPS(v, at(dst, 0))
	ADDQ(U32(128), tile)
	ADDQ(ld, dst)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()
}

// expRegs holds what e^x needs: 2^f as a polynomial of degree 5 on [-0.5, 0.5].
type expRegs struct {
	log2e, least reg.VecVirtual
	c            []reg.VecVirtual
}

func newExp() expRegs {
	e := expRegs{log2e: bcast32(0x3FB8AA3B), least: bcast(-126)}
	for _, c := range []uint32{0x3F800000, 0x3F317218, 0x3E75FDF0, 0x3D635847, 0x3C1D955B, 0x3AAEC3FF} {
		e.c = append(e.c, bcast32(c))
	}
	return e
}

// do is x = e^x.
func (e expRegs) do(x reg.VecVirtual) {
	n, f, p := ZMM(), ZMM(), ZMM()
	VMULPS(e.log2e, x, x)
	VMAXPS(e.least, x, x)
	VRNDSCALEPS(Imm(0), x, n)
	VSUBPS(n, x, f)
	VMOVAPS(e.c[5], p)
	for i := 4; i >= 0; i-- {
		VFMADD213PS(e.c[i], f, p)
	}
	VSCALEFPS(n, p, x)
}
