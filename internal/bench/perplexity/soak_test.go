//go:build soak

package perplexity

// soak makes the long proofs run in full.
const soak = true
