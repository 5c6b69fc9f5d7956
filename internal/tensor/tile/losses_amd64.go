//go:build amd64 && !noasm

package tile

import "golang.org/x/sys/cpu"

func losses(x *[GroupLen]float32, t *tries) {
	if !cpu.X86.HasAVX512F {
		plainLosses(x, t)
		return
	}
	lossesAVX512(&x[0], &t.d[0], &t.inv[0], &t.loss[0], scalesTried)
}
