//go:build !noasm

package team

// pause tells the core that this is a spin loop.
func pause()
