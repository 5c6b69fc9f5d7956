package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	group    = 32        // k that share a scale, on both sides
	actBytes = group + 8 // one activation row and group: int8 codes, start value, scale
	ahead    = 2048      // bytes that the narrow kernels prefetch ahead
)

// tileForm is one weight tile as the kernels read it; package tile has the drawing.
type tileForm struct {
	name  string
	wide  bool    // a byte per code; else a nibble, two groups in a byte
	mins  bool    // w = d*q + m with codes as they are; else offset 128
	plane bool    // a further bit per code: in mins the highest, else the lowest
	super bool    // small scales and minima, of halves that four tiles share
	align float64 // what left alignment multiplied the codes by, inverted; 0: nothing
}

var tileForms = []tileForm{
	{name: "Q8", wide: true},
	{name: "Q4", align: 1.0 / 16},
	{name: "Q41", mins: true},
	{name: "Q5", plane: true, align: 1.0 / 8},
	{name: "Q51", mins: true, plane: true},
	{name: "Q4K", mins: true, super: true},
	{name: "Q5K", mins: true, plane: true, super: true},
}

var heights = []int{1, 2, 3, 4, 8, 12, 16}

// linear writes everything but attention.
func linear() {
	for _, form := range tileForms {
		for _, mr := range heights {
			gemmTiles(form, mr)
		}
	}
	for _, mr := range heights {
		gemmDense(mr)
	}
	elementwise()
}

func (f tileForm) header() int {
	if f.mins && !f.super {
		return 128
	}
	return 64
}

func (f tileForm) bytes() int {
	switch {
	case f.wide:
		return f.header() + 1024
	case f.plane:
		return f.header() + 512 + 128
	}
	return f.header() + 512
}

// planeBit is the further bit where loadCodes puts it.
func (f tileForm) planeBit() uint32 {
	if f.mins {
		return 0x10101010
	}
	return 0x08080808
}

// gemm is one kernel under construction: mr rows of activations against
// panels of 16 weight rows. Every row's sum runs over k in the same order
// with the same instructions whatever mr is.
type gemm struct {
	tileForm
	mr               int
	w, a, k          reg.GPVirtual
	panels, a0, tile reg.GPVirtual // panels left; activations from the start; tiles of 64 k
	c, ldc           reg.GPVirtual
	acc              []reg.VecVirtual
	mask             reg.VecVirtual // nil: not enough registers, use the memory operand
	bit              reg.VecVirtual // of the plane
	halves, left     reg.GPVirtual  // of a super form: the shared line; tiles that still share it
	prefetched       int            // bytes of the tile ahead that are asked for already
}

func newGemm(form tileForm, mr int) *gemm {
	name := fmt.Sprintf("gemm%sM%d", form.name, mr)
	TEXT(name, NOSPLIT, "func(w *byte, panels int, a *byte, tiles int, c *float32, ldc int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d rows of c for panels of 16 %s weight rows.", name, mr, form.name))
	arg := func(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }
	g := &gemm{tileForm: form, mr: mr, w: arg("w"), panels: arg("panels"), a0: arg("a"), tile: arg("tiles"),
		c: arg("c"), ldc: arg("ldc"), a: GP64(), k: GP64(), acc: zs(mr)}
	if form.super {
		g.halves, g.left = GP64(), GP64()
		SHRQ(Imm(2), g.tile)
	}
	SHLQ(Imm(2), g.ldc)
	return g
}

// panelLoop runs body for every tile of every panel; tiles of a super form
// come in fours behind a line of halves.
func (g *gemm) panelLoop(body func()) {
	Label("panel")
	for _, acc := range g.acc {
		clr(acc)
	}
	MOVQ(g.a0, g.a)
	MOVQ(g.tile, g.k)
	if g.super {
		Label("super")
		g.superLine()
	}
	Label("tile")
	body()
	if g.super {
		DECQ(g.left)
		JNZ(LabelRef("tile"))
		DECQ(g.k)
		JNZ(LabelRef("super"))
	} else {
		DECQ(g.k)
		JNZ(LabelRef("tile"))
	}
	g.store()
	ADDQ(Imm(64), g.c)
	DECQ(g.panels)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	RET()
}

// superLine steps over the line of halves.
func (g *gemm) superLine() {
	MOVQ(g.w, g.halves)
	ADDQ(Imm(64), g.w)
	MOVQ(U32(4), g.left)
	if g.mr <= 8 {
		PREFETCHT0(at(g.w, ahead-64))
	}
}

// store writes the panel's sums.
func (g *gemm) store() {
	row := GP64()
	MOVQ(g.c, row)
	for m, acc := range g.acc {
		VMOVUPS(acc, at(row, 0))
		if m < g.mr-1 {
			ADDQ(g.ldc, row)
		}
	}
}

func gemmTiles(form tileForm, mr int) {
	g := newGemm(form, mr)
	if !g.wide && mr <= 12 {
		g.mask = bcast32(g.maskBits())
	}
	if g.plane {
		g.bit = bcast32(g.planeBit())
	}
	g.panelLoop(func() {
		g.prefetched = 0
		for half := range 2 {
			codes := g.loadCodes(half)
			scale, least := g.loadScales(half)
			for m := 0; m < mr; m += 4 {
				g.fourRows(half, m, min(4, mr-m), codes, scale, least)
			}
		}
		ADDQ(U32(uint32(g.bytes())), g.w)
		ADDQ(U32(uint32(2*mr*actBytes)), g.a)
	})
}

func (g *gemm) maskBits() uint32 {
	if g.mins {
		return 0x0F0F0F0F
	}
	return 0xF0F0F0F0
}

// loadCodes leaves the 8 code vectors of a group in registers: symmetric
// nibbles left-aligned in their bytes, so that every offset is 128.
func (g *gemm) loadCodes(half int) []reg.VecVirtual {
	codes := zs(8)
	for j, z := range codes {
		if g.wide {
			VMOVDQU8(at(g.w, g.header()+64*(8*half+j)), z)
			g.prefetch(128)
			continue
		}
		VMOVDQU8(at(g.w, g.header()+64*j), z)
		if half == 1 && g.mins {
			VPSRLW(Imm(4), z, z)
		}
		if half == 0 && !g.mins {
			VPSLLW(Imm(4), z, z)
		}
		if g.mask != nil {
			VPANDD(g.mask, z, z)
		} else {
			VPANDD_BCST(u32c(g.maskBits()), z, z)
		}
		if g.plane {
			set := K()
			KMOVQ(at(g.w, g.header()+512+8*(8*half+j)), set)
			VPADDB(g.bit, z, set, z)
		}
		g.prefetch(64)
	}
	return codes
}

// prefetch asks for up to n bytes of what the stream reaches soon. Wide
// kernels compute longer than they read and do without.
func (g *gemm) prefetch(n int) {
	for ; g.mr <= 8 && n > 0 && g.prefetched < g.bytes(); n -= 64 {
		PREFETCHT0(at(g.w, ahead+g.prefetched))
		g.prefetched += 64
	}
}

// loadScales leaves the group's 16 scales, and its minima divided by -128
// (they meet the start value -128*sum(a)) if the form has any.
func (g *gemm) loadScales(half int) (scale, least reg.VecVirtual) {
	if g.super {
		scale, least = g.smallScale(16*half, 0), g.smallScale(32+16*half, 32)
		VMULPS_BCST(f32c(1.0/128), least, least) // they are subtracted
		return scale, least
	}
	scale = ZMM()
	VCVTPH2PS(at(g.w, 32*half), scale)
	if g.align != 0 {
		VMULPS_BCST(f32c(g.align), scale, scale)
	}
	if g.mins {
		least = ZMM()
		VCVTPH2PS(at(g.w, 64+32*half), least)
		VMULPS_BCST(f32c(-1.0/128), least, least)
	}
	return scale, least
}

// smallScale is 16 bytes of the tile times 16 halves of the line it shares.
func (g *gemm) smallScale(small, half int) reg.VecVirtual {
	z, t := ZMM(), ZMM()
	VPMOVZXBD(at(g.w, small), z)
	VCVTPH2PS(at(g.halves, half), t)
	VCVTDQ2PS(z, z)
	VMULPS(t, z, z)
	return z
}

// fourRows runs n rows of activations past the codes of a group, interleaved
// to hide the latency, and folds their integer sums into the accumulators.
func (g *gemm) fourRows(half, m0, n int, codes []reg.VecVirtual, scale, least reg.VecVirtual) {
	base := half * g.mr * actBytes
	sums := zs(n)
	for i, t := range sums {
		if g.mins {
			clr(t)
		} else {
			VPBROADCASTD(at(g.a, base+g.mr*group+4*(m0+i)), t)
		}
	}
	for j, w := range codes {
		for i, t := range sums {
			VPDPBUSD_BCST(at(g.a, base+(m0+i)*group+4*j), w, t)
		}
	}
	for _, t := range sums {
		VCVTDQ2PS(t, t)
	}
	for i, t := range sums {
		start := at(g.a, base+g.mr*group+4*(m0+i))
		actScale := at(g.a, base+g.mr*(group+4)+4*(m0+i))
		if g.mins { // acc += actScale * (t*scale + start*least)
			u := ZMM()
			VCVTDQ2PS_BCST(start, u)
			VMULPS(least, u, u)
			VFMADD231PS(t, scale, u)
			VFMADD231PS_BCST(actScale, u, g.acc[m0+i])
		} else { // acc += t*actScale * scale
			VMULPS_BCST(actScale, t, t)
			VFMADD231PS(t, scale, g.acc[m0+i])
		}
	}
}

// gemmDense: weights and activations are f32 with k outermost, 16 and mr wide.
func gemmDense(mr int) {
	const unroll = 4
	g := newGemm(tileForm{name: "F32"}, mr)
	SHLQ(Imm(4), g.tile) // 64 k in steps of unroll
	g.panelLoop(func() {
		for k := range unroll {
			w := ZMM()
			VMOVUPS(at(g.w, 64*k), w)
			for m, acc := range g.acc {
				VFMADD231PS_BCST(at(g.a, 4*(k*mr+m)), w, acc)
			}
		}
		ADDQ(U32(64*unroll), g.w)
		ADDQ(U32(uint32(4*unroll*mr)), g.a)
	})
}
