package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sealer emits the quantisation of one half block: 64 k x 64 lanes of f16 into
// the sealed layout (attention.go), four k at a time. It multiplies, adds and
// divides and fuses nothing, so that the generic code gives the same bytes.
type sealer struct {
	bits          int
	dst, src, par reg.GPVirtual // the codes, the halves, scale and mid
	top, zero     reg.VecVirtual
}

func seal(bits int) {
	name := fmt.Sprintf("sealQ%d", bits)
	TEXT(name, NOSPLIT, "func(dst *byte, src *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s quantises one full-precision half block of 64 x 64.", name))
	s := &sealer{bits: bits, par: GP64()}
	s.dst = Load(Param("dst"), GP64()).(reg.GPVirtual)
	s.src = Load(Param("src"), GP64()).(reg.GPVirtual)
	n := GP64()
	LEAQ(Mem{Base: s.dst, Disp: 512 * bits}, s.par)
	MOVQ(U32(uint32(2*bits)), n)
	s.top, s.zero = bcast(s.topCode()), ZMM()
	clr(s.zero)
	Label(name + "_quad")
	s.quads()
	ADDQ(U32(256), s.dst)
	ADDQ(U32(512), s.src)
	ADDQ(Imm(8), s.par)
	DECQ(n)
	JNZ(LabelRef(name + "_quad"))
	VZEROUPPER()
	RET()
}

func (s *sealer) topCode() float64 { return float64(int(1)<<s.bits - 1) }
func (s *sealer) centre() float64  { return float64(int(1) << (s.bits - 1)) }

// quads writes 4 vectors of codes: of one quad of k, or of two as nibbles.
func (s *sealer) quads() {
	d := s.quad(0, 0)
	for p := range d {
		VMOVDQU8(d[p], at(s.dst, 64*p))
	}
	if s.bits == 8 {
		return
	}
	high := s.quad(32*128, 64)
	for p := range high {
		VPSLLD(Imm(4), high[p], high[p])
		VPORD(at(s.dst, 64*p), high[p], high[p])
		VMOVDQU8(high[p], at(s.dst, 64*p))
	}
}

// quad turns the four k at src+sd into 4 vectors of dwords of their codes, and stores their scale and mid at par+pd.
func (s *sealer) quad(sd, pd int) []reg.VecVirtual {
	x := make([][]reg.VecVirtual, 4)
	for b := range x {
		x[b] = loadHalves(s.src, sd+128*b, 4)
	}
	hi, lo := folded(VMAXPS, x), folded(VMINPS, x)
	mid, inv := s.parameters(hi, lo, pd)
	d := zs(4)
	for b := 3; b >= 0; b-- {
		s.codes(x[b], lane(mid, b), lane(inv, b))
		for p := range d {
			merge(d[p], x[b][p], b)
		}
	}
	return d
}

// parameters stores scale = (hi-lo)/top and mid = lo + centre*scale as f16 and returns mid and 1/scale as stored.
func (s *sealer) parameters(hi, lo reg.VecVirtual, pd int) (mid, inv reg.VecVirtual) {
	t, scale, h := XMM(), XMM(), XMM()
	VBROADCASTSS(f32c(1/s.topCode()), t)
	VSUBPS(lo, hi, scale)
	VMULPS(t, scale, scale)
	VMAXPS(s.zero.AsX(), scale, scale) // and -0 becomes 0
	VCVTPS2PH(Imm(0), scale, h)
	VMOVQ(h, at(s.par, pd))
	VCVTPH2PS(h, scale)
	mid, inv = XMM(), XMM()
	VBROADCASTSS(f32c(s.centre()), t)
	VMULPS(t, scale, mid)
	VADDPS(lo, mid, mid)
	VCVTPS2PH(Imm(0), mid, h)
	VMOVQ(h, at(s.par, pd+128))
	VCVTPH2PS(h, mid)
	VBROADCASTSS(f32c(1e-8), t)
	VMAXPS(t, scale, scale)
	VBROADCASTSS(f32c(1), inv)
	VDIVPS(scale, inv, inv)
	return mid, inv
}

// codes replaces x by round(clamp((x-mid)*inv + centre)).
func (s *sealer) codes(x []reg.VecVirtual, mid, inv reg.VecVirtual) {
	centre := bcast(s.centre())
	for p := range x {
		VSUBPS(mid, x[p], x[p])
		VMULPS(inv, x[p], x[p])
		VADDPS(centre, x[p], x[p])
		VMAXPS(s.zero, x[p], x[p])
		VMINPS(s.top, x[p], x[p])
		VCVTPS2DQ(x[p], x[p])
	}
}

// lane spreads lane b of x.
func lane(x reg.VecVirtual, b int) reg.VecVirtual {
	z := ZMM()
	if b > 0 {
		t := XMM()
		VPERMILPS(Imm(uint64(b)), x, t)
		x = t
	}
	VBROADCASTSS(x, z)
	return z
}

// merge shifts code b of each dword into d, which begins with the last one.
func merge(d, code reg.VecVirtual, b int) {
	if b == 3 {
		VPSLLD(Imm(8), code, d)
		return
	}
	VPORD(code, d, d)
	if b > 0 {
		VPSLLD(Imm(8), d, d)
	}
}

// hadamard: rows of 64 f32, orthonormal Walsh-Hadamard in place. Strides 16
// and 32 are between registers, 1 to 8 within.
func hadamard() {
	TEXT("hadamard64", NOSPLIT, "func(x *float32, rows int)")
	Pragma("noescape")
	Doc("hadamard64 transforms rows of 64 in place.")
	x, n := Load(Param("x"), GP64()), Load(Param("rows"), GP64())
	signs, eighth := hadamardSigns(), bcast(0.125)
	Label("hadamard64_row")
	v := zs(4)
	for i := range v {
		VMULPS(at(x, 64*i), eighth, v[i])
	}
	butterfly(v, 1)
	butterfly(v, 2)
	for level, sign := range signs {
		for i := range v {
			v[i] = withinRegister(v[i], sign, level)
		}
	}
	for i := range v {
		VMOVUPS(v[i], at(x, 64*i))
	}
	ADDQ(U32(256), x)
	DECQ(n)
	JNZ(LabelRef("hadamard64_row"))
	VZEROUPPER()
	RET()
}

// hadamardSigns: register b is +1 in the lanes whose bit b is 0, else -1.
func hadamardSigns() []reg.VecVirtual {
	signs := zs(4)
	for b := range signs {
		m := GLOBL(fmt.Sprintf("hadamardSign%d", b), RODATA|NOPTR)
		for i := 0; i < 16; i++ {
			DATA(4*i, F32(1-2*float32(i>>b&1)))
		}
		VMOVUPS(m, signs[b])
	}
	return signs
}

// butterfly replaces registers i and i+s by their sum and difference.
func butterfly(v []reg.VecVirtual, s int) {
	for i := range v {
		if i&s == 0 {
			t := ZMM()
			VSUBPS(v[i+s], v[i], t)
			VADDPS(v[i+s], v[i], v[i])
			v[i+s] = t
		}
	}
}

// withinRegister is the butterfly of stride 1<<level: partner + sign*own. The product is exact.
func withinRegister(v, sign reg.VecVirtual, level int) reg.VecVirtual {
	t := ZMM()
	switch level {
	case 0:
		VPERMILPS(Imm(0xB1), v, t)
	case 1:
		VPERMILPS(Imm(0x4E), v, t)
	case 2:
		VSHUFF32X4(Imm(0xB1), v, v, t)
	case 3:
		VSHUFF32X4(Imm(0x4E), v, v, t)
	}
	VFMADD231PS(v, sign, t)
	return t
}

// halves: 64 f32 as f16, limited to the finite ones; NaN becomes the upper limit.
func halves() {
	TEXT("halves64", NOSPLIT, "func(dst *uint16, x *float32)")
	Pragma("noescape")
	Doc("halves64 converts 64 floats to finite halves.")
	d, x := Load(Param("dst"), GP64()), Load(Param("x"), GP64())
	hi, lo := bcast(65504), bcast(-65504)
	for i := 0; i < 4; i++ {
		z := ZMM()
		VMOVUPS(at(x, 64*i), z)
		VMINPS(hi, z, z)
		VMAXPS(lo, z, z)
		VCVTPS2PH(Imm(0), z, at(d, 32*i))
	}
	VZEROUPPER()
	RET()
}
