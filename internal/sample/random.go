package sample

// uniform returns the random number of a position under a seed, in [0, 1). It
// is SplitMix64 with the seed mixed into its state, read at step pos; nothing
// depends on which positions were read before.
func uniform(seed uint64, pos int) float64 {
	const step = 0x9E3779B97F4A7C15
	x := mix(mix(seed+step) + (uint64(pos)+1)*step)
	return float64(x>>11) / (1 << 53)
}

// mix is the output function of SplitMix64: a bijection that spreads every bit.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
