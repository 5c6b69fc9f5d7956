//go:build !amd64 || noasm

package tile

func losses(x *[GroupLen]float32, t *tries) { plainLosses(x, t) }
