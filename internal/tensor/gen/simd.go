package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// instr is the shape of a three operand instruction, for helpers that take one.
type instr = func(...Op)

// zs is n fresh 512-bit registers.
func zs(n int) []reg.VecVirtual {
	z := make([]reg.VecVirtual, n)
	for i := range z {
		z[i] = ZMM()
	}
	return z
}

// clr zeroes z and tells avo that the old value is not read (avo itself knows
// that for VPXOR only).
func clr(z reg.VecVirtual) {
	i, err := x86.VPXORD(z, z, z)
	if err != nil {
		panic(err)
	}
	i.CancellingInputs = true
	Instruction(i)
}

// at is the memory disp bytes after base.
func at(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

var consts = map[uint32]Mem{}

// u32c is a 32-bit constant in memory, one symbol per value.
func u32c(v uint32) Mem {
	if _, ok := consts[v]; !ok {
		consts[v] = ConstData(fmt.Sprintf("c%08x", v), U32(v))
	}
	return consts[v]
}

// f32c is a float constant in memory.
func f32c(f float64) Mem { return u32c(math.Float32bits(float32(f))) }

// bcast32 fills a register with a 32-bit constant.
func bcast32(v uint32) reg.VecVirtual {
	z := ZMM()
	VPBROADCASTD(u32c(v), z)
	return z
}

// bcast fills a register with a float constant.
func bcast(f float64) reg.VecVirtual {
	z := ZMM()
	VBROADCASTSS(f32c(f), z)
	return z
}

// fconst fills a register with the float of these bits, by way of a general register.
func fconst(bits uint32) reg.VecVirtual {
	t, z := GP32(), ZMM()
	MOVL(U32(bits), t)
	VPBROADCASTD(t, z)
	return z
}

// fold8 adds (or takes the max of) the upper half and the upper quarter onto
// the lower ones: lane i of the result is ((i + i+8) + (i+4 + i+12)).
func fold8(op instr, z reg.VecVirtual) reg.VecVirtual {
	y, x := YMM(), XMM()
	VEXTRACTF64X4(Imm(1), z, y)
	op(z.AsY(), y, y)
	VEXTRACTF32X4(Imm(1), y, x)
	op(y.AsX(), x, x)
	return x
}

// hsum leaves the sum of 16 floats in lane 0 of the xmm it returns: with
// q[i] = lanes (i + i+8) + (i+4 + i+12) it is (q0+q1) + (q2+q3).
func hsum(z reg.VecVirtual) reg.VecVirtual {
	x := fold8(VADDPS, z)
	VHADDPS(x, x, x)
	VHADDPS(x, x, x)
	return x
}

// hmax leaves the maximum of 16 floats in every lane of the xmm it returns.
func hmax(z reg.VecVirtual) reg.VecVirtual {
	x, t := fold8(VMAXPS, z), XMM()
	VPERMILPS(Imm(0x4E), x, t)
	VMAXPS(t, x, x)
	VPERMILPS(Imm(0xB1), x, t)
	VMAXPS(t, x, x)
	return x
}

// tree folds four vectors as (0,1),(2,3).
func tree(op instr, v []reg.VecVirtual) reg.VecVirtual {
	t, u := ZMM(), ZMM()
	op(v[0], v[1], t)
	op(v[2], v[3], u)
	op(t, u, t)
	return t
}

// reduce4 reduces up to 4 vectors to one xmm, lane r = vector r. The order
// within a vector does not depend on len(v).
func reduce4(op instr, v []reg.VecVirtual) reg.VecVirtual {
	w := make([]reg.VecVirtual, 4)
	for i := range w {
		w[i] = v[min(i, len(v)-1)]
	}
	if len(v) == 2 {
		w[2], w[3] = v[0], v[1]
	}
	ab := interleave(op, VUNPCKLPS, VUNPCKHPS, w[0], w[1])
	cd := ab
	if len(v) > 2 {
		cd = interleave(op, VUNPCKLPS, VUNPCKHPS, w[2], w[3])
	}
	return fold8(op, interleave(op, VUNPCKLPD, VUNPCKHPD, ab, cd))
}

// interleave unpacks a and b into a low and a high vector and folds the two.
func interleave(op, lo, hi instr, a, b reg.VecVirtual) reg.VecVirtual {
	t, u := ZMM(), ZMM()
	lo(b, a, t)
	hi(b, a, u)
	op(t, u, t)
	return t
}
