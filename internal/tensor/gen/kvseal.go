package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sealer emits the quantisation of one half block, k rows of 16*vectors lanes of
// f16, into the sealed layout (attention.go, attention_wide.go): first the scales
// of all k, then the codes. It multiplies, adds and divides and fuses nothing, so
// that the generic code gives the same bytes.
//
// Between the two, steps holds per four k their mid values and the inverses of
// their scales, 4 + 4 f32.
type sealer struct {
	bits int

	src, row, row3     reg.GPVirtual // the halves of four k; from one k to the next, and to the third
	par, mids, steps   reg.GPVirtual // scales; from a scale to its mid value
	vectors            reg.GPVirtual
	dst, plane         reg.GPVirtual
	segment, segment3  reg.GPVirtual   // in steps, from one part's k to the next's, and to the third
	parts              []reg.GPVirtual // the halves of each part
	top, zero, centred reg.VecVirtual
}

func (s *sealer) topCode() float64 { return float64(int(1)<<s.bits - 1) }
func (s *sealer) centre() float64  { return float64(int(1) << (s.bits - 1)) }

// half is 16 lanes of row b of the four at base.
func (s *sealer) half(base reg.Register, b int) Mem {
	switch b {
	case 0:
		return at(base, 0)
	case 3:
		return Mem{Base: base, Index: s.row3, Scale: 1}
	}
	return Mem{Base: base, Index: s.row, Scale: uint8(b)}
}

// rowSizes finds the distances between rows.
func (s *sealer) rowSizes() {
	s.row, s.row3 = GP64(), GP64()
	MOVQ(s.vectors, s.row)
	SHLQ(Imm(5), s.row)
	LEAQ(Mem{Base: s.row, Index: s.row, Scale: 2}, s.row3)
}

// sealScales writes scale and mid of every k, and the steps.
func sealScales(bits int) {
	name := fmt.Sprintf("sealScalesQ%d", bits)
	TEXT(name, NOSPLIT, "func(par *byte, steps *float32, src *byte, k int, vectors int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s finds the q%d scales and mid values of k rows of vectors*16 halves: par takes them as they are stored, steps as sealCodesQ%d wants them.", name, bits, bits))
	s := &sealer{bits: bits, par: argument("par"), steps: argument("steps"), src: argument("src"), vectors: argument("vectors")}
	s.rowSizes()
	quads := argument("k")
	s.mids = GP64()
	LEAQ(Mem{Base: quads, Index: quads, Scale: 1}, s.mids)
	SHRQ(Imm(2), quads)
	s.zero = ZMM()
	clr(s.zero)
	Label(name + "_quad")
	hi, lo := s.extremes(name + "_lanes")
	mid, inv := s.parameters(hi, lo)
	VMOVUPS(mid, at(s.steps, 0))
	VMOVUPS(inv, at(s.steps, 16))
	ADDQ(Imm(32), s.steps)
	ADDQ(Imm(8), s.par)
	ADDQ(s.row3, s.src)
	DECQ(quads)
	JNZ(LabelRef(name + "_quad"))
	VZEROUPPER()
	RET()
}

// extremes are the largest and smallest of four rows, as lanes; src ends one row on.
func (s *sealer) extremes(loop string) (hi, lo reg.VecVirtual) {
	most, least, n := zs(4), zs(4), GP64()
	for b := range most {
		VBROADCASTSS(f32c(-math.MaxFloat32), most[b])
		VBROADCASTSS(f32c(math.MaxFloat32), least[b])
	}
	MOVQ(s.vectors, n)
	Label(loop)
	for b := range most {
		x := ZMM()
		VCVTPH2PS(s.half(s.src, b), x)
		VMAXPS(x, most[b], most[b])
		VMINPS(x, least[b], least[b])
	}
	ADDQ(Imm(32), s.src)
	DECQ(n)
	JNZ(LabelRef(loop))
	return reduce4(VMAXPS, most), reduce4(VMINPS, least)
}

// parameters stores scale = (hi-lo)/top and mid = lo + centre*scale as f16 and returns mid and 1/scale as stored.
func (s *sealer) parameters(hi, lo reg.VecVirtual) (mid, inv reg.VecVirtual) {
	t, scale, h := XMM(), XMM(), XMM()
	VBROADCASTSS(f32c(1/s.topCode()), t)
	VSUBPS(lo, hi, scale)
	VMULPS(t, scale, scale)
	VMAXPS(s.zero.AsX(), scale, scale) // and -0 becomes 0
	VCVTPS2PH(Imm(0), scale, h)
	VMOVQ(h, at(s.par, 0))
	VCVTPH2PS(h, scale)
	mid, inv = XMM(), XMM()
	VBROADCASTSS(f32c(s.centre()), t)
	VMULPS(t, scale, mid)
	VADDPS(lo, mid, mid)
	VCVTPS2PH(Imm(0), mid, h)
	VMOVQ(h, Mem{Base: s.par, Index: s.mids, Scale: 1})
	VCVTPH2PS(h, mid)
	VBROADCASTSS(f32c(1e-8), t)
	VMAXPS(t, scale, scale)
	VBROADCASTSS(f32c(1), inv)
	VDIVPS(scale, inv, inv)
	return mid, inv
}

// sealCodes writes the codes: per step, 16 lanes after 16 lanes, four k of each part.
func sealCodes(bits int) {
	name := fmt.Sprintf("sealCodesQ%d", bits)
	TEXT(name, NOSPLIT, "func(dst *byte, plane *byte, src *byte, steps *float32, k int, vectors int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes the q%d codes of k rows of vectors*16 halves by their steps, and their high bits to plane if there is one.", name, bits))
	s := &sealer{bits: bits, dst: argument("dst"), src: argument("src"), steps: argument("steps"), vectors: argument("vectors")}
	s.rowSizes()
	n := s.cut(map[int]int{8: 1, 4: 2, 3: 4}[bits])
	s.top, s.zero, s.centred = bcast(s.topCode()), ZMM(), bcast(s.centre())
	clr(s.zero)
	left := GP64()
	Label(name + "_step")
	MOVQ(s.vectors, left)
	Label(name + "_lanes")
	s.lanes()
	for _, p := range s.parts {
		ADDQ(Imm(32), p)
	}
	ADDQ(Imm(64), s.dst)
	DECQ(left)
	JNZ(LabelRef(name + "_lanes"))
	for _, p := range s.parts {
		ADDQ(s.row3, p)
	}
	ADDQ(Imm(32), s.steps)
	DECQ(n)
	JNZ(LabelRef(name + "_step"))
	VZEROUPPER()
	RET()
}

// cut finds where the parts begin, and returns the number of steps.
func (s *sealer) cut(parts int) (n reg.GPVirtual) {
	n = argument("k")
	SHRQ(Imm(uint64(2+parts/2)), n)
	s.segment, s.segment3 = GP64(), GP64()
	MOVQ(n, s.segment)
	SHLQ(Imm(5), s.segment)
	LEAQ(Mem{Base: s.segment, Index: s.segment, Scale: 2}, s.segment3)
	apart := GP64()
	MOVQ(n, apart)
	SHLQ(Imm(2), apart)
	IMULQ(s.row, apart)
	s.parts = []reg.GPVirtual{s.src}
	for len(s.parts) < parts {
		p := GP64()
		LEAQ(Mem{Base: s.parts[len(s.parts)-1], Index: apart, Scale: 1}, p)
		s.parts = append(s.parts, p)
	}
	if s.bits == 3 {
		s.plane = argument("plane")
	}
	return n
}

// lanes writes one vector of codes: four k of every part in 16 lanes.
func (s *sealer) lanes() {
	d := ZMM()
	for i := range s.parts {
		codes := s.quad(i)
		if s.bits == 3 {
			high := K()
			VPTESTMB(bcast32(0x04040404), codes, high)
			KMOVQ(high, at(s.plane, 8*i))
			VPANDD(bcast32(0x03030303), codes, codes)
		}
		if i == 0 {
			d = codes
			continue
		}
		VPSLLD(Imm(uint64(8/len(s.parts)*i)), codes, codes)
		VPORD(codes, d, d)
	}
	if s.bits == 3 {
		ADDQ(Imm(32), s.plane)
	}
	VMOVDQU8(d, at(s.dst, 0))
}

// quad is round(clamp((x-mid)*inv + centre)) of the four k of a part, one byte of each lane for each.
func (s *sealer) quad(part int) reg.VecVirtual {
	d, x := ZMM(), ZMM()
	for b := 3; b >= 0; b-- {
		VCVTPH2PS(s.half(s.parts[part], b), x)
		VSUBPS_BCST(s.step(part, 4*b), x, x)
		VMULPS_BCST(s.step(part, 16+4*b), x, x)
		VADDPS(s.centred, x, x)
		VMAXPS(s.zero, x, x)
		VMINPS(s.top, x, x)
		VCVTPS2DQ(x, x)
		merge(d, x, b)
	}
	return d
}

// step is disp bytes into the steps of a part's four k.
func (s *sealer) step(part, disp int) Mem {
	switch part {
	case 0:
		return at(s.steps, disp)
	case 3:
		return Mem{Base: s.steps, Index: s.segment3, Scale: 1, Disp: disp}
	}
	return Mem{Base: s.steps, Index: s.segment, Scale: uint8(part), Disp: disp}
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

// hadamard: rows of dim f32, orthonormal Walsh-Hadamard in place. Strides from 16
// on are between registers, 1 to 8 within.
func hadamard(dim int) {
	name := fmt.Sprintf("hadamard%d", dim)
	TEXT(name, NOSPLIT, "func(x *float32, rows int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s transforms rows of %d in place.", name, dim))
	x, n := argument("x"), argument("rows")
	signs, scale := hadamardSigns(), bcast(1/math.Sqrt(float64(dim)))
	Label(name + "_row")
	v := zs(dim / 16)
	for i := range v {
		VMULPS(at(x, 64*i), scale, v[i])
	}
	for stride := 1; stride < len(v); stride *= 2 {
		butterfly(v, stride)
	}
	for level, sign := range signs {
		for i := range v {
			v[i] = withinRegister(v[i], sign, level)
		}
	}
	for i := range v {
		VMOVUPS(v[i], at(x, 64*i))
	}
	ADDQ(U32(uint32(4*dim)), x)
	DECQ(n)
	JNZ(LabelRef(name + "_row"))
	VZEROUPPER()
	RET()
}

// hadamardSigns: register b is +1 in the lanes whose bit b is 0, else -1.
func hadamardSigns() []reg.VecVirtual {
	signs := zs(4)
	for b := range signs {
		VMOVUPS(signTable(b), signs[b])
	}
	return signs
}

var signTables = map[int]Mem{}

// signTable holds them, one table for all dims.
func signTable(b int) Mem {
	m, ok := signTables[b]
	if !ok {
		m = GLOBL(fmt.Sprintf("hadamardSign%d", b), RODATA|NOPTR)
		for i := 0; i < 16; i++ {
			DATA(4*i, F32(1-2*float32(i>>b&1)))
		}
		signTables[b] = m
	}
	return m
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
