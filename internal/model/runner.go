package model

import (
	"fmt"
	"sync/atomic"

	"mneme/internal/arena"
	"mneme/internal/kv"
	"mneme/internal/team"
	"mneme/internal/tensor"
	"mneme/internal/token"
)

// Span is a batch's part of one sequence: the next tokens, the slots their KV
// goes to, and how many of the last rows' logits are wanted.
type Span struct {
	Tokens []token.ID
	KV     *kv.Growing
	Slots  []kv.Slot // KV.Plan(len(Tokens)), made just before
	Logits int       // of the last rows: 0, 1, or more
}

// Runner runs batches of one model over one pool. One goroutine uses it at a
// time. All scratch is taken when it is made: a step allocates nothing.
type Runner struct {
	m         *Model
	pool      *kv.Pool
	team      *team.Team
	spec      kv.Spec
	rotateV   bool
	maxRows   int
	sealedOwn bool // Limits.SealedOwn
	memory    arena.Bump

	x      []float32 // [rows, Dim] residual stream
	wide   []float32 // [rows, max(q+2kv, Dim)] joint projection, then the layer's output
	att    []float32 // [rows, q rows]
	hidden []float32 // [rows, FF]
	logits []float32 // [wanted rows, vocab padded]
	gated  []float32 // [rows, 2*FF] gate and up, where their product is not fused
	rope   []float32 // [context, HeadDim]
	ropeSW []float32 // the same for local layers, or nil
	acts   [actCount]*tensor.Act
	fresh  []byte // full-precision blocks that begin and end within a step, one layer
	worker []scratch

	rows   []token.ID
	slots  []slot
	tiles  []tile
	wanted []int // rows whose logits are asked for
	out    [][]float32
	run    func(team.Worker)

	nextSlot atomic.Int64 // items of appendKV handed out
	nextTile atomic.Int64 // items of attend handed out
}

// scratch is one worker's own memory.
type scratch struct {
	norm      []float32 // [max(Dim)]
	tile      []float32
	q         []float32 // [HeadDim]
	first     []int     // [tile rows] first token seen of a block
	attention *tensor.Attention
}

// slot is a kv.Slot with what the layers need of it.
type slot struct {
	kv.Slot
	row    int          // of its first position
	fresh  int          // index of its scratch block, or -1
	tables []blockTable // [group]: the sealed blocks before it
}

// blockTable holds where sealed blocks lie: lines[i] is block from+i's.
type blockTable struct {
	from  int
	lines []int32
}

// tile is a piece of a slot's rows whose attention one worker computes at once.
type tile struct{ slot, from, n int }

// Limits bound a Runner's scratch.
type Limits struct {
	Rows    int // positions in a step
	Logits  int // rows whose logits a step may want
	Context int // positions of a sequence
	// SealedOwn makes the last row of a block that decodes read its own block in
	// stored form. It breaks rule 1 and exists to show that tests would see it.
	SealedOwn bool
}

// tileRows is the number of query rows in an attention tile: a multiple of 4,
// large enough to amortise reading a block (measured, docs/PERFORMANCE.md).
const tileRows = 48

// NewRunner takes all scratch for steps within the limits.
func (m *Model) NewRunner(pool *kv.Pool, team *team.Team, lim Limits) (*Runner, error) {
	r := &Runner{m: m, pool: pool, team: team, spec: pool.Spec(), maxRows: lim.Rows, sealedOwn: lim.SealedOwn}
	r.rotateV = r.spec.Format.RotatesV() && m.HeadDim&(m.HeadDim-1) == 0
	r.rope = ropeTable(m.HeadDim, lim.Context, m.RopeBase, m.RopeFactors)
	if m.Window > 0 {
		r.ropeSW = ropeTable(m.HeadDim, lim.Context, m.RopeBaseLocal, nil)
	}
	if err := r.takeScratch(lim, team.Size()); err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("model: scratch: %w", err)
	}
	r.run = r.forward
	return r, nil
}

// Close gives the scratch back.
func (r *Runner) Close() error { return r.memory.Free() }

func (r *Runner) takeScratch(lim Limits, workers int) error {
	m := r.m
	rows := lim.Rows + panel // kernels may write whole panels
	var err error
	floats := func(n int) []float32 {
		b, e := r.memory.Take(4 * max(n, 1))
		if e != nil {
			err = e
			return nil
		}
		return arena.Floats(b)[:n]
	}
	r.x = floats(rows * m.Dim)
	r.wide = floats(rows * r.wideLen())
	r.att = floats(rows * m.qRows())
	r.hidden = floats(rows * m.FF)
	if m.family.gelu {
		r.gated = floats(rows * m.layers[0].gateUp.PaddedN())
	}
	r.logits = floats((lim.Logits + panel) * m.head.PaddedN())
	for range workers {
		r.worker = append(r.worker, scratch{
			norm: floats(m.Dim), tile: floats(panel * 2 * panel), q: floats(m.HeadDim),
			first:     make([]int, r.rowsPerTile()),
			attention: m.kernels.NewAttention(m.HeadDim, r.rowsPerTile(), 0),
		})
	}
	if err != nil {
		return err
	}
	for i, width := range [actCount]int{m.Dim, m.qRows(), m.Dim, m.FF} {
		if r.acts[i], err = tensor.NewAct(rows, width, r.memory.Take); err != nil {
			return err
		}
	}
	r.fresh, err = r.memory.Take((lim.Rows/kv.BlockTokens + 1) * m.KVHeads * 2 * r.halfBytes())
	return err
}

func (r *Runner) wideLen() int { return max(r.m.layers[0].qkv.PaddedN(), r.m.layers[0].out.PaddedN()) }

// halfBytes is the size of a full-precision half block.
func (r *Runner) halfBytes() int { return r.spec.Format.Open().HalfBytes(r.m.HeadDim, kv.BlockTokens) }

// queryGroup is the number of query heads that share a KV head.
func (r *Runner) queryGroup() int { return r.m.Heads / r.m.KVHeads }

func (r *Runner) rowsPerTile() int {
	return max(1, tileRows/r.queryGroup()) * r.queryGroup()
}

// Run computes a batch: it fills every span's slots and returns the wanted
// logits, [vocab] per row, in the order of the spans. They are valid until the
// next Run. The spans' tables do not change; the caller commits.
func (r *Runner) Run(spans []Span) [][]float32 {
	r.layOut(spans)
	r.nextSlot.Store(0)
	r.acts[actQKV].Begin(len(r.rows), r.m.layers[0].qkv)
	r.team.Run(r.run)
	r.out = r.out[:0]
	for i := range r.wanted {
		r.out = append(r.out, r.logits[i*r.m.head.PaddedN():][:r.m.Vocab])
	}
	return r.out
}

// layOut turns spans into rows, slots and tiles.
func (r *Runner) layOut(spans []Span) {
	r.rows, r.slots, r.tiles, r.wanted = r.rows[:0], r.slots[:0], r.tiles[:0], r.wanted[:0]
	fresh := 0
	for i := range spans {
		s := &spans[i]
		first := len(r.rows)
		r.rows = append(r.rows, s.Tokens...)
		for j := range s.Slots {
			fresh = r.addSlot(s, j, first, fresh)
		}
		for j := len(r.rows) - s.Logits; j < len(r.rows); j++ {
			r.wanted = append(r.wanted, j)
		}
	}
	if len(r.rows) > r.maxRows {
		panic(fmt.Sprintf("model: batch of %d rows, scratch for %d", len(r.rows), r.maxRows))
	}
}

func (r *Runner) addSlot(s *Span, j, first, fresh int) int {
	n := len(r.slots)
	if n < cap(r.slots) {
		r.slots = r.slots[:n+1]
	} else {
		r.slots = append(r.slots, slot{})
	}
	sl := &r.slots[n]
	sl.Slot, sl.row, sl.fresh = s.Slots[j], first+int(s.Slots[j].From)-s.KV.Len(), -1
	if sl.Open[0] == kv.NoBlock {
		sl.fresh = fresh
		fresh++
	}
	r.readTables(sl, s, j)
	for t, step := 0, r.rowsPerTile()/r.queryGroup(); t < sl.Len(); t += step {
		r.tiles = append(r.tiles, tile{n, t, min(step, sl.Len()-t)})
	}
	return fresh
}

// readTables lists the sealed blocks before the slot: the table's, and those
// that earlier slots of the span seal in this step.
func (r *Runner) readTables(sl *slot, s *Span, j int) {
	if sl.tables == nil {
		sl.tables = make([]blockTable, len(r.spec.Groups))
	}
	for g := range sl.tables {
		t := &sl.tables[g]
		first, later := s.KV.Lines(g)
		t.from = s.KV.FirstHeld(g)
		t.lines = append(append(t.lines[:0], first...), later...)
		for i := range j {
			t.lines = append(t.lines, r.pool.Line(s.Slots[i].Seal[g]))
		}
	}
}
