//go:build amd64 && !noasm

package tensor

import "unsafe"

// plain takes tokens of a block in f32 into one row, whose sums the vector
// kernels keep in 16 lanes.
func (s *vectorRows) plain(i int, b *plainBlock, first, last int) {
	g, r := s.place(i)
	most := (*float32)(g.at(r, g.limits+r%g.size*4))
	row := genericRow{max: *most}
	g.copyFloats(b.q, r, g.q, false)
	scores := b.score(b.q, first, last)
	alpha := row.softmax(scores)
	*most = row.max
	sum, mid := g.float(r, g.sum, 64), g.float(r, g.mid, 64)
	for _, lanes := range [][]float32{unsafe.Slice(sum, 16), unsafe.Slice(mid, 16)} {
		for l := range lanes {
			lanes[l] *= alpha
		}
	}
	*sum += row.sum
	g.copyFloats(b.out, r, g.out, false)
	b.add(b.out, alpha, scores, first)
	g.copyFloats(b.out, r, g.out, true)
}

// copyFloats copies a row of what begins at off to floats [dim], or back.
func (g *rowGroups) copyFloats(floats []float32, row, off int, back bool) {
	for v := range g.dim / 16 {
		stored := unsafe.Slice(g.float(row, off+v*g.vecBytes, g.rowBytes), 16)
		if back {
			copy(stored, floats[16*v:])
		} else {
			copy(floats[16*v:], stored)
		}
	}
}
