//go:build !soak

package cli

// proofShare is what part of a long proof runs: one of so many tries.
const proofShare = 10
