package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// wideFull is a fullKernel for any head dim that is a multiple of 16.
type wideFull struct {
	fullKernel
	vectors reg.GPVirtual
}

func newWideFull(rg int) *wideFull {
	k := &wideFull{fullKernel: fullKernel{rows: rows{frame: wide, rg: rg, wide: true}}}
	k.name = kernelName("WideF16", rg)
	return k
}

func (k *wideFull) emit() {
	TEXT(k.name, NOSPLIT, "func(k *byte, v *byte, nmax int, lim *float32, st *byte, ngr int, dim int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds the first nmax tokens of a full-precision block to ngr groups of %d rows of dim; lim hides what a row does not see.", k.name, k.rg))
	k.registers()
	k.vectors = GP64()
	LEAQ(Mem{Base: k.st, Disp: k.scratchB}, k.gp)
	Label(k.name + "_group")
	f := k.grid()
	k.scores(f, k.scoreVectors)
	k.mask(f)
	k.softmax(f)
	k.decayMids()
	k.values()
	nextGroup(k.rows)
	DECQ(k.groups)
	JNZ(LabelRef(k.name + "_group"))
	VZEROUPPER()
	RET()
}

// scoreVectors is the loop over the channels, 16 at a time, for nv vectors of tokens.
func (k *wideFull) scoreVectors(f [][]reg.VecVirtual, nv int) {
	loop := fmt.Sprintf("%s_dims%d", k.name, nv)
	MOVQ(k.key, k.p)
	MOVQ(k.queries(), k.q)
	k.countVectors()
	Label(loop + "_vector")
	MOVQ(U32(16), k.n)
	Label(loop)
	kv := loadHalves(k.p, 0, nv)
	for r := range f {
		b := spread(at(k.q, 64*r))
		for i := range kv {
			VFMADD231PS(kv[i], b, f[r][i])
		}
	}
	k.next(loop)
	ADDQ(U32(uint32(64*k.rg-64)), k.q)
	DECQ(k.vectors)
	JNZ(LabelRef(loop + "_vector"))
}

func (k *wideFull) countVectors() {
	MOVQ(argument("dim"), k.vectors)
	SHRQ(Imm(4), k.vectors)
}

// decayMids: mid *= alpha.
func (k *wideFull) decayMids() {
	for r := range k.rg {
		t := spread(at(k.st, k.sAlpha+4*r))
		VMULPS(k.mid(r), t, t)
		VMOVUPS(t, k.mid(r))
	}
}

// values: out = out*alpha + sum over the first nmax tokens of p*v, by 64
// channels, then by 16.
func (k *wideFull) values() {
	value, out := GP64(), k.outputs()
	MOVQ(k.value, value)
	k.countVectors()
	k.chunks(4, value, out)
	k.chunks(1, value, out)
}

// chunks takes nv vectors of channels as long as there are so many.
func (k *wideFull) chunks(nv int, value, out reg.GPVirtual) {
	label := fmt.Sprintf("%s_values%d", k.name, nv)
	Label(label)
	CMPQ(k.vectors, Imm(uint64(nv)))
	JLT(LabelRef(label + "_end"))
	place := func(r, p int) Mem { return at(out, 64*(k.rg*p+r)) }
	o := make([][]reg.VecVirtual, k.rg)
	for r := range o {
		o[r] = zs(nv)
		b := spread(at(k.st, k.sAlpha+4*r))
		for p := range o[r] {
			VMULPS(place(r, p), b, o[r][p])
		}
	}
	k.tokens(label+"_tokens", value, o)
	for r := range o {
		for p := range o[r] {
			VMOVUPS(o[r][p], place(r, p))
		}
	}
	ADDQ(U32(uint32(32*nv)), value)
	ADDQ(U32(uint32(64*k.rg*nv)), out)
	SUBQ(U32(uint32(nv)), k.vectors)
	JMP(LabelRef(label))
	Label(label + "_end")
}

// tokens adds the first nmax tokens' values times the probabilities.
func (k *wideFull) tokens(loop string, value reg.GPVirtual, o [][]reg.VecVirtual) {
	stride := argument("dim")
	MOVQ(value, k.p)
	MOVQ(k.st, k.q)
	MOVQ(k.nmax, k.n)
	Label(loop)
	kv := loadHalves(k.p, 0, len(o[0]))
	for r := range o {
		b := spread(at(k.q, k.sProbF+256*r))
		for i := range kv {
			VFMADD231PS(kv[i], b, o[r][i])
		}
	}
	LEAQ(Mem{Base: k.p, Index: stride, Scale: 2}, k.p)
	ADDQ(Imm(4), k.q)
	DECQ(k.n)
	JNZ(LabelRef(loop))
}
