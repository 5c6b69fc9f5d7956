package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// losses: for n scales d and their inverses, the sum over 32 floats of
// (x - d*round(x*inv))^2 in f64. Lane l of 8 sums elements l, 8+l, 16+l, 24+l;
// then halves, quarters and the pair are added. Nothing that rounds is fused:
// d*round is exact.
func losses() {
	TEXT("lossesAVX512", NOSPLIT, "func(x *float32, d *float64, inv *float64, loss *float64, n int)")
	Pragma("noescape")
	Doc("lossesAVX512 is what 32 floats lose, squared and summed, at each of n scales.")
	x, d, inv, loss, n := argument("x"), argument("d"), argument("inv"), argument("loss"), argument("n")
	v := zs(4)
	for i := range v {
		VCVTPS2PD(at(x, 32*i), v[i])
	}
	Label("lossesAVX512_scale")
	scale, inverse, sum := ZMM(), ZMM(), ZMM()
	VBROADCASTSD(at(d, 0), scale)
	VBROADCASTSD(at(inv, 0), inverse)
	for i := range v {
		e, code := ZMM(), ZMM()
		VMULPD(v[i], inverse, code)
		VRNDSCALEPD(Imm(0), code, code)
		VMOVAPD(v[i], e)
		VFNMADD231PD(code, scale, e)
		VMULPD(e, e, e)
		if i == 0 {
			sum = e
		} else {
			VADDPD(e, sum, sum)
		}
	}
	VMOVSD(hsumPD(sum), at(loss, 0))
	for _, p := range []reg.GPVirtual{d, inv, loss} {
		ADDQ(Imm(8), p)
	}
	DECQ(n)
	JNZ(LabelRef("lossesAVX512_scale"))
	VZEROUPPER()
	RET()
}

// hsumPD leaves the sum of 8 doubles in lane 0: ((0+4)+(2+6)) + ((1+5)+(3+7)).
func hsumPD(z reg.VecVirtual) reg.VecVirtual {
	y, x, t := YMM(), XMM(), XMM()
	VEXTRACTF64X4(Imm(1), z, y)
	VADDPD(z.AsY(), y, y)
	VEXTRACTF128(Imm(1), y, x)
	VADDPD(y.AsX(), x, x)
	VPERMILPD(Imm(1), x, t)
	VADDPD(t, x, x)
	return x
}
