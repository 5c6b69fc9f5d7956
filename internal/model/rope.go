package model

import "math"

// ropeTable holds [positions][HeadDim/2 cosines | HeadDim/2 sines] of rotary
// embeddings (Su et al. 2021, arXiv 2104.09864): pair i turns by
// pos * base^(-2i/HeadDim) / factor[i].
func ropeTable(headDim, positions int, base float64, factors []float32) []float32 {
	half := headDim / 2
	freq := make([]float64, half)
	for i := range freq {
		freq[i] = math.Pow(base, -2*float64(i)/float64(headDim))
		if factors != nil {
			freq[i] /= float64(factors[i])
		}
	}
	table := make([]float32, positions*headDim)
	for pos := range positions {
		row := table[pos*headDim:]
		for i, f := range freq {
			sin, cos := math.Sincos(float64(pos) * f)
			row[i], row[half+i] = float32(cos), float32(sin)
		}
	}
	return table
}
