//go:build !soak && !race

package proof

// share is what part of a long proof runs: one of so many tries.
const share = 10
