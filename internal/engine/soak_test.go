//go:build soak

package engine

// soak makes the long proofs run in full.
const soak = true
