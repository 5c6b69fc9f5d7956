package tensor

import (
	"encoding/binary"
	"fmt"
	"math"

	"mneme/internal/arena"
	"mneme/internal/tensor/tile"
)

// heights are the activation rows that kernels exist for. More rows than the
// last go in several panels of that many.
var heights = [...]int{1, 2, 3, 4, 8, 12, 16}

const (
	maxHeight   = 16
	actRowGroup = groupLen + 8 // bytes of one row and group
)

// heightFor is the index of the lowest panel that takes rows at once.
func heightFor(rows int) int {
	for i, h := range heights {
		if rows <= h {
			return i
		}
	}
	return len(heights) - 1
}

// Act holds the rows that weights are multiplied with, in panels of MR rows:
//
//	int8 panel, per group of 32 k:  MR x 32 int8 | MR x int32, -128*sum | MR x f32 scale
//	dense panel, per k:             MR x f32
//
// Both are there only if Begin was given weights that need them. One
// goroutine calls Begin; then several may set different rows; then several
// may multiply. The order between those is the caller's.
type Act struct {
	maxRows, maxK int
	codes         []byte
	dense         []float32

	rows, k         int
	height          int // index into heights
	int8ed, floated bool
}

// NewAct takes memory for maxRows rows of maxK columns.
func NewAct(maxRows, maxK int, take func(sizeBytes int) ([]byte, error)) (*Act, error) {
	if maxRows <= 0 || maxK <= 0 {
		return nil, fmt.Errorf("tensor: activations of %d x %d", maxRows, maxK)
	}
	rows, k := roundUp(maxRows, maxHeight), roundUp(maxK, tileK)
	codes, err := take(rows * k / groupLen * actRowGroup)
	if err != nil {
		return nil, fmt.Errorf("tensor: activations of %d x %d: %w", maxRows, maxK, err)
	}
	dense, err := take(4 * rows * k)
	if err != nil {
		return nil, fmt.Errorf("tensor: activations of %d x %d: %w", maxRows, maxK, err)
	}
	return &Act{maxRows: maxRows, maxK: maxK, codes: codes, dense: arena.Floats(dense)[:rows*k]}, nil
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// Begin readies the panels for rows that all of ws, of one K, can be
// multiplied with; the rows' contents are undefined until set.
func (a *Act) Begin(rows int, ws ...*Weights) {
	if rows <= 0 || rows > a.maxRows || len(ws) == 0 || ws[0].k > a.maxK {
		panic(fmt.Sprintf("tensor: begin of %d rows for %d weights, room for %d x %d", rows, len(ws), a.maxRows, a.maxK))
	}
	int8ed, floated := false, false
	for _, w := range ws {
		if w.k != ws[0].k {
			panic(fmt.Sprintf("tensor: activations for K %d and %d", ws[0].k, w.k))
		}
		for _, p := range w.parts {
			int8ed = int8ed || p.kind != tile.Dense
			floated = floated || p.kind == tile.Dense
		}
	}
	a.rows, a.k, a.height, a.int8ed, a.floated = rows, ws[0].k, heightFor(rows), int8ed, floated
	for row := rows; row < a.PaddedRows(); row++ {
		a.blank(row)
	}
}

// Rows is the number of rows of the last Begin.
func (a *Act) Rows() int { return a.rows }

// PaddedRows is the number of rows that MatMul writes.
func (a *Act) PaddedRows() int { return roundUp(a.rows, a.mr()) }

func (a *Act) mr() int        { return heights[a.height] }
func (a *Act) panels() int    { return a.PaddedRows() / a.mr() }
func (a *Act) paddedK() int   { return roundUp(a.k, tileK) }
func (a *Act) panelSize() int { return a.paddedK() / groupLen * a.mr() * actRowGroup }

// rowPlace is where a row's numbers of group 0 lie in its panel; group g is
// stride*g further on.
type rowPlace struct{ codes, start, scale, stride int }

func (a *Act) place(row int) (panel []byte, at rowPlace) {
	mr, m := a.mr(), row%a.mr()
	panel = a.codes[row/mr*a.panelSize():][:a.panelSize()]
	return panel, rowPlace{codes: m * groupLen, start: mr*groupLen + 4*m, scale: mr*(groupLen+4) + 4*m, stride: mr * actRowGroup}
}

// densePanel is the panel of a row, from the row's first float on.
func (a *Act) densePanel(row int) []float32 {
	size := a.paddedK() * a.mr()
	return a.dense[row/a.mr()*size:][row%a.mr() : size]
}

// blank makes a padding row harmless: what it holds is multiplied by zero.
func (a *Act) blank(row int) {
	if a.int8ed {
		panel, at := a.place(row)
		a.blankGroups(panel, at, 0)
	}
	if a.floated {
		a.setDense(row, nil)
	}
}

func (a *Act) blankGroups(panel []byte, at rowPlace, from int) {
	for g := from; g < a.paddedK()/groupLen; g++ {
		p := panel[g*at.stride:]
		binary.LittleEndian.PutUint32(p[at.start:], 0)
		binary.LittleEndian.PutUint32(p[at.scale:], math.Float32bits(0))
	}
}

func (a *Act) setDense(row int, x []float32) {
	panel, mr := a.densePanel(row), a.mr()
	for i, v := range x {
		panel[i*mr] = v
	}
	for i := len(x); i < a.paddedK(); i++ {
		panel[i*mr] = 0
	}
}

// SetRow sets a row from x[:K]: to int8 per group of 32 with scale max|x|/127,
// and as it is if there are dense weights. Rows may be set concurrently.
func (k *Kernels) SetRow(a *Act, row int, x []float32) {
	if row < 0 || row >= a.rows || len(x) != a.k {
		panic(fmt.Sprintf("tensor: set row %d of %d from %d of %d floats", row, a.rows, len(x), a.k))
	}
	if a.int8ed {
		panel, at := a.place(row)
		k.linear.quantRow(x, panel, at)
		a.blankGroups(panel, at, (a.k+groupLen-1)/groupLen)
	}
	if a.floated {
		a.setDense(row, x)
	}
}
