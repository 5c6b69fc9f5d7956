package model

import "math"

// ropeTable holds [positions][HeadDim/2 cosines | HeadDim/2 sines] of rotary
// embeddings (Su et al. 2021, arXiv 2104.09864): pair i turns by
// pos * base^(-2i/HeadDim) / factor[i].
func ropeTable(c Config, positions int) []float32 {
	half := c.HeadDim / 2
	freq := make([]float64, half)
	for i := range freq {
		freq[i] = math.Pow(c.RopeBase, -2*float64(i)/float64(c.HeadDim))
		if c.RopeFactors != nil {
			freq[i] /= float64(c.RopeFactors[i])
		}
	}
	table := make([]float32, positions*c.HeadDim)
	for pos := range positions {
		row := table[pos*c.HeadDim:]
		for i, f := range freq {
			sin, cos := math.Sincos(float64(pos) * f)
			row[i], row[half+i] = float32(cos), float32(sin)
		}
	}
	return table
}
