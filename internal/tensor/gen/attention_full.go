package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// fullKernel emits the attention of groups of rg rows over one block in full
// precision. Row r sees the tokens [first[r], own[r]), 0 < own <= nmax <= 64, or
// as much more as lim lets it see; it may be none. Keys of tokens from nmax
// on may be read and may be anything; values of them are not read.
type fullKernel struct {
	rows
	name       string
	key, value reg.GPVirtual // the halves
	nmax, lim  reg.GPVirtual
	groups     reg.GPVirtual // groups left
	p, q, n    reg.GPVirtual // inner loops: data, the rows' factors, count
}

func newFullKernel(rg int) *fullKernel {
	return &fullKernel{rows: rows{frame: narrow, rg: rg}, name: kernelName("F16", rg)}
}

func (k *fullKernel) emit() {
	TEXT(k.name, NOSPLIT, "func(k *byte, v *byte, nmax int, lim *float32, st *byte, ngr int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds the first nmax tokens of a full-precision block to ngr groups of %d rows; lim hides what a row does not see.", k.name, k.rg))
	k.registers()
	LEAQ(Mem{Base: k.st, Disp: k.scratchB}, k.gp)
	Label(k.name + "_group")
	f := k.grid()
	k.scores(f, k.scoreVectors)
	k.mask(f)
	k.softmax(f)
	k.values(k.decay())
	k.endGroup(k.groups, k.name+"_group")
	VZEROUPPER()
	RET()
}

func (k *fullKernel) registers() {
	param := func(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }
	k.key, k.value, k.nmax, k.lim = param("k"), param("v"), param("nmax"), param("lim")
	k.st, k.groups = param("st"), param("ngr")
	k.gp, k.p, k.q, k.n = GP64(), GP64(), GP64(), GP64()
}

// scores: f[r][p] = sum over dims of q*k, only the token vectors below nmax,
// which vectors computes.
func (k *fullKernel) scores(f [][]reg.VecVirtual, vectors func(f [][]reg.VecVirtual, nv int)) {
	for r := range f {
		for i := range f[r] {
			clr(f[r][i])
		}
	}
	label := func(nv int) string { return fmt.Sprintf("%s_vectors%d", k.name, nv) }
	for nv := 1; nv <= 4; nv++ {
		if nv > 1 {
			Label(label(nv))
		}
		if nv < 4 {
			CMPQ(k.nmax, Imm(uint64(16*nv)))
			JG(LabelRef(label(nv + 1)))
		}
		vectors(f, nv)
		if nv < 4 {
			JMP(LabelRef(k.name + "_scored"))
		}
	}
	Label(k.name + "_scored")
}

// scoreVectors is the loop over 64 dims for nv vectors of tokens.
func (k *fullKernel) scoreVectors(f [][]reg.VecVirtual, nv int) {
	loop := fmt.Sprintf("%s_dims%d", k.name, nv)
	MOVQ(k.key, k.p)
	MOVQ(k.gp, k.q)
	MOVQ(U32(64), k.n)
	Label(loop)
	kv := loadHalves(k.p, 0, nv)
	for r := range f {
		b := spread(at(k.q, 256*r))
		for i := range kv {
			VFMADD231PS(kv[i], b, f[r][i])
		}
	}
	k.next(loop)
}

// next steps an inner loop: 64 f16, one float.
func (k *fullKernel) next(loop string) {
	ADDQ(U32(128), k.p)
	ADDQ(Imm(4), k.q)
	DECQ(k.n)
	JNZ(LabelRef(loop))
}

// mask limits what a row does not see. The limit is the second source of
// VMINPS, so that it also wins against NaN.
func (k *fullKernel) mask(f [][]reg.VecVirtual) {
	for r := range f {
		k.hide(VMINPS, k.lim, 4*128, k.own(r), f[r])
	}
	k.hideBefore(VMINPS, k.lim, f)
}

// softmax leaves the probabilities at sProbF.
func (k *fullKernel) softmax(f [][]reg.VecVirtual) {
	m := folded(VMAXPS, f)
	e := newExp2()
	k.newMax(m, e)
	VMOVUPS(m, at(k.st, k.sMax))
	for r := range f {
		b := spread(at(k.st, k.sMax+4*r))
		for p := range f[r] {
			VSUBPS(b, f[r][p], f[r][p])
			e.do(f[r][p], ZMM(), ZMM(), asZ)
			VMOVUPS(f[r][p], at(k.st, k.sProbF+256*r+64*p))
		}
		k.addSums(r, f[r])
	}
}

// decay: mid *= alpha; it returns out*alpha.
func (k *fullKernel) decay() [][]reg.VecVirtual {
	o := k.grid()
	for r := range o {
		b, t := spread(at(k.st, k.sAlpha+4*r)), ZMM()
		VMULPS(k.mid(r), b, t)
		VMOVUPS(t, k.mid(r))
		for i := range o[r] {
			VMULPS(k.out(r, i), b, o[r][i])
		}
	}
	return o
}

// values: out = o + sum over the first nmax tokens of p*v.
func (k *fullKernel) values(o [][]reg.VecVirtual) {
	loop := k.name + "_tokens"
	MOVQ(k.value, k.p)
	MOVQ(k.st, k.q)
	MOVQ(k.nmax, k.n)
	Label(loop)
	kv := loadHalves(k.p, 0, 4)
	for r := range o {
		b := spread(at(k.q, k.sProbF+256*r))
		for i := range kv {
			VFMADD231PS(kv[i], b, o[r][i])
		}
	}
	k.next(loop)
	for r := range o {
		for i := range o[r] {
			VMOVUPS(o[r][i], k.out(r, i))
		}
	}
}
