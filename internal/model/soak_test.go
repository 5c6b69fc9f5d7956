//go:build soak

package model_test

// soak makes the long proofs run in full.
const soak = true
