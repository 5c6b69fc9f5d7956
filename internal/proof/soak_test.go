//go:build soak

package proof

// share is what part of a long proof runs: one of so many tries.
const share = 1
