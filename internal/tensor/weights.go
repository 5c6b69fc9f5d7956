package tensor

import (
	"fmt"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"

	"mneme/internal/quant"
	"mneme/internal/tensor/tile"
)

const (
	panelRows = tile.Rows
	tileK     = tile.Cols
	groupLen  = tile.GroupLen
)

// RowSource gives row i of a matrix in a file's own bytes; nil is a row of
// zeros. Pack calls it from several goroutines.
type RowSource func(i int) (quant.Format, []byte)

// Weights is a packed matrix of N rows and K columns, y = W x.
//   - Its rows lie in panels of 16; a panel has one tile kind.
//   - Neighbouring panels of one kind make a part, one piece of memory.
//   - Padding rows and columns are zero and add exactly nothing.
//   - It does not change once packed; the memory is the taker's.
type Weights struct {
	n, k  int
	parts []part
}

// part is a run of panels of one kind, from panel first on.
type part struct {
	kind         tile.Kind
	first, count int
	data         []byte
}

// N is the number of rows, K of columns.
func (w *Weights) N() int { return w.n }

// K is the number of columns.
func (w *Weights) K() int { return w.k }

// PaddedN is N rounded up to whole panels: the columns that MatMul writes.
func (w *Weights) PaddedN() int { return w.panels() * panelRows }

// SizeBytes is the memory of the packed form.
func (w *Weights) SizeBytes() int {
	sum := 0
	for _, p := range w.parts {
		sum += len(p.data)
	}
	return sum
}

// Row writes row i to dst[:K], dequantised exactly as quant.Dequantize does; of
// Q6_K, which is packed in 8 bits, what that made of it.
func (w *Weights) Row(i int, dst []float32) {
	if i < 0 || i >= w.n || len(dst) < w.k {
		panic(fmt.Sprintf("tensor: row %d of %d into %d of %d floats", i, w.n, len(dst), w.k))
	}
	p := w.run(i/panelRows, i/panelRows+1)
	p.kind.GetRow(p.data, i%panelRows, dst[:w.k])
}

func (w *Weights) panels() int { return (w.n + panelRows - 1) / panelRows }
func (w *Weights) tiles() int  { return (w.k + tileK - 1) / tileK }

// run is the piece of panels from..to that starts at from and lies in one part.
func (w *Weights) run(from, to int) part {
	after := sort.Search(len(w.parts), func(i int) bool { return w.parts[i].first > from })
	p := w.parts[after-1]
	size := p.kind.PanelBytes(w.tiles())
	count := min(to, p.first+p.count) - from
	return part{kind: p.kind, first: from, count: count, data: p.data[(from-p.first)*size:][:count*size]}
}

// Pack repacks n rows of kdim columns into tiles, in memory that take gives
// (at least sizeBytes, aligned to 64; it is called by this goroutine only).
// Several Packs may run at once. Formats may change from one panel of 16 rows
// to the next; a mix inside a panel, an unknown format or a row of the wrong
// size is an error that names it.
func (k *Kernels) Pack(n, kdim int, src RowSource, take func(sizeBytes int) ([]byte, error)) (*Weights, error) {
	w := &Weights{n: n, k: kdim}
	if n <= 0 || kdim <= 0 {
		return nil, fmt.Errorf("tensor: pack of %d x %d weights", n, kdim)
	}
	if err := w.plan(src); err != nil {
		return nil, err
	}
	for i := range w.parts {
		p := &w.parts[i]
		size := p.count * p.kind.PanelBytes(w.tiles())
		data, err := take(size)
		if err != nil {
			return nil, fmt.Errorf("tensor: pack %d x %d weights: %w", n, kdim, err)
		}
		p.data = data[:size]
	}
	w.fill(src)
	return w, nil
}

// plan cuts the panels into parts by their kind.
func (w *Weights) plan(src RowSource) error {
	for p := range w.panels() {
		kind, err := w.panelKind(p, src)
		if err != nil {
			return err
		}
		if last := len(w.parts) - 1; last >= 0 && w.parts[last].kind == kind {
			w.parts[last].count++
		} else {
			w.parts = append(w.parts, part{kind: kind, first: p, count: 1})
		}
	}
	return nil
}

// panelKind checks the rows of a panel; one of zeros only can be any kind.
func (w *Weights) panelKind(p int, src RowSource) (tile.Kind, error) {
	kind, found, seen := tile.Q4, quant.Format(0), false
	for i := p * panelRows; i < min(w.n, (p+1)*panelRows); i++ {
		format, raw := src(i)
		if raw == nil {
			continue
		}
		this, ok := tile.For(format)
		if !ok {
			return 0, fmt.Errorf("tensor: row %d is %s; the kernels take %s", i, format, tile.Formats())
		}
		if want, err := quant.RowBytes(format, w.k); err != nil || want != len(raw) {
			return 0, fmt.Errorf("tensor: row %d has %d bytes for %d columns of %s", i, len(raw), w.k, format)
		}
		if seen && this != kind {
			return 0, fmt.Errorf("tensor: row %d is %s in a panel of %s; formats may change every %d rows", i, format, found, panelRows)
		}
		kind, found, seen = this, format, true
	}
	return kind, nil
}

// fill packs the panels, a few goroutines taking one after the other.
func (w *Weights) fill(src RowSource) {
	const atOnce = 8 // panels
	var next atomic.Int64
	work := func() {
		for {
			from := int(next.Add(atOnce)) - atOnce
			if from >= w.panels() {
				return
			}
			for p := from; p < min(from+atOnce, w.panels()); p++ {
				w.fillPanel(p, src)
			}
		}
	}
	var done sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (w.panels()+atOnce-1)/atOnce) - 1 {
		done.Go(work)
	}
	work()
	done.Wait()
}

func (w *Weights) fillPanel(p int, src RowSource) {
	run := w.run(p, p+1)
	clear(run.data)
	for r := range min(panelRows, w.n-p*panelRows) {
		if format, raw := src(p*panelRows + r); raw != nil {
			run.kind.PutRow(run.data, r, format, raw, w.k)
		}
	}
}
