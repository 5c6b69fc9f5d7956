//go:build !amd64 || noasm

package tensor

// native: without assembly only generic runs.
func native() []*Kernels { return nil }
