package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sealedKernel emits the attention of groups of rg rows over sealed blocks. Per
// group the queries are folded for up to foldAhead blocks, then the blocks
// follow in order:
//
//	for blocks in runs of foldAhead
//	    for groups
//	        for blocks of the run: fold
//	        for blocks of the run: scores, probabilities, values
type sealedKernel struct {
	rows
	bits, codeB int
	name        string

	table, left   reg.GPVirtual // line numbers of the blocks not begun; their number
	run           reg.GPVirtual // blocks of this run
	groups        reg.GPVirtual // groups left in this run
	i             reg.GPVirtual // block of the run
	slot          reg.GPVirtual // where its folded queries lie
	key, value    reg.GPVirtual // its halves
	keyPf, valuPf reg.GPVirtual // the halves to prefetch
	par           reg.GPVirtual // wide: the scales of the value half
}

func newSealedKernel(bits, rg int) *sealedKernel {
	return &sealedKernel{rows: rows{frame: narrow, rg: rg}, bits: bits, codeB: 512 * bits, name: kernelName(fmt.Sprintf("Q%d", bits), rg)}
}

func (k *sealedKernel) emit() {
	TEXT(k.name, NOSPLIT, "func(k *byte, v *byte, table *int32, nblk int, lim *float32, st *byte, ngr int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds nblk q%d blocks, whose halves lie table[i] cache lines after k and v, to ngr groups of %d rows; lim, if any, hides what a row does not see.", k.name, k.bits, k.rg))
	k.registers()
	Label(k.name + "_run")
	k.beginRun()
	Label(k.name + "_group")
	k.eachBlock(k.name+"_fold", k.fold)
	k.eachBlock(k.name+"_block", k.block)
	k.endGroup(k.groups, k.name+"_group")
	LEAQ(Mem{Base: k.table, Index: k.run, Scale: 4}, k.table)
	SUBQ(k.run, k.left)
	JNZ(LabelRef(k.name + "_run"))
	VZEROUPPER()
	RET()
}

func (k *sealedKernel) registers() {
	k.table = Load(Param("table"), GP64()).(reg.GPVirtual)
	k.left = Load(Param("nblk"), GP64()).(reg.GPVirtual)
	k.st = Load(Param("st"), GP64()).(reg.GPVirtual)
	for _, r := range []*reg.GPVirtual{&k.gp, &k.run, &k.groups, &k.i, &k.slot, &k.key, &k.value, &k.keyPf, &k.valuPf} {
		*r = GP64()
	}
}

func (k *sealedKernel) beginRun() {
	MOVQ(U32(foldAhead), k.run)
	CMPQ(k.left, k.run)
	CMOVQLT(k.left, k.run)
	LEAQ(Mem{Base: k.st, Disp: k.scratchB}, k.gp)
	Load(Param("ngr"), k.groups)
}

// eachBlock repeats body for the blocks of the run, with i, slot, key and value set.
func (k *sealedKernel) eachBlock(label string, body func()) {
	XORQ(k.i, k.i)
	MOVQ(k.st, k.slot)
	Label(label)
	k.address(k.i, k.key, k.value)
	body()
	ADDQ(U32(k.slotB), k.slot)
	INCQ(k.i)
	CMPQ(k.i, k.run)
	JLT(LabelRef(label))
}

// address finds the halves of block idx of the table.
func (k *sealedKernel) address(idx, key, value reg.GPVirtual) {
	MOVLQSX(Mem{Base: k.table, Index: idx, Scale: 4}, key)
	SHLQ(Imm(6), key)
	Load(Param("v"), value)
	ADDQ(key, value)
	t := Load(Param("k"), GP64())
	ADDQ(t, key)
}

// block takes one block into the rows of a group.
func (k *sealedKernel) block() {
	k.prefetch()
	f := k.grid()
	for r := range f {
		for p := range f[r] {
			VPBROADCASTD(at(k.slot, k.slotInit+4*r), f[r][p])
		}
	}
	k.dots(dotSide{half: k.key, next: k.keyPf, rows: k.slot}, f)
	k.softmax(f)
	k.addMids(f)
	k.quantiseProbabilities(f)
	a := k.grid()
	for r := range a {
		for p := range a[r] {
			clr(a[r][p])
		}
	}
	k.dots(dotSide{half: k.value, next: k.valuPf, rows: k.st, disp: k.sProb, signedCodes: true}, a)
	k.addOutputs(a)
}

// prefetch finds the block to call for and calls for its scales; dots calls for its codes.
func (k *sealedKernel) prefetch() {
	LEAQ(Mem{Base: k.i, Disp: prefetch}, k.keyPf)
	CMPQ(k.keyPf, k.left)
	CMOVQGE(k.i, k.keyPf)
	k.address(k.keyPf, k.keyPf, k.valuPf)
	for i := 0; i < 4; i++ {
		PREFETCHT1(at(k.keyPf, k.codeB+64*i))
		PREFETCHT1(at(k.valuPf, k.codeB+64*i))
	}
}

// fold leaves in the slot: the int8 queries q*scale * 127/max, their width,
// shift = sum of q*mid, and init = -centre * sum of the int8 queries.
func (k *sealedKernel) fold() {
	k.foldMids()
	f := k.grid()
	s := loadHalves(k.key, k.codeB, 4)
	for r := range f {
		for i := range s {
			VMULPS(k.q(r, i), s[i], f[r][i])
		}
	}
	absMax := func(o ...Op) { VRANGEPS(Imm(11), o[0], o[1], o[2]) }
	m := make([]reg.VecVirtual, k.rg)
	for r := range f {
		m[r] = tree(absMax, f[r])
	}
	widths(reduce4(VMAXPS, m), at(k.slot, k.slotInv), at(k.slot, k.slotScale), 127)
	k.foldInts(f)
}

func (k *sealedKernel) foldMids() {
	mid, c := loadHalves(k.key, k.codeB+128, 4), zs(k.rg)
	for r := range c {
		t := ZMM()
		VMULPS(k.q(r, 0), mid[0], c[r])
		VMULPS(k.q(r, 1), mid[1], t)
		VFMADD231PS(k.q(r, 2), mid[2], c[r])
		VFMADD231PS(k.q(r, 3), mid[3], t)
		VADDPS(t, c[r], c[r])
	}
	VMOVUPS(reduce4(VADDPS, c), at(k.slot, k.slotShift))
}

func (k *sealedKernel) foldInts(f [][]reg.VecVirtual) {
	sum, centre := zs(k.rg), k.centre()
	for r := range f {
		roundRow(f[r], at(k.slot, k.slotInv+4*r))
		z := pack4(VPACKSSDW, VPACKSSWB, f[r])
		VMOVDQU8(z, at(k.slot, 64*r))
		clr(sum[r])
		VPDPBUSD(z, centre, sum[r])
	}
	n, zero := reduce4(VPADDD, sum), XMM()
	clr(zero)
	VPSUBD(n, zero, n)
	VMOVDQU8(n, at(k.slot, k.slotInit))
}

func (k *sealedKernel) centre() reg.VecVirtual {
	return bcast32(0x01010101 << (k.bits - 1))
}

// roundRow replaces a row by the nearest integers of it times the factor in memory.
func roundRow(f []reg.VecVirtual, factor Mem) {
	b := spread(factor)
	for i := range f {
		VMULPS(b, f[i], f[i])
		VCVTPS2DQ(f[i], f[i])
	}
}

// widths stores n/m and m/n of the rows' maxima m, which it raises to 1e-30.
func widths(m reg.VecVirtual, inv, width Mem, n float64) {
	t, u := XMM(), XMM()
	VBROADCASTSS(f32c(1e-30), t)
	VMAXPS(t, m, m)
	VBROADCASTSS(f32c(n), t)
	VDIVPS(m, t, t)
	VMOVUPS(t, inv)
	VBROADCASTSS(f32c(1/n), u)
	VMULPS(u, m, m)
	VMOVUPS(m, width)
}

// pack4 turns 4 x 16 dwords into 64 bytes; dword says where they land.
func pack4(words, bytes instr, v []reg.VecVirtual) reg.VecVirtual {
	x, y, z := ZMM(), ZMM(), ZMM()
	words(v[1], v[0], x)
	words(v[3], v[2], y)
	bytes(y, x, z)
	return z
}

// dword is where pack4 leaves the bytes of k = 4j..4j+3.
func dword(j int) int { return 4 * (j%4*4 + j/4) }

// dotSide is one of the two integer products: a half's codes and the rows' bytes.
type dotSide struct {
	half, next  reg.GPVirtual // the codes; the block to prefetch
	rows        reg.GPVirtual // the rows' bytes lie disp after it
	disp        int
	signedCodes bool // codes minus centre as the signed side (values), or plain as the unsigned one (keys)
}

// dots: acc[r][p] += codes of lanes 16p.. times the bytes of row r.
func (k *sealedKernel) dots(s dotSide, acc [][]reg.VecVirtual) {
	if k.bits == 3 {
		k.dots3(s, acc)
		return
	}
	var mask, centre reg.VecVirtual
	if k.bits == 4 {
		mask = bcast32(0x0F0F0F0F)
	}
	if s.signedCodes {
		centre = k.centre()
	}
	for j := 0; j < 2*k.bits; j++ {
		w, high := zs(4), zs(4)
		for p := range w {
			VMOVDQU8(at(s.half, 256*j+64*p), w[p])
			PREFETCHT1(at(s.next, 256*j+64*p))
			if k.bits == 4 {
				VPSRLW(Imm(4), w[p], high[p])
				nibbles(w[p], mask, centre)
			} else if centre != nil {
				VPXORD(centre, w[p], w[p])
			}
		}
		s.step(w, j, acc)
		if k.bits == 4 {
			for p := range high {
				nibbles(high[p], mask, centre)
			}
			s.step(high, 8+j, acc)
		}
	}
}

// dots3: of each vector four parts, whose high bits follow in masks.
func (k *sealedKernel) dots3(s dotSide, acc [][]reg.VecVirtual) {
	const plane = 1024
	t := threes{mask: bcast32(0x03030303), high: bcast32(0x04040404)}
	if s.signedCodes {
		t.centre = k.centre()
	}
	for j := 0; j < 4; j++ {
		w := zs(4)
		for p := range w {
			VMOVDQU8(at(s.half, 256*j+64*p), w[p])
			PREFETCHT1(at(s.next, 256*j+64*p))
		}
		PREFETCHT1(at(s.next, plane+128*j))
		PREFETCHT1(at(s.next, plane+128*j+64))
		for part := 0; part < 4; part++ {
			codes := zs(4)
			for p := range w {
				t.unpack(w[p], codes[p], part, at(s.half, plane+128*j+32*p+8*part))
			}
			s.step(codes, 4*part+j, acc)
		}
	}
}

// threes are the constants of q3 codes.
type threes struct{ mask, high, centre reg.VecVirtual }

// unpack makes the codes of a part of w and their high bits, less the centre where there is one.
func (t threes) unpack(w, codes reg.VecVirtual, part int, plane Mem) {
	if part == 0 {
		VPANDD(t.mask, w, codes)
	} else {
		VPSRLW(Imm(uint64(2*part)), w, codes)
		VPANDD(t.mask, codes, codes)
	}
	set := K()
	KMOVQ(plane, set)
	VPADDB(t.high, codes, set, codes)
	if t.centre != nil {
		VPSUBB(t.centre, codes, codes)
	}
}

// nibbles keeps the low nibble of each byte, less the centre where there is one.
func nibbles(w, mask, centre reg.VecVirtual) {
	VPANDD(mask, w, w)
	if centre != nil {
		VPSUBB(centre, w, w)
	}
}

// step multiplies the codes w of k = 4j..4j+3.
func (s dotSide) step(w []reg.VecVirtual, j int, acc [][]reg.VecVirtual) {
	for r := range acc {
		b := ZMM()
		VPBROADCASTD(at(s.rows, s.disp+64*r+dword(j)), b)
		for p := range w {
			if s.signedCodes {
				VPDPBUSD(w[p], b, acc[r][p])
			} else {
				VPDPBUSD(b, w[p], acc[r][p])
			}
		}
	}
}

// softmax turns the integer scores f[r][p] into probabilities relative to the
// running max. The max is taken on the integers; scale and shift are one FMA.
// What a row does not see is hidden from the max, and then from the exponential:
// the limit that hides is, as an integer, below every score too.
func (k *sealedKernel) softmax(f [][]reg.VecVirtual) {
	k.whereLimited("max", func(lim reg.Register) { k.hideBefore(VPMINSD, lim, f) })
	m, shift := k.largest(f)
	e := newExp2()
	k.newMax(m, e)
	VSUBPS(m, shift, shift)
	VMOVUPS(shift, at(k.st, k.sMax))
	for r := range f {
		b, s := spread(at(k.st, k.sMax+4*r)), spread(at(k.slot, k.slotScale+4*r))
		for p := range f[r] {
			VCVTDQ2PS(f[r][p], f[r][p])
			VFMADD213PS(b, s, f[r][p])
		}
	}
	k.whereLimited("scores", func(lim reg.Register) { k.hideBefore(VMINPS, lim, f) })
	for r := range f {
		for p := range f[r] {
			e.do(f[r][p], ZMM(), ZMM(), asZ)
		}
		k.addSums(r, f[r])
	}
}

// whereLimited emits code that runs only if there are limits.
func (k *sealedKernel) whereLimited(name string, body func(lim reg.Register)) {
	lim, end := argument("lim"), k.name+"_seen_"+name
	TESTQ(lim, lim)
	JZ(LabelRef(end))
	body(lim)
	Label(end)
}

// largest is each row's largest score, rows as lanes, and their shift; -1e30 for
// a row that sees nothing.
func (k *sealedKernel) largest(f [][]reg.VecVirtual) (m, shift reg.VecVirtual) {
	m, shift = folded(VPMAXSD, f), XMM()
	scale, hidden, none := XMM(), XMM(), K()
	VBROADCASTSS(f32c(-1e30), hidden)
	VPCMPEQD(hidden, m, none)
	VMOVUPS(at(k.slot, k.slotScale), scale)
	VMOVUPS(at(k.slot, k.slotShift), shift)
	VCVTDQ2PS(m, m)
	VFMADD213PS(shift, scale, m)
	VMOVAPS(hidden, none, m)
	return m, shift
}

// addMids: mid = mid*alpha + sum of p * the tokens' mid values.
func (k *sealedKernel) addMids(f [][]reg.VecVirtual) {
	mid := loadHalves(k.valueScales(128))
	for r := range f {
		t, u := spread(at(k.st, k.sAlpha+4*r)), ZMM()
		VMULPS(k.mid(r), t, t)
		VMULPS(f[r][1], mid[1], u)
		VFMADD231PS(f[r][0], mid[0], t)
		VFMADD231PS(f[r][3], mid[3], u)
		VFMADD231PS(f[r][2], mid[2], t)
		VADDPS(u, t, t)
		VMOVUPS(t, k.mid(r))
	}
}

// quantiseProbabilities folds in the tokens' scales and rounds to u8 at sProb, 255 at the largest.
func (k *sealedKernel) quantiseProbabilities(f [][]reg.VecVirtual) {
	s := loadHalves(k.valueScales(0))
	for r := range f {
		for i := range s {
			VMULPS(s[i], f[r][i], f[r][i])
		}
	}
	widths(folded(VMAXPS, f), at(k.st, k.sInv), at(k.st, k.sWidth), 255)
	for r := range f {
		roundRow(f[r], at(k.st, k.sInv+4*r))
		if k.wide {
			k.storeInOrder(r, f[r])
			continue
		}
		VMOVDQU8(pack4(VPACKUSDW, VPACKUSWB, f[r]), at(k.st, k.sProb+64*r))
	}
}

// valueScales is where the tokens' scales lie, or 128 bytes on their mid
// values: arguments of loadHalves.
func (k *sealedKernel) valueScales(disp int) (base reg.Register, at, n int) {
	if k.wide {
		return k.par, disp, 4
	}
	return k.value, k.codeB + disp, 4
}

// addOutputs: out = out*alpha + width * the integer sums.
func (k *sealedKernel) addOutputs(a [][]reg.VecVirtual) {
	for r := range a {
		alpha, width := spread(at(k.st, k.sAlpha+4*r)), spread(at(k.st, k.sWidth+4*r))
		for p := range a[r] {
			t := ZMM()
			VMULPS(k.out(r, p), alpha, t)
			VCVTDQ2PS(a[r][p], a[r][p])
			VFMADD231PS(a[r][p], width, t)
			VMOVUPS(t, k.out(r, p))
		}
	}
}
