package tensor

import (
	"encoding/binary"
	"math"
	"unsafe"

	"mneme/internal/tensor/tile"
)

// The portable kernels: same tiles, same panels, same order of sums as the
// others. Every product is rounded before it is added, on every machine.

func genericLinear() linearFuncs {
	f := linearFuncs{
		quantRow:   genericQuantRow,
		sumSquares: genericSumSquares,
		scaleMul:   genericScaleMul,
		add:        genericAdd,
		rope:       genericRope,
		siluTile:   genericSiluTile,
	}
	for kind := range tile.Kinds {
		for i, mr := range heights {
			f.gemm[kind][i] = genericGemm(kind, mr)
		}
	}
	return f
}

// genericGemm gives the pointers of a gemmFunc their lengths back.
func genericGemm(kind tile.Kind, mr int) gemmFunc {
	return func(w *byte, panels int, a *byte, tiles int, c *float32, ldc int) {
		size := kind.PanelBytes(tiles)
		weights := unsafe.Slice(w, panels*size)
		out := unsafe.Slice(c, (mr-1)*ldc+panels*panelRows)
		for p := range panels {
			var acc panelSums
			if kind == tile.Dense {
				rows := unsafe.Slice((*float32)(unsafe.Pointer(a)), tiles*tileK*mr)
				acc.dense(weights[p*size:][:size], rows, mr)
			} else {
				acc.quantised(kind, weights[p*size:][:size], unsafe.Slice(a, tiles*2*mr*actRowGroup), mr)
			}
			for m := range mr {
				copy(out[m*ldc+p*panelRows:][:panelRows], acc[m][:])
			}
		}
	}
}

// panelSums are the results of one weight panel: [activation row][weight row].
type panelSums [maxHeight][panelRows]float32

func (s *panelSums) dense(w []byte, rows []float32, mr int) {
	for k := range len(w) / 64 {
		var column [panelRows]float32
		for r := range column {
			column[r] = math.Float32frombits(binary.LittleEndian.Uint32(w[64*k+4*r:]))
		}
		for m, x := range rows[k*mr:][:mr] {
			for r, v := range column {
				s[m][r] += float32(v * x)
			}
		}
	}
}

func (s *panelSums) quantised(kind tile.Kind, w, rows []byte, mr int) {
	var codes [panelRows][groupLen]int32
	var scales groupScales
	var x actGroup
	for g := range len(rows) / (mr * actRowGroup) {
		t, half := kind.At(w, g/2), g%2
		t.Codes(half, &codes)
		scales.load(kind, t, half)
		for m := range mr {
			x.load(rows[g*mr*actRowGroup:], mr, m)
			for r := range codes {
				s[m][r] = scales.fold(s[m][r], r, x.dot(&codes[r]), &x)
			}
		}
	}
}

// actGroup is one group of one activation row.
type actGroup struct {
	codes [groupLen]int32
	start int32 // -128 times their sum
	scale float32
}

// load reads row m of the group that panel begins with.
func (x *actGroup) load(panel []byte, mr, m int) {
	x.start = int32(binary.LittleEndian.Uint32(panel[mr*groupLen+4*m:]))
	x.scale = math.Float32frombits(binary.LittleEndian.Uint32(panel[mr*(groupLen+4)+4*m:]))
	for i, c := range panel[m*groupLen:][:groupLen] {
		x.codes[i] = int32(int8(c))
	}
}

func (x *actGroup) dot(codes *[groupLen]int32) int32 {
	var a, b, c, d int32
	for i := 0; i < groupLen; i += 4 {
		a += codes[i] * x.codes[i]
		b += codes[i+1] * x.codes[i+1]
		c += codes[i+2] * x.codes[i+2]
		d += codes[i+3] * x.codes[i+3]
	}
	return a + b + c + d
}

// groupScales are the factors of the 16 weight rows in one group, as the
// kernels use them.
type groupScales struct {
	mins  bool
	align int32 // symmetric codes are read times this, so that their offset is 128
	scale [panelRows]float32
	least [panelRows]float32
}

func (g *groupScales) load(kind tile.Kind, t tile.Tile, half int) {
	g.mins, g.align = kind.HasMinima(), 1
	if !g.mins {
		g.align = 128 / kind.Offset()
	}
	for r := range g.scale {
		g.scale[r] = t.Scale(r, half) * (1 / float32(g.align))
		g.least[r] = t.Least(r, half) * (-1.0 / 128)
	}
}

// fold adds the group's share of a sum: dot is of unsigned codes.
func (g *groupScales) fold(sum float32, r int, dot int32, x *actGroup) float32 {
	if g.mins {
		u := float32(float32(x.start) * g.least[r])
		u += float32(float32(dot) * g.scale[r])
		return sum + float32(u*x.scale)
	}
	t := float32(float32(dot*g.align+x.start) * x.scale)
	return sum + float32(t*g.scale[r])
}

func genericQuantRow(x []float32, a []byte, at rowPlace) {
	for ; len(x) > 0; x = x[min(groupLen, len(x)):] {
		var last [groupLen]float32
		copy(last[:], x)
		quantGroup(&last, a, at)
		if len(x) > groupLen {
			a = a[at.stride:]
		}
	}
}

func quantGroup(x *[groupLen]float32, a []byte, at rowPlace) {
	most := float32(1e-20)
	for _, v := range x {
		most = max(most, v, -v)
	}
	inverse, sum := 127/most, int32(0)
	for i, v := range x {
		c := int32(math.RoundToEven(float64(v * inverse)))
		a[at.codes+i] = byte(c)
		sum += c
	}
	binary.LittleEndian.PutUint32(a[at.start:], uint32(-128*sum))
	binary.LittleEndian.PutUint32(a[at.scale:], math.Float32bits(most*(1.0/127)))
}

// genericSumSquares sums in 16 lanes and folds them as a 512-bit register is
// folded: halves, quarters, pairs.
func genericSumSquares(x []float32) float32 {
	var lane [16]float32
	for i, v := range x {
		lane[i%16] += float32(v * v)
	}
	for i := range 8 {
		lane[i] += lane[i+8]
	}
	for i := range 4 {
		lane[i] += lane[i+4]
	}
	return (lane[0] + lane[1]) + (lane[2] + lane[3])
}

func genericScaleMul(dst, x, weight []float32, s float32) {
	for i, v := range x {
		dst[i] = float32(v*s) * weight[i]
	}
}

func genericAdd(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

func genericRope(x []float32, heads, headDim int, cs []float32) {
	half := headDim / 2
	for h := range heads {
		head := x[h*headDim:][:headDim]
		for i := range half {
			a, b, cos, sin := head[i], head[half+i], cs[i], cs[half+i]
			head[i] = float32(a*cos) - float32(b*sin)
			head[half+i] = float32(b*cos) + float32(a*sin)
		}
	}
}

func genericSiluTile(dst []float32, ld int, sums []float32, rows int) {
	for m := range rows {
		row := sums[m*2*panelRows:]
		for i, gate := range row[:panelRows] {
			e := float32(math.Exp(-float64(gate)))
			dst[m*ld+i] = float32(gate*row[panelRows+i]) / (1 + e)
		}
	}
}
