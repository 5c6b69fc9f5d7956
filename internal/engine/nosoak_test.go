//go:build !soak

package engine

const soak = false
