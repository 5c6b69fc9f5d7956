//go:build amd64 && !noasm

package tensor

import "unsafe"

// plain takes tokens of a block in f32 into one row, whose sums the vector
// kernels keep in 16 lanes.
func (s *vectorRows) plain(i int, b *plainBlock, first, last int) {
	g, r := s.place(i)
	q := unsafe.Slice(g.q(r), vectorDim)
	row := genericRow{max: *g.max(r)}
	scores := b.score(q, first, last)
	alpha := row.softmax(scores)
	*g.max(r) = row.max
	for _, lanes := range [][]float32{unsafe.Slice(g.sum(r), 16), unsafe.Slice(g.mid(r), 16)} {
		for l := range lanes {
			lanes[l] *= alpha
		}
	}
	*g.sum(r) += row.sum
	b.add(unsafe.Slice(g.out(r), vectorDim), alpha, scores, first)
}

// max is the row's largest score so far.
func (g *rowGroups) max(row int) *float32 { return (*float32)(g.at(row, 640*g.size+row%g.size*4)) }
