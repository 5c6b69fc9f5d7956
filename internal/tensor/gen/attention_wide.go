package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Attention of any head dim that is a multiple of 16, up to maxDim; the head
// dim is an argument. The dots over channels are one loop with one scale per
// row over all of them; those over tokens repeat per 64 channels, then per 16.
//
// Codes as in attention.go with k/8 (q4) or k/4 (q8) steps j of 4*lanes bytes, and
//
//	q3: k/16 steps j of 4*lanes bytes, bits 2s..2s+1 of byte b the low bits of k = s*K/4 + 4j+b; then
//	    words of 64 bits [j][lanes/16][s], bit 4*(lane%16)+b the high bit of the same
//
// Group: max[4] f32, own[4], first[4] i32, unused to 64; sum[rg][16], mid[rg][16] f32;
// q[dim/16][rg][16], out[dim/16][rg][16] f32.
const maxDim = 256

var wide = frame{
	slotInit: 4 * maxDim, slotScale: 4*maxDim + 16, slotShift: 4*maxDim + 32, slotInv: 4*maxDim + 48, slotB: 4*maxDim + 64,
	sProb: 4352, sMax: 4608, sAlpha: 4624, sInv: 4640, sWidth: 4656, sProbF: 4672,
	scratchB: 5760,
}

// Further scratch: the block of the run, blocks of this run, groups left in
// it, blocks not begun, vectors or chunks left.
const wBlock, wRun, wGroups, wLeft, wCount = 5696, 5704, 5712, 5720, 5728

// wideSealed is a sealedKernel whose outer counters lie in memory, since the
// loops need the registers.
type wideSealed struct {
	sealedKernel
	delta reg.GPVirtual // from a half to the one to prefetch
}

func newWideSealed(bits, rg int) *wideSealed {
	k := &wideSealed{sealedKernel: sealedKernel{rows: rows{frame: wide, rg: rg, wide: true}, bits: bits}}
	k.name = kernelName(fmt.Sprintf("WideQ%d", bits), rg)
	return k
}

func (k *wideSealed) emit() {
	TEXT(k.name, NOSPLIT, "func(k *byte, v *byte, table *int32, nblk int, lim *float32, st *byte, ngr int, dim int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds nblk q%d blocks, whose halves lie table[i] cache lines after k and v, to ngr groups of %d rows of dim; lim, if any, hides what a row does not see.", k.name, k.bits, k.rg))
	k.table, k.st = argument("table"), argument("st")
	for _, r := range []*reg.GPVirtual{&k.gp, &k.slot, &k.key, &k.value, &k.delta, &k.par} {
		*r = GP64()
	}
	MOVQ(argument("nblk"), k.count(wLeft))
	Label(k.name + "_run")
	k.beginRun()
	Label(k.name + "_group")
	k.eachBlock(k.name+"_fold", k.fold)
	k.eachBlock(k.name+"_block", k.block)
	nextGroup(k.rows)
	DECQ(k.count(wGroups))
	JNZ(LabelRef(k.name + "_group"))
	run := GP64()
	MOVQ(k.count(wRun), run)
	LEAQ(Mem{Base: k.table, Index: run, Scale: 4}, k.table)
	SUBQ(run, k.count(wLeft))
	JNZ(LabelRef(k.name + "_run"))
	VZEROUPPER()
	RET()
}

// argument loads a parameter afresh.
func argument(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }

// times is a parameter times n.
func times(name string, n uint64) reg.GPVirtual {
	r := GP64()
	IMUL3Q(U32(uint32(n)), argument(name), r)
	return r
}

func (k *wideSealed) count(at int) Mem { return Mem{Base: k.st, Disp: at} }

func (k *wideSealed) beginRun() {
	run, left := GP64(), GP64()
	MOVQ(U32(foldAhead), run)
	MOVQ(k.count(wLeft), left)
	CMPQ(left, run)
	CMOVQLT(left, run)
	MOVQ(run, k.count(wRun))
	LEAQ(Mem{Base: k.st, Disp: k.scratchB}, k.gp)
	MOVQ(argument("ngr"), k.count(wGroups))
}

// nextGroup steps over a group of wide rows.
func nextGroup(k rows) {
	size := times("dim", uint64(8*k.rg))
	LEAQ(Mem{Base: k.gp, Index: size, Scale: 1, Disp: 64 + 128*k.rg}, k.gp)
}

// queries is where the queries of a group begin.
func (k rows) queries() reg.GPVirtual {
	q := GP64()
	LEAQ(Mem{Base: k.gp, Disp: 64 + 128*k.rg}, q)
	return q
}

// outputs is where the outputs begin.
func (k rows) outputs() reg.GPVirtual {
	o := times("dim", uint64(4*k.rg))
	LEAQ(Mem{Base: k.gp, Index: o, Scale: 1, Disp: 64 + 128*k.rg}, o)
	return o
}

// eachBlock repeats body for the blocks of the run, with slot, key and value set.
func (k *wideSealed) eachBlock(label string, body func()) {
	MOVQ(k.st, k.slot)
	MOVQ(U32(0), k.count(wBlock))
	Label(label)
	k.address()
	body()
	ADDQ(U32(uint32(k.slotB)), k.slot)
	i := GP64()
	MOVQ(k.count(wBlock), i)
	INCQ(i)
	MOVQ(i, k.count(wBlock))
	CMPQ(i, k.count(wRun))
	JLT(LabelRef(label))
}

// address finds the halves of the block and the way to the block to prefetch.
func (k *wideSealed) address() {
	i, ahead := GP64(), GP64()
	MOVQ(k.count(wBlock), i)
	LEAQ(Mem{Base: i, Disp: prefetch}, ahead)
	CMPQ(ahead, k.count(wLeft))
	CMOVQGE(i, ahead)
	MOVLQSX(Mem{Base: k.table, Index: ahead, Scale: 4}, k.delta)
	MOVLQSX(Mem{Base: k.table, Index: i, Scale: 4}, i)
	SUBQ(i, k.delta)
	SHLQ(Imm(6), k.delta)
	SHLQ(Imm(6), i)
	MOVQ(argument("k"), k.key)
	ADDQ(i, k.key)
	MOVQ(argument("v"), k.value)
	ADDQ(i, k.value)
}

// scalesOf is where the scales of a half begin: behind its codes.
func (k *wideSealed) scalesOf(half, scales reg.GPVirtual) {
	MOVQ(times("dim", uint64(8*k.bits)), scales)
	ADDQ(half, scales)
}

// fold leaves in the slot what sealedKernel.fold does.
func (k *wideSealed) fold() {
	shift, most := zs(k.rg), zs(k.rg)
	for r := range shift {
		clr(shift[r])
		clr(most[r])
	}
	k.eachVector("scales", func(q, scale, mid reg.GPVirtual) {
		m := loadHalves(mid, 0, 1)[0]
		for r, f := range k.scaled(q, scale) {
			VFMADD231PS(at(q, 64*r), m, shift[r])
			VRANGEPS(Imm(11), f, most[r], most[r])
		}
	})
	VMOVUPS(reduce4(VADDPS, shift), at(k.slot, k.slotShift))
	widths(reduce4(VMAXPS, most), at(k.slot, k.slotInv), at(k.slot, k.slotScale), 127)
	k.foldInts()
}

// eachVector runs body for every 16 channels: their queries, scales and mid values.
func (k *wideSealed) eachVector(label string, body func(q, scale, mid reg.GPVirtual)) {
	q, scale, n, mid := k.queries(), GP64(), argument("dim"), GP64()
	k.scalesOf(k.key, scale)
	LEAQ(Mem{Base: scale, Index: n, Scale: 2}, mid)
	SHRQ(Imm(4), n)
	Label(k.name + "_" + label)
	body(q, scale, mid)
	ADDQ(U32(uint32(64*k.rg)), q)
	ADDQ(U32(32), scale)
	ADDQ(U32(32), mid)
	DECQ(n)
	JNZ(LabelRef(k.name + "_" + label))
}

// scaled is the rows' 16 queries times the channels' scales.
func (k *wideSealed) scaled(q, scale reg.GPVirtual) []reg.VecVirtual {
	s, f := loadHalves(scale, 0, 1)[0], zs(k.rg)
	for r := range f {
		VMULPS(at(q, 64*r), s, f[r])
	}
	return f
}

// foldInts stores the int8 queries and -centre times their sum.
func (k *wideSealed) foldInts() {
	sum, inv, ints := zs(k.rg), make([]reg.VecVirtual, k.rg), GP64()
	for r := range sum {
		clr(sum[r])
		inv[r] = spread(at(k.slot, k.slotInv+4*r))
	}
	MOVQ(k.slot, ints)
	k.eachVector("ints", func(q, scale, _ reg.GPVirtual) {
		for r, f := range k.scaled(q, scale) {
			VMULPS(inv[r], f, f)
			VCVTPS2DQ(f, f)
			VPADDD(f, sum[r], sum[r])
			VPMOVSDB(f, at(ints, maxDim*r))
		}
		ADDQ(Imm(16), ints)
	})
	n, zero := reduce4(VPADDD, sum), XMM()
	VPSLLD(Imm(uint64(k.bits-1)), n, n)
	clr(zero)
	VPSUBD(n, zero, n)
	VMOVDQU8(n, at(k.slot, k.slotInit))
}

// block takes one block into the rows of a group.
func (k *wideSealed) block() {
	k.scalesOf(k.value, k.par)
	f := k.grid()
	for r := range f {
		for p := range f[r] {
			VPBROADCASTD(at(k.slot, k.slotInit+4*r), f[r][p])
		}
	}
	k.keyDots(f)
	k.softmax(f)
	k.addMids(f)
	k.quantiseProbabilities(f)
	k.values()
}

// parts is how many steps of four codes share a byte vector.
func (k *wideSealed) parts() int { return map[int]int{8: 1, 4: 2, 3: 4}[k.bits] }

// keyDots: acc[r][p] += the channels' codes times the int8 queries.
func (k *wideSealed) keyDots(acc [][]reg.VecVirtual) {
	d := k.newDots(4, false)
	d.codes, d.rows, d.rowStride, d.plane = k.key, GP64(), maxDim, GP64()
	MOVQ(k.slot, d.rows)
	n := argument("dim")
	if k.bits == 3 {
		MOVQ(n, d.plane)
		SHLQ(Imm(4), d.plane) // 64 tokens at 2 bits lie before it
		ADDQ(k.key, d.plane)
	}
	d.segment = k.segments(n)
	SHRQ(Imm(uint64(2+k.parts()/2)), n)
	d.loop(k.name+"_keys", n, acc, func() {
		ADDQ(U32(256), d.codes)
		if k.bits == 3 {
			ADDQ(U32(128), d.plane)
		}
	})
}

// segments says where a part's channels begin: dim/parts times its number.
func (k *wideSealed) segments(dim reg.GPVirtual) func(part int, rows reg.GPVirtual, disp int) Mem {
	one, three := GP64(), GP64()
	if k.bits < 8 {
		MOVQ(dim, one)
		SHRQ(Imm(uint64(k.parts()/2)), one)
	}
	if k.bits == 3 {
		LEAQ(Mem{Base: one, Index: one, Scale: 2}, three)
	}
	return func(part int, rows reg.GPVirtual, disp int) Mem {
		switch part {
		case 0:
			return at(rows, disp)
		case 3:
			return Mem{Base: rows, Index: three, Scale: 1, Disp: disp}
		}
		return Mem{Base: rows, Index: one, Scale: uint8(part), Disp: disp}
	}
}

// values: out = out*alpha + width * (the tokens' codes times the probabilities).
func (k *wideSealed) values() {
	out := k.outputs()
	chunks := argument("dim")
	SHRQ(Imm(6), chunks)
	MOVQ(chunks, k.count(wCount))
	plane := GP64()
	if k.bits == 3 {
		MOVQ(times("dim", 16), plane)
		ADDQ(k.value, plane)
	}
	k.valueChunks(4, out, plane)
	rest := argument("dim")
	SHRQ(Imm(4), rest)
	ANDQ(Imm(3), rest)
	MOVQ(rest, k.count(wCount))
	k.valueChunks(1, out, plane)
}

// valueChunks takes as many chunks of nv vectors of channels as are counted.
func (k *wideSealed) valueChunks(nv int, out, plane reg.GPVirtual) {
	label := fmt.Sprintf("%s_values%d", k.name, nv)
	CMPQ(k.count(wCount), Imm(0))
	JEQ(LabelRef(label + "_end"))
	Label(label)
	a := make([][]reg.VecVirtual, k.rg)
	for r := range a {
		a[r] = zs(nv)
		for _, z := range a[r] {
			clr(z)
		}
	}
	k.valueDots(nv, plane, a)
	k.addOutputs(out, a)
	ADDQ(U32(uint32(64*nv)), k.value)
	ADDQ(U32(uint32(64*k.rg*nv)), out)
	if k.bits == 3 {
		ADDQ(U32(uint32(32*nv)), plane)
	}
	DECQ(k.count(wCount))
	JNZ(LabelRef(label))
	Label(label + "_end")
}

func (k *wideSealed) valueDots(nv int, plane reg.GPVirtual, acc [][]reg.VecVirtual) {
	d := k.newDots(nv, true)
	d.codes, d.rows, d.rowStride, d.plane = GP64(), GP64(), 64, GP64()
	MOVQ(k.value, d.codes)
	LEAQ(at(k.st, k.sProb), d.rows)
	if k.bits == 3 {
		MOVQ(plane, d.plane)
	}
	d.segment = func(part int, rows reg.GPVirtual, disp int) Mem { return at(rows, disp+64/k.parts()*part) }
	n, stride := GP64(), argument("dim")
	MOVQ(U32(uint32(16/k.parts())), n)
	d.loop(fmt.Sprintf("%s_tokens%d", k.name, nv), n, acc, func() {
		LEAQ(Mem{Base: d.codes, Index: stride, Scale: 4}, d.codes)
		if k.bits == 3 {
			LEAQ(Mem{Base: d.plane, Index: stride, Scale: 2}, d.plane)
		}
	})
}

// addOutputs: out = out*alpha + width * the integer sums.
func (k *wideSealed) addOutputs(out reg.GPVirtual, a [][]reg.VecVirtual) {
	for r := range a {
		alpha, width := spread(at(k.st, k.sAlpha+4*r)), spread(at(k.st, k.sWidth+4*r))
		for p := range a[r] {
			place, t := at(out, 64*(k.rg*p+r)), ZMM()
			VMULPS(place, alpha, t)
			VCVTDQ2PS(a[r][p], a[r][p])
			VFMADD231PS(a[r][p], width, t)
			VMOVUPS(t, place)
		}
	}
}

// storeInOrder writes row r's probabilities as bytes, one token after the other.
func (k *sealedKernel) storeInOrder(r int, f []reg.VecVirtual) {
	for p, z := range f {
		VPMOVUSDB(z, at(k.st, k.sProb+64*r+16*p))
	}
}

// wideDots is one of the two integer products, as a loop over steps of
// 4*parts of what is summed over.
type wideDots struct {
	k           *wideSealed
	nv          int
	signedCodes bool          // codes minus centre as the signed side (values), or plain as the unsigned one (keys)
	codes       reg.GPVirtual // of the step
	plane       reg.GPVirtual // its high bits, q3
	rows        reg.GPVirtual // the rows' bytes
	rowStride   int
	segment     func(part int, rows reg.GPVirtual, disp int) Mem // the rows' bytes of a part

	threes // of q4 the mask and the centre, of q8 the centre only
}

func (k *wideSealed) newDots(nv int, signedCodes bool) *wideDots {
	d := &wideDots{k: k, nv: nv, signedCodes: signedCodes}
	switch k.bits {
	case 4:
		d.mask = bcast32(0x0F0F0F0F)
	case 3:
		d.mask, d.high = bcast32(0x03030303), bcast32(0x04040404)
	}
	if signedCodes {
		d.centre = bcast32(0x01010101 << (k.bits - 1))
	}
	return d
}

// loop runs n steps; next moves codes and plane on.
func (d *wideDots) loop(label string, n reg.GPVirtual, acc [][]reg.VecVirtual, next func()) {
	Label(label)
	w := zs(d.nv)
	for p := range w {
		VMOVDQU8(at(d.codes, 64*p), w[p])
		PREFETCHT1(Mem{Base: d.codes, Index: d.k.delta, Scale: 1, Disp: 64 * p})
	}
	if d.k.bits == 3 {
		PREFETCHT1(Mem{Base: d.plane, Index: d.k.delta, Scale: 1})
	}
	for part := range d.k.parts() {
		d.step(w, part, acc)
	}
	next()
	ADDQ(Imm(4), d.rows)
	DECQ(n)
	JNZ(LabelRef(label))
}

// step multiplies one part of the codes w.
func (d *wideDots) step(w []reg.VecVirtual, part int, acc [][]reg.VecVirtual) {
	codes := make([]reg.VecVirtual, len(w))
	for p := range w {
		codes[p] = d.unpack(w[p], p, part)
	}
	for r := range acc {
		b := ZMM()
		VPBROADCASTD(d.segment(part, d.rows, d.rowStride*r), b)
		for p, c := range codes {
			if d.signedCodes {
				VPDPBUSD(c, b, acc[r][p])
			} else {
				VPDPBUSD(b, c, acc[r][p])
			}
		}
	}
}

// unpack is vector p of the codes of a part, less the centre where there is one.
func (d *wideDots) unpack(w reg.VecVirtual, p, part int) reg.VecVirtual {
	z := ZMM()
	switch {
	case d.k.bits == 8 && d.signedCodes:
		VPXORD(d.centre, w, z)
		return z
	case d.k.bits == 8:
		return w
	case d.k.bits == 3:
		d.threes.unpack(w, z, part, at(d.plane, 32*p+8*part))
		return z
	case part == 1:
		VPSRLW(Imm(4), w, z)
		w = z
	}
	VPANDD(d.mask, w, z)
	if d.signedCodes {
		VPSUBB(d.centre, z, z)
	}
	return z
}

// wideRowBegin: q = src * s, 16 floats in every stride bytes.
func wideRowBegin() {
	TEXT("attWideRowBegin", NOSPLIT, "func(q *float32, src *float32, s float32, vectors int, stride int)")
	Pragma("noescape")
	Doc("attWideRowBegin writes src times s to q, 16 floats in every stride bytes: one query row.")
	q, x, s := argument("q"), argument("src"), ZMM()
	VBROADCASTSS(Load(Param("s"), XMM()), s)
	n, stride := argument("vectors"), argument("stride")
	Label("attWideRowBegin_vector")
	t := ZMM()
	VMULPS(at(x, 0), s, t)
	VMOVUPS(t, at(q, 0))
	ADDQ(Imm(64), x)
	ADDQ(stride, q)
	DECQ(n)
	JNZ(LabelRef("attWideRowBegin_vector"))
	VZEROUPPER()
	RET()
}

// wideRowEnd: dst = (out + sum of mid) / sum of sum, out in strides.
func wideRowEnd() {
	TEXT("attWideRowEnd", NOSPLIT, "func(dst *float32, out *float32, sum *float32, mid *float32, vectors int, stride int)")
	Pragma("noescape")
	Doc("attWideRowEnd writes (out + mid) / sum to dst, 16 floats of every stride bytes of out: one finished row.")
	dst, out := argument("dst"), argument("out")
	inv, mid := rowFactors()
	n, stride := argument("vectors"), argument("stride")
	Label("attWideRowEnd_vector")
	t := ZMM()
	VADDPS(at(out, 0), mid, t)
	VMULPS(t, inv, t)
	VMOVUPS(t, at(dst, 0))
	ADDQ(Imm(64), dst)
	ADDQ(stride, out)
	DECQ(n)
	JNZ(LabelRef("attWideRowEnd_vector"))
	VZEROUPPER()
	RET()
}
