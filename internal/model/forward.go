package model

import (
	"math"

	"mneme/internal/arena"
	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/team"
	"mneme/internal/tensor"
)

// forward is one worker's part of a step. Phases between barriers, per layer:
//
//	norm, pack | q k v | append, seal | attention | pack | out, |
//	add, norm, pack | gate up | pack | down | add
//
// A phase writes rows or columns that no other worker writes in it; what a row
// gets never depends on which worker computed it or what else is in the batch.
func (r *Runner) forward(w team.Worker) {
	m := r.m
	r.embed(w)
	for i := range m.layers {
		ly := &m.layers[i]
		r.normRows(w, ly.attnNorm, r.acts[actQKV])
		w.Barrier()
		m.kernels.MatMul(r.wide, r.wideLen(), ly.qkv, r.acts[actQKV], w.ID, w.N)
		w.Barrier()
		r.prepare(w, i)
		r.appendKV(i)
		w.Barrier()
		r.attend(w, i)
		w.Barrier()
		r.project(w, r.att, m.qRows(), ly.out, r.acts[actOut], ly.postAttn)
		r.normRows(w, ly.ffNorm, r.acts[actGateUp])
		w.Barrier()
		r.gateUp(w, ly)
		w.Barrier()
		r.project(w, r.hidden, m.FF, ly.down, r.acts[actDown], ly.postFF)
	}
	w.Barrier()
	r.head(w)
}

// The packed inputs of a layer's four projections. Each is set up while no
// worker reads it: qkv's of the next layer once this layer's is done.
const (
	actQKV = iota
	actOut
	actGateUp
	actDown
	actCount
)

// prepare sets up what the phases after this one hand out and pack; it runs
// while only appendKV does.
func (r *Runner) prepare(w team.Worker, i int) {
	if w.ID != 0 {
		return
	}
	ly, n := &r.m.layers[i], len(r.rows)
	r.nextTile.Store(0)
	r.acts[actOut].Begin(n, ly.out)
	r.acts[actGateUp].Begin(n, ly.gateUp)
	r.acts[actDown].Begin(n, ly.down)
	switch {
	case i+1 < len(r.m.layers):
		r.acts[actQKV].Begin(n, r.m.layers[i+1].qkv)
	case len(r.wanted) > 0:
		r.acts[actQKV].Begin(len(r.wanted), r.m.head)
	}
}

// share is a worker's contiguous part of n.
func share(w team.Worker, n int) (lo, hi int) { return n * w.ID / w.N, n * (w.ID + 1) / w.N }

func (r *Runner) embed(w team.Worker) {
	lo, hi := share(w, len(r.rows))
	for i := lo; i < hi; i++ {
		x := r.x[i*r.m.Dim:][:r.m.Dim]
		r.m.embed.row(int(r.rows[i]), x)
		if r.m.family.embedScale {
			scale := float32(math.Sqrt(float64(r.m.Dim)))
			for j := range x {
				x[j] *= scale
			}
		}
	}
}

// normRows norms the worker's rows of the residual stream and packs them.
func (r *Runner) normRows(w team.Worker, norm []float32, act *tensor.Act) {
	lo, hi := share(w, len(r.rows))
	for i := lo; i < hi; i++ {
		r.normRow(w, i, norm, act, i)
	}
}

func (r *Runner) normRow(w team.Worker, from int, norm []float32, act *tensor.Act, to int) {
	dst := r.worker[w.ID].norm
	r.m.kernels.RMSNorm(dst, r.x[from*r.m.Dim:][:r.m.Dim], norm, r.m.NormEps)
	r.m.kernels.SetRow(act, to, dst)
}

// project adds weights * src, normed if there is a norm, to the residual stream.
func (r *Runner) project(w team.Worker, src []float32, width int, weights *tensor.Weights, act *tensor.Act, norm []float32) {
	m := r.m
	lo, hi := share(w, len(r.rows))
	for i := lo; i < hi; i++ {
		m.kernels.SetRow(act, i, src[i*width:][:width])
	}
	w.Barrier()
	m.kernels.MatMul(r.wide, r.wideLen(), weights, act, w.ID, w.N)
	w.Barrier()
	for i := lo; i < hi; i++ {
		sum := r.wide[i*r.wideLen():][:m.Dim]
		if norm != nil {
			m.kernels.RMSNorm(sum, sum, norm, m.NormEps)
		}
		m.kernels.Add(r.x[i*m.Dim:][:m.Dim], sum)
	}
}

// head computes the logits of the wanted rows.
func (r *Runner) head(w team.Worker) {
	lo, hi := share(w, len(r.wanted))
	for i := lo; i < hi; i++ {
		r.normRow(w, r.wanted[i], r.m.norm, r.acts[actQKV], i)
	}
	w.Barrier()
	if len(r.wanted) > 0 {
		r.m.kernels.MatMul(r.logits, r.m.head.PaddedN(), r.m.head, r.acts[actQKV], w.ID, w.N)
	}
}

// gateUp computes the MLP's hidden layer.
func (r *Runner) gateUp(w team.Worker, ly *layer) {
	m := r.m
	if !m.family.gelu {
		m.kernels.GateUp(r.hidden, m.FF, ly.gateUp, r.acts[actGateUp], w.ID, w.N, r.worker[w.ID].tile)
		return
	}
	ld := ly.gateUp.PaddedN()
	m.kernels.MatMul(r.gated, ld, ly.gateUp, r.acts[actGateUp], w.ID, w.N)
	w.Barrier()
	lo, hi := share(w, len(r.rows))
	for i := lo; i < hi; i++ {
		geluRow(r.hidden[i*m.FF:][:m.FF], r.gated[i*ld:][:ld])
	}
}

// geluRow is gelu(gate)*up for a row whose panels alternate gate, up.
func geluRow(dst, gated []float32) {
	for j := range dst {
		at := j/panel*2*panel + j%panel
		dst[j] = gelu(gated[at]) * gated[at+panel]
	}
}

// appendKV rotates keys, writes K and V of every slot's rows and seals the
// blocks they fill. An item is one (slot, KV head): a block has one writer.
func (r *Runner) appendKV(layer int) {
	heads := r.m.KVHeads
	for {
		i := int(r.nextSlot.Add(1)) - 1
		if i >= len(r.slots)*heads {
			return
		}
		r.appendHead(&r.slots[i/heads], layer, i%heads)
	}
}

func (r *Runner) appendHead(s *slot, layer, head int) {
	m, dim, ly := r.m, r.m.HeadDim, &r.m.layers[layer]
	kHalf, vHalf := r.openHalves(s, ly, head)
	kAt, vAt := m.qRows()+head*dim, m.qRows()+m.kvRows()+head*dim
	for i := range s.Len() {
		joint := r.wide[(s.row+i)*r.wideLen():]
		k, v := joint[kAt:][:dim], joint[vAt:][:dim]
		if ly.qkvBias != nil {
			m.kernels.Add(k, ly.qkvBias[kAt:][:dim])
			m.kernels.Add(v, ly.qkvBias[vAt:][:dim])
		}
		if ly.kNorm != nil {
			m.kernels.RMSNorm(k, k, ly.kNorm, m.NormEps)
		}
		pos := s.From + kv.Pos(i)
		m.kernels.Rope(k, 1, dim, r.ropeAt(ly, pos))
		if r.rotateV {
			m.kernels.Hadamard(v, dim)
		}
		m.kernels.AppendKV(kHalf, vHalf, pos.InBlock(), k, v)
	}
	if s.Fills() {
		r.seal(s, ly, head, kHalf, vHalf)
	}
}

// seal stores a filled block's halves of one layer and head.
func (r *Runner) seal(s *slot, ly *layer, head int, kHalf, vHalf []byte) {
	form := r.spec.Format.Form(s.Index)
	kSeal, vSeal := r.pool.Half(s.Seal[ly.group], ly.inGroup, head)
	r.m.kernels.SealHalf(form, kSeal, kHalf, r.m.HeadDim, kv.BlockTokens)
	r.m.kernels.SealHalf(form, vSeal, vHalf, kv.BlockTokens, r.m.HeadDim)
}

func (r *Runner) ropeAt(ly *layer, pos kv.Pos) []float32 {
	table := r.rope
	if ly.local {
		table = r.ropeSW
	}
	return table[int(pos)*r.m.HeadDim:][:r.m.HeadDim]
}

// openHalves is the full-precision memory of the slot's block for one layer
// and head.
func (r *Runner) openHalves(s *slot, ly *layer, head int) (k, v []byte) {
	if s.fresh < 0 {
		return r.pool.Half(s.Open[ly.group], ly.inGroup, head)
	}
	n := r.halfBytes()
	b := r.fresh[(s.fresh*r.m.KVHeads+head)*2*n:]
	return b[:n:n], b[n : 2*n : 2*n]
}

// attend computes attention; an item is one (tile, KV head).
func (r *Runner) attend(w team.Worker, layer int) {
	heads := r.m.KVHeads
	if w.ID == 0 {
		r.nextSlot.Store(0) // for the next layer
	}
	for {
		i := int(r.nextTile.Add(1)) - 1
		if i >= len(r.tiles)*heads {
			return
		}
		r.attendTile(&r.worker[w.ID], r.tiles[i/heads], &r.m.layers[layer], i%heads)
	}
}

// attendTile: earlier sealed blocks in their stored form, the own block in full
// precision up to each row's position, in a local layer from its window on.
func (r *Runner) attendTile(sc *scratch, t tile, ly *layer, head int) {
	m, dim, g := r.m, r.m.HeadDim, r.queryGroup()
	s, a := &r.slots[t.slot], sc.attention
	own := (s.From + kv.Pos(t.from)).InBlock() + 1 // tokens of its block that the tile's first row sees
	a.Begin(t.n * g)
	for i := range t.n {
		for j := range g {
			r.query(sc.q, ly, s.row+t.from+i, s.From+kv.Pos(t.from+i), head*g+j)
			a.Row(i*g+j, sc.q, own+i)
		}
	}
	whole := 0 // the first block that every row behind it in the own block sees whole
	if ly.local {
		whole = r.readWindowEdge(sc, s, t, ly, head, own)
	}
	r.readSealed(a, s, ly, head, whole, s.Index)
	if whole <= s.Index {
		r.readOwn(a, s, t, own, ly, head)
	}
	for i := range t.n {
		out := r.att[(s.row+t.from+i)*m.qRows()+head*g*dim:][:g*dim]
		for j := range g {
			a.End(i*g+j, out[j*dim:][:dim])
		}
		if r.rotateV {
			m.kernels.Hadamard(out, dim) // back from V's rotated basis
		}
	}
}

// query is one row's query of one head, rotated.
func (r *Runner) query(q []float32, ly *layer, row int, pos kv.Pos, head int) {
	m, dim := r.m, r.m.HeadDim
	copy(q, r.wide[row*r.wideLen()+head*dim:][:dim])
	if ly.qkvBias != nil {
		m.kernels.Add(q, ly.qkvBias[head*dim:][:dim])
	}
	if ly.qNorm != nil {
		m.kernels.RMSNorm(q, q, ly.qNorm, m.NormEps)
	}
	m.kernels.Rope(q, 1, dim, r.ropeAt(ly, pos))
}

// readWindowEdge reads the blocks in which the window of some row of the own
// block begins, each row from its first token on, and returns the first block
// behind them. Which blocks these are follows from the own block alone, so a
// row's arithmetic does not depend on the tile it is in.
func (r *Runner) readWindowEdge(sc *scratch, s *slot, t tile, ly *layer, head, own int) (whole int) {
	const B = kv.BlockTokens
	first := s.Index*B - r.m.Window + 1 // seen by the block's first row
	if first+B-1 <= 0 {
		return 0
	}
	whole = (first + B - 1 + B - 1) / B
	for b := max(0, floorDiv(first, B)); b < min(whole, s.Index+1); b++ {
		from := sc.first[:t.n*r.queryGroup()]
		for i := range from {
			from[i] = min(max(first+own-1+i/r.queryGroup()-b*B, 0), B)
		}
		if b == s.Index {
			kHalf, vHalf := r.openHalves(s, ly, head)
			sc.attention.OpenFrom(kHalf, vHalf, own+t.n-1, from)
			break
		}
		form, k, v := r.sealedHalves(s, ly, head, b)
		sc.attention.SealedFrom(form, k, v, from)
	}
	return whole
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

// sealedHalves is a block before the slot, and what follows it in memory.
func (r *Runner) sealedHalves(s *slot, ly *layer, head, b int) (form quant.KVForm, k, v []byte) {
	form = r.spec.Format.Form(b)
	t := &s.tables[ly.group]
	kOff, vOff := r.pool.Offsets(ly.group, form, ly.inGroup, head)
	at := arena.Line * int(t.lines[b-t.from])
	return form, r.pool.Mem()[at+kOff:], r.pool.Mem()[at+vOff:]
}

// readOwn reads the own block: in full precision, by rule 1.
func (r *Runner) readOwn(a *tensor.Attention, s *slot, t tile, own int, ly *layer, head int) {
	if r.sealedOwn && s.Fills() && t.n == 1 && own == kv.BlockTokens {
		id := s.Seal[ly.group]
		k, v := r.pool.Offsets(ly.group, r.pool.FormOf(id), ly.inGroup, head)
		a.Sealed(r.pool.FormOf(id), r.pool.Mem(), k, v, []int32{r.pool.Line(id)})
		return
	}
	kHalf, vHalf := r.openHalves(s, ly, head)
	a.Open(kHalf, vHalf, own+t.n-1)
}

// readSealed reads the sealed blocks [from, to), block 0 in its own form.
func (r *Runner) readSealed(a *tensor.Attention, s *slot, ly *layer, head, from, to int) {
	t := &s.tables[ly.group]
	if from == 0 && to > 0 {
		form := r.spec.Format.Form(0)
		k, v := r.pool.Offsets(ly.group, form, ly.inGroup, head)
		a.Sealed(form, r.pool.Mem(), k, v, t.lines[:1])
		from = 1
	}
	if from < to {
		form := r.spec.Format.Form(1)
		k, v := r.pool.Offsets(ly.group, form, ly.inGroup, head)
		a.Sealed(form, r.pool.Mem(), k, v, t.lines[from-t.from:to-t.from])
	}
}
