//go:build amd64 && !noasm

package tensor

import (
	"golang.org/x/sys/cpu"

	"mneme/internal/tensor/tile"
)

// native lists the assembly variants that this processor runs.
func native() []*Kernels {
	if !hasAVX512VNNI() {
		return nil
	}
	return []*Kernels{{name: "avx512vnni", class: "avx512vnni-2", linear: avx512Linear()}}
}

func hasAVX512VNNI() bool {
	x := cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VNNI &&
		x.HasAVX2 && x.HasFMA && x.HasF16C && x.HasBMI2
}

func avx512Linear() linearFuncs {
	return linearFuncs{
		gemm: [tile.Kinds][len(heights)]gemmFunc{
			tile.Q8:    {gemmQ8M1, gemmQ8M2, gemmQ8M3, gemmQ8M4, gemmQ8M8, gemmQ8M12, gemmQ8M16},
			tile.Q4:    {gemmQ4M1, gemmQ4M2, gemmQ4M3, gemmQ4M4, gemmQ4M8, gemmQ4M12, gemmQ4M16},
			tile.Q41:   {gemmQ41M1, gemmQ41M2, gemmQ41M3, gemmQ41M4, gemmQ41M8, gemmQ41M12, gemmQ41M16},
			tile.Q5:    {gemmQ5M1, gemmQ5M2, gemmQ5M3, gemmQ5M4, gemmQ5M8, gemmQ5M12, gemmQ5M16},
			tile.Q51:   {gemmQ51M1, gemmQ51M2, gemmQ51M3, gemmQ51M4, gemmQ51M8, gemmQ51M12, gemmQ51M16},
			tile.Q4K:   {gemmQ4KM1, gemmQ4KM2, gemmQ4KM3, gemmQ4KM4, gemmQ4KM8, gemmQ4KM12, gemmQ4KM16},
			tile.Q5K:   {gemmQ5KM1, gemmQ5KM2, gemmQ5KM3, gemmQ5KM4, gemmQ5KM8, gemmQ5KM12, gemmQ5KM16},
			tile.Dense: {gemmF32M1, gemmF32M2, gemmF32M3, gemmF32M4, gemmF32M8, gemmF32M12, gemmF32M16},
		},
		quantRow:   quantRowAVX512,
		sumSquares: func(x []float32) float32 { return sumSquares16(&x[0], len(x)) },
		scaleMul: func(dst, x, weight []float32, s float32) {
			scaleMul16(&dst[0], &x[0], &weight[0], len(x), s)
		},
		add: func(dst, x []float32) { addTo16(&dst[0], &x[0], len(x)) },
		rope: func(x []float32, heads, headDim int, cs []float32) {
			ropeHeads(&x[0], heads, headDim/2, &cs[0])
		},
		siluTile: func(dst []float32, ld int, tile []float32, rows int) {
			siluTile16(&dst[0], ld, &tile[0], rows)
		},
	}
}

// quantRowAVX512 quantises whole groups in place; a last, short one is
// completed with zeros first.
func quantRowAVX512(x []float32, a []byte, at rowPlace) {
	whole := len(x) / groupLen
	if whole > 0 {
		quantRow(&x[0], whole, &a[at.codes], at.stride, at.start-at.codes, at.scale-at.codes)
	}
	if rest := x[whole*groupLen:]; len(rest) > 0 {
		var last [groupLen]float32
		copy(last[:], rest)
		quantRow(&last[0], 1, &a[at.codes+whole*at.stride], at.stride, at.start-at.codes, at.scale-at.codes)
	}
}
