package tensor

import (
	"fmt"
	"unsafe"

	"mneme/internal/tensor/tile"
)

// panelsPerCall bounds how long a kernel, which cannot be interrupted, runs.
const panelsPerCall = 64

// MatMul is dst[row*ld + n] = sum over k of W[n][k] * a[row][k], for the share
// of W's panels that is worker part's of parts. It may write the rows up to
// a.PaddedRows() and the columns up to w.PaddedN(); no worker writes another's.
func (k *Kernels) MatMul(dst []float32, ld int, w *Weights, a *Act, part, parts int) {
	a.check(w, len(dst), ld, w.PaddedN())
	step := panelsPerCall
	if a.panels() > 1 {
		step = 1 // a weight panel meets all rows while it is in the nearest cache
	}
	from, to := share(w.panels(), part, parts)
	for p := from; p < to; {
		run := w.run(p, min(to, p+step))
		for panel := range a.panels() {
			k.gemm(dst[panel*a.mr()*ld+p*panelRows:], ld, run, a, panel)
		}
		p += run.count
	}
}

// GateUp is dst = silu(gate) * up for weights whose panels alternate between
// 16 rows of gate and 16 of up, so dst has w.PaddedN()/2 columns. scratch is
// the worker's, 16 rows of 32.
func (k *Kernels) GateUp(dst []float32, ld int, w *Weights, a *Act, part, parts int, scratch []float32) {
	if w.panels()%2 != 0 || len(scratch) < a.mr()*2*panelRows {
		panic(fmt.Sprintf("tensor: gate and up in %d panels, scratch of %d floats", w.panels(), len(scratch)))
	}
	a.check(w, len(dst), ld, w.PaddedN()/2)
	from, to := share(w.panels()/2, part, parts)
	for pair := from; pair < to; pair++ {
		gate := w.run(2*pair, 2*pair+2)
		for panel := range a.panels() {
			k.gemm(scratch, 2*panelRows, gate, a, panel)
			if gate.count == 1 {
				k.gemm(scratch[panelRows:], 2*panelRows, w.run(2*pair+1, 2*pair+2), a, panel)
			}
			k.linear.siluTile(dst[panel*a.mr()*ld+pair*panelRows:], ld, scratch, a.mr())
		}
	}
}

// gemm multiplies a run of weight panels with one activation panel.
func (k *Kernels) gemm(dst []float32, ld int, run part, a *Act, panel int) {
	rows := unsafe.Pointer(&a.codes[panel*a.panelSize()])
	if run.kind == tile.Dense {
		rows = unsafe.Pointer(&a.densePanel(panel * a.mr())[0])
	}
	k.linear.gemm[run.kind][a.height](&run.data[0], run.count, (*byte)(rows), a.paddedK()/tileK, &dst[0], ld)
}

// check panics unless a holds what w is multiplied with and dst, of size
// floats, takes a's rows of columns each.
func (a *Act) check(w *Weights, size, ld, columns int) {
	for _, p := range w.parts {
		if dense := p.kind == tile.Dense; dense && !a.floated || !dense && !a.int8ed {
			panic("tensor: activations were not begun for these weights")
		}
	}
	if w.k != a.k || ld < columns || size < (a.PaddedRows()-1)*ld+columns {
		panic(fmt.Sprintf("tensor: K %d of weights, %d of activations; %d rows of %d (ld %d) into %d floats",
			w.k, a.k, a.PaddedRows(), columns, ld, size))
	}
}
