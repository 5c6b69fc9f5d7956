package model

import (
	"mneme/internal/kv"
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
		r.project(w, r.att, m.qRows(), ly.out, r.acts[actOut])
		r.normRows(w, ly.ffNorm, r.acts[actGateUp])
		w.Barrier()
		m.kernels.GateUp(r.hidden, m.FF, ly.gateUp, r.acts[actGateUp], w.ID, w.N, r.worker[w.ID].tile)
		w.Barrier()
		r.project(w, r.hidden, m.FF, ly.down, r.acts[actDown])
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
		r.m.embed.row(int(r.rows[i]), r.x[i*r.m.Dim:][:r.m.Dim])
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

// project adds weights * src to the residual stream.
func (r *Runner) project(w team.Worker, src []float32, width int, weights *tensor.Weights, act *tensor.Act) {
	m := r.m
	lo, hi := share(w, len(r.rows))
	for i := lo; i < hi; i++ {
		m.kernels.SetRow(act, i, src[i*width:][:width])
	}
	w.Barrier()
	m.kernels.MatMul(r.wide, r.wideLen(), weights, act, w.ID, w.N)
	w.Barrier()
	for i := lo; i < hi; i++ {
		m.kernels.Add(r.x[i*m.Dim:][:m.Dim], r.wide[i*r.wideLen():][:m.Dim])
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
	m, dim := r.m, r.m.HeadDim
	kHalf, vHalf := r.openHalves(s, layer, head)
	for i := range s.Len() {
		joint := r.wide[(s.row+i)*r.wideLen():]
		k := joint[m.qRows()+head*dim:][:dim]
		v := joint[m.qRows()+m.kvRows()+head*dim:][:dim]
		m.kernels.Rope(k, 1, dim, r.ropeAt(s.From+kv.Pos(i)))
		if r.rotateV {
			m.kernels.Hadamard(v, dim)
		}
		m.kernels.AppendKV(kHalf, vHalf, (s.From + kv.Pos(i)).InBlock(), k, v)
	}
	if s.Fills() {
		form := r.spec.Format.Form(s.Index)
		kSeal, vSeal := r.pool.Half(s.Seal[0], layer, head)
		m.kernels.SealHalf(form, kSeal, kHalf, dim, kv.BlockTokens)
		m.kernels.SealHalf(form, vSeal, vHalf, kv.BlockTokens, dim)
	}
}

func (r *Runner) ropeAt(pos kv.Pos) []float32 { return r.rope[int(pos)*r.m.HeadDim:][:r.m.HeadDim] }

// openHalves is the full-precision memory of the slot's block for one layer
// and head.
func (r *Runner) openHalves(s *slot, layer, head int) (k, v []byte) {
	if s.fresh < 0 {
		return r.pool.Half(s.Open[0], layer, head)
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
		r.attendTile(&r.worker[w.ID], r.tiles[i/heads], layer, i%heads)
	}
}

// attendTile: earlier sealed blocks in their stored form, the own block in full
// precision up to each row's position.
func (r *Runner) attendTile(sc *scratch, t tile, layer, head int) {
	m, dim, g := r.m, r.m.HeadDim, r.queryGroup()
	s, a := &r.slots[t.slot], sc.attention
	own := (s.From + kv.Pos(t.from)).InBlock() + 1 // tokens of its block that the tile's first row sees
	a.Begin(t.n * g)
	for i := range t.n {
		for j := range g {
			copy(sc.q, r.wide[(s.row+t.from+i)*r.wideLen()+(head*g+j)*dim:][:dim])
			m.kernels.Rope(sc.q, 1, dim, r.ropeAt(s.From+kv.Pos(t.from+i)))
			a.Row(i*g+j, sc.q, own+i)
		}
	}
	for _, table := range s.tables[0] {
		r.readSealed(a, table, layer, head)
	}
	r.readOwn(a, s, t, own, layer, head)
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

// readOwn reads the own block: in full precision, by rule 1.
func (r *Runner) readOwn(a *tensor.Attention, s *slot, t tile, own, layer, head int) {
	if r.sealedOwn && s.Fills() && t.n == 1 && own == kv.BlockTokens {
		r.readSealed(a, blockTable{r.pool.FormOf(s.Seal[0]), []int32{r.pool.Line(s.Seal[0])}}, layer, head)
		return
	}
	kHalf, vHalf := r.openHalves(s, layer, head)
	a.Open(kHalf, vHalf, own+t.n-1)
}

func (r *Runner) readSealed(a *tensor.Attention, t blockTable, layer, head int) {
	if len(t.lines) == 0 {
		return
	}
	k, v := r.pool.Offsets(0, t.form, layer, head)
	a.Sealed(t.form, r.pool.Mem(), k, v, t.lines)
}
