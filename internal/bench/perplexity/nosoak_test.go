//go:build !soak

package perplexity

const soak = false
