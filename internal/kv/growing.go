package kv

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"mneme/internal/token"
)

// Growing is the table of a running turn.
//   - One goroutine uses it at a time; it owns its references and its stock of
//     reserved blocks until Freeze or Drop.
//   - Its tokens are those with KV; a step plans slots for the next ones, the
//     model fills them, Commit makes them part of the table.
//   - Nothing it does changes bytes that another table can see.
type Growing struct {
	pool   *Pool
	spec   Spec
	scope  Scope
	tokens []token.ID
	keys   []Key
	stock  *Reservation
	groups []growGroup
	slots  []Slot // of the step being planned; reused
	fresh  []int  // what Commit returns; reused
}

// growGroup is one layer group's part of the table.
type growGroup struct {
	sealed []BlockID // NoBlock before from
	lines  []int32   // of the sealed blocks, for the kernels
	from   int       // the first block that is still held; 0 without a window
	open   BlockID   // the block that holds the tokens behind the last sealed one
}

// Slot is one block that a step writes to.
type Slot struct {
	Index int // of the block in its sequence
	From  Pos // first position of this step in the block
	To    Pos // one past the last
	// Open is the full-precision block per group; NoBlock where the step begins
	// and fills the block: then scratch serves, it lives within a layer.
	Open []BlockID
	// Seal is where the filled block goes per group; empty if it stays open.
	Seal []BlockID
}

// Len is the number of positions that the step writes.
func (s *Slot) Len() int { return int(s.To - s.From) }

// Fills says whether the step completes the block.
func (s *Slot) Fills() bool { return len(s.Seal) > 0 }

// NewGrowing starts an empty table that draws on stock.
func NewGrowing(pool *Pool, scope Scope, stock *Reservation) *Growing {
	spec := pool.Spec()
	g := &Growing{pool: pool, spec: spec, scope: scope, stock: stock, groups: make([]growGroup, len(spec.Groups))}
	for i := range g.groups {
		g.groups[i].open = NoBlock
	}
	return g
}

// Len is the number of tokens with KV.
func (g *Growing) Len() int { return len(g.tokens) }

// Keys are those of the sealed blocks; read only.
func (g *Growing) Keys() []Key { return g.keys }

// Aligned says whether the next token begins a block.
func (g *Growing) Aligned() bool { return len(g.tokens)%BlockTokens == 0 }

// Lines are the places of a group's sealed blocks in the pool's memory, from
// the first one still held on: block 0 if it is among them, whose form differs,
// then the others.
func (g *Growing) Lines(group int) (first, later []int32) {
	gg := &g.groups[group]
	if gg.from == 0 && len(gg.lines) > 0 {
		return gg.lines[:1], gg.lines[1:]
	}
	return nil, gg.lines[gg.from:]
}

// FirstHeld is the first block that a group still holds: 0 without a window.
func (g *Growing) FirstHeld(group int) int { return g.groups[group].from }

// SealedBlock is the i-th sealed block of a group.
func (g *Growing) SealedBlock(group, i int) BlockID { return g.groups[group].sealed[i] }

// --- what is already there ---

// adopt appends a sealed block, one id per group; their references pass to g.
// The table must end at a block's edge.
func (g *Growing) adopt(key Key, tokens []token.ID, ids []BlockID) {
	if !g.Aligned() || len(tokens) != BlockTokens {
		panic(fmt.Sprintf("kv: adoption of %d tokens at %d", len(tokens), len(g.tokens)))
	}
	g.tokens = append(g.tokens, tokens...)
	g.keys = append(g.keys, key)
	for i, id := range ids {
		g.pushSealed(i, id)
	}
}

// FollowSealed appends a block found by Lookup; its references pass to g, and a
// block that was reserved in its place goes back. What is reserved for a window is
// for all that follow.
func (g *Growing) FollowSealed(key Key, tokens []token.ID, ids []BlockID) {
	form := g.spec.Format.Form(len(g.keys))
	g.adopt(key, tokens, ids)
	g.slide()
	for i, group := range g.spec.Groups {
		if group.Window == 0 {
			g.stock.giveBack(i, form)
		}
	}
}

// pushSealed appends a block, or NoBlock where the window has passed it.
func (g *Growing) pushSealed(group int, id BlockID) {
	gg := &g.groups[group]
	line := int32(-1)
	if id != NoBlock {
		line = g.pool.Line(id)
	}
	gg.lines, gg.sealed = append(gg.lines, line), append(gg.sealed, id)
}

// slide gives back the blocks that no later position can read.
func (g *Growing) slide() {
	for gi := range g.groups {
		gg := &g.groups[gi]
		for to := g.spec.Groups[gi].FirstRead(len(gg.sealed)); gg.from < to; gg.from++ {
			if id := gg.sealed[gg.from]; id != NoBlock {
				g.pool.Free(id)
			}
			gg.sealed[gg.from], gg.lines[gg.from] = NoBlock, -1
		}
	}
}

// AdoptPrefix begins an empty table with blocks found by Pool.Match, [block]
// [group]; their references pass to g.
func (g *Growing) AdoptPrefix(keys []Key, tokens []token.ID, ids [][]BlockID) {
	for i := range ids {
		g.adopt(keys[i], tokens[i*BlockTokens:(i+1)*BlockTokens], ids[i])
	}
	g.slide()
}

// ResumeSealed begins an empty table with the first n blocks of another, or
// fewer if its windows have passed what n would need; the table keeps its own
// references.
func (g *Growing) ResumeSealed(a *AgentBlocks, n int) {
	n = a.usable(n)
	for i := range n {
		ids := make([]BlockID, len(g.groups))
		for gi := range ids {
			ids[gi] = NoBlock
			if i >= g.spec.Groups[gi].FirstRead(n) {
				ids[gi] = a.sealed[gi][i]
				g.pool.Retain(ids[gi])
			}
		}
		g.adopt(a.keys[i], a.tokens[i*BlockTokens:(i+1)*BlockTokens], ids)
	}
	g.slide()
}

// ResumeOpen takes over the open block of a table, all of whose sealed blocks g
// has, up to its n-th token: appended to in place if that is its end and nobody
// else holds the block, else in a copy.
func (g *Growing) ResumeOpen(a *AgentBlocks, n int) {
	if len(g.keys) != len(a.keys) || n <= len(g.tokens) || n > a.Len() {
		panic(fmt.Sprintf("kv: table of %d tokens resumed up to %d behind %d", a.Len(), n, len(g.tokens)))
	}
	for gi := range g.groups {
		id := a.open[gi]
		if n == a.Len() && g.pool.refs(id) == 1 {
			g.pool.Retain(id)
			g.groups[gi].open = id
			continue
		}
		g.groups[gi].open = g.takeOpen(gi)
		g.pool.copyBlock(g.groups[gi].open, id)
	}
	g.tokens = append(g.tokens, a.tokens[len(g.tokens):n]...)
}

// copyBlock copies a whole block of equal class.
func (p *Pool) copyBlock(dst, src BlockID) {
	c := &p.classes[p.slabs[src>>slabShift].class]
	for l := range c.layers {
		for h := range c.heads {
			dk, dv := p.Half(dst, l, h)
			sk, sv := p.Half(src, l, h)
			copy(dk, sk)
			copy(dv, sv)
		}
	}
}

func (g *Growing) takeOpen(group int) BlockID {
	id := g.stock.take(group, g.spec.Format.Open())
	g.pool.hold(id)
	return id
}

// restoreReaders read blocks at once: enough to keep two cores and a disk busy.
const restoreReaders = 4

// RestoreSealed fills a reserved block per key and group by read and appends
// them under their keys, up to the first that cannot be read: n of them. Of a
// group with a window only what the end of the run needs is read. read is
// called by several goroutines at once, for different blocks; tokens are those
// of all keys.
func (g *Growing) RestoreSealed(keys []Key, tokens []token.ID, read func(i, group int, id BlockID) error) (n int, err error) {
	ids := g.takeRun(len(keys))
	errs := readAll(ids, read)
	for n < len(keys) && errs[n] == nil {
		n++
	}
	err = errors.Join(errs...)
	if n < len(keys) && g.windowed() { // a shorter run needs other blocks of its windows
		g.restockRun(ids)
		if n > 0 {
			n, _ = g.RestoreSealed(keys[:n], tokens, read)
		}
		return n, err
	}
	for i := range n {
		for gi, id := range ids[i] {
			if id != NoBlock {
				ids[i][gi], _ = g.pool.publish(id, keys[i])
			}
		}
		g.adopt(keys[i], tokens[i*BlockTokens:(i+1)*BlockTokens], ids[i])
	}
	g.slide()
	g.restockRun(ids[n:])
	return n, err
}

func (g *Growing) windowed() bool {
	return slices.ContainsFunc(g.spec.Groups, func(group Group) bool { return group.Window > 0 })
}

// takeRun takes blocks for n keys, [key][group]; NoBlock where the window of
// the run's end has passed.
func (g *Growing) takeRun(n int) [][]BlockID {
	ids := make([][]BlockID, n)
	end := len(g.keys) + n
	for i := range ids {
		at := len(g.keys) + i
		for gi, group := range g.spec.Groups {
			id := NoBlock
			if at >= group.FirstRead(end) {
				id = g.stock.take(gi, g.spec.Format.Form(at))
			}
			ids[i] = append(ids[i], id)
		}
	}
	return ids
}

// readAll calls read for every block, several at a time, and gives each key's error.
func readAll(ids [][]BlockID, read func(i, group int, id BlockID) error) []error {
	errs := make([]error, len(ids))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(restoreReaders, len(ids)) {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ids); i = int(next.Add(1)) - 1 {
				for gi, id := range ids[i] {
					if id != NoBlock {
						errs[i] = errors.Join(errs[i], read(i, gi, id))
					}
				}
			}
		})
	}
	readers.Wait()
	return errs
}

func (g *Growing) restockRun(ids [][]BlockID) {
	for _, block := range ids {
		g.restock(block)
	}
}

func (g *Growing) restock(ids []BlockID) {
	for gi, id := range ids {
		if id != NoBlock {
			g.restockOne(gi, id)
		}
	}
}

// RestoreOpen fills the open block of each group by read with the tokens that
// follow the sealed ones. After an error nothing is taken.
func (g *Growing) RestoreOpen(tokens []token.ID, read func(group int, id BlockID) error) error {
	for gi := range g.groups {
		id := g.takeOpen(gi)
		g.groups[gi].open = id
		if err := read(gi, id); err != nil {
			g.dropOpen()
			return err
		}
	}
	g.tokens = append(g.tokens, tokens...)
	return nil
}

// dropOpen puts open blocks that only g holds back into the stock.
func (g *Growing) dropOpen() {
	for gi := range g.groups {
		if id := g.groups[gi].open; id != NoBlock {
			g.pool.unhold(id)
			g.restockOne(gi, id)
			g.groups[gi].open = NoBlock
		}
	}
}

func (g *Growing) restockOne(group int, id BlockID) {
	c := g.pool.classOf[groupForm{group, g.pool.FormOf(id)}]
	g.stock.blocks[c] = append(g.stock.blocks[c], id)
}

// unhold turns a held block that nobody else holds into a reserved one.
func (p *Pool) unhold(id BlockID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks[id].refs = 0
	p.moveLocked(id, reserved)
}

// --- growth ---

// Missing is what the stock lacks for the table to grow to n tokens in steps of
// at most step tokens. A group with a window needs its window and a step.
func (g *Growing) Missing(n, step int) Need {
	var need Need
	sealed := max(0, n/BlockTokens-len(g.keys))
	first := 0
	if len(g.keys) == 0 && sealed > 0 {
		first, sealed = 1, sealed-1
	}
	open := g.openNeed(n)
	for gi, group := range g.spec.Groups {
		later, into := sealed, &need.Later
		if group.Window > 0 {
			later, into = min(sealed, blocksFor(group.Window)+1+blocksFor(step)), &need.Windowed
		}
		f, l, o := g.lacks(gi, first, later, open)
		need.First, *into, need.Open = max(need.First, f), max(*into, l), max(need.Open, o)
	}
	return need
}

// lacks is how much more than its stock a group needs; forms may share a class.
func (g *Growing) lacks(group, first, later, open int) (f, l, o int) {
	format := g.spec.Format
	left := g.stock.Left(group, format.Form(0))
	f, left = max(0, first-left), max(0, left-first)
	if format.Form(1) != format.Form(0) {
		left = g.stock.Left(group, format.Form(1))
	}
	l, left = max(0, later-left), max(0, left-later)
	if format.Open() != format.Form(1) {
		left = g.stock.Left(group, format.Open())
	}
	return f, l, max(0, open-left)
}

// openNeed is the number of open blocks to be taken on the way to n tokens. Two
// suffice: one that is filled and one that is begun may meet in a step, and a
// filled one that only g holds serves again.
func (g *Growing) openNeed(n int) int {
	begun := max(0, blocksFor(n)-blocksFor(len(g.tokens)))
	own := 0
	if id := g.groups[0].open; id != NoBlock && g.pool.refs(id) == 1 {
		own = 1
	}
	return min(2, begun+own) - min(own, begun+own)
}

func blocksFor(tokens int) int { return (tokens + BlockTokens - 1) / BlockTokens }

// Stock adds reserved blocks.
func (g *Growing) Stock(r *Reservation) { g.stock.Add(r) }

// Plan lays out the slots for the next n tokens; the blocks must be in stock.
// The slots are valid until the next call of Plan, Commit or Undo.
func (g *Growing) Plan(n int) []Slot {
	g.slide()
	g.slots = g.slots[:0]
	pos, end := len(g.tokens), len(g.tokens)+n
	for pos < end {
		b := pos / BlockTokens
		to := min((b+1)*BlockTokens, end)
		g.planSlot(b, pos, to)
		pos = to
	}
	return g.slots
}

// planSlot writes the next slot, in the place of an earlier step's.
func (g *Growing) planSlot(b, from, to int) {
	s := g.nextSlot()
	s.Index, s.From, s.To, s.Open, s.Seal = b, Pos(from), Pos(to), s.Open[:0], s.Seal[:0]
	fills := to == (b+1)*BlockTokens
	for gi := range g.groups {
		s.Open = append(s.Open, g.slotOpen(gi, from, fills))
		if fills {
			s.Seal = append(s.Seal, g.stock.take(gi, g.spec.Format.Form(b)))
		}
	}
}

func (g *Growing) nextSlot() *Slot {
	if len(g.slots) < cap(g.slots) {
		g.slots = g.slots[:len(g.slots)+1]
	} else {
		g.slots = append(g.slots, Slot{})
	}
	return &g.slots[len(g.slots)-1]
}

func (g *Growing) slotOpen(group, from int, fills bool) BlockID {
	switch {
	case from%BlockTokens != 0:
		return g.groups[group].open
	case fills:
		return NoBlock
	}
	return g.takeOpen(group)
}

// Commit makes the planned slots, now filled with tokens, part of the table. It
// returns the indexes of blocks that became findable under a new key; they are
// valid until the next Commit, and their blocks until the next Plan.
func (g *Growing) Commit(tokens []token.ID) (sealed []int) {
	g.fresh = g.fresh[:0]
	g.tokens = append(g.tokens, tokens...)
	for i := range g.slots {
		s := &g.slots[i]
		if !s.Fills() {
			for gi := range g.groups {
				g.groups[gi].open = s.Open[gi]
			}
			continue
		}
		g.commitSealed(s)
	}
	g.slots = g.slots[:0]
	return g.fresh
}

func (g *Growing) commitSealed(s *Slot) {
	g.keys = g.scope.Extend(g.keys, g.tokens[:s.Index*BlockTokens+BlockTokens], BlockTokens)
	fresh := false
	for gi := range g.groups {
		id, isNew := g.pool.publish(s.Seal[gi], g.keys[s.Index])
		g.pushSealed(gi, id)
		fresh = fresh || isNew
		g.retireOpen(gi)
	}
	if fresh {
		g.fresh = append(g.fresh, s.Index)
	}
}

// retireOpen lets go of an open block that was filled: into the stock if nobody
// else holds it.
func (g *Growing) retireOpen(group int) {
	id := g.groups[group].open
	switch {
	case id == NoBlock:
		return
	case g.pool.refs(id) == 1:
		g.pool.unhold(id)
		g.restockOne(group, id)
	default:
		g.pool.Free(id)
	}
	g.groups[group].open = NoBlock
}

// Undo forgets the planned slots; their blocks go back into the stock.
func (g *Growing) Undo() {
	for i := range g.slots {
		s := &g.slots[i]
		for gi, id := range s.Seal {
			g.restockOne(gi, id)
		}
		for gi, id := range s.Open {
			if id != NoBlock && id != g.groups[gi].open {
				g.pool.unhold(id)
				g.restockOne(gi, id)
			}
		}
	}
	g.slots = g.slots[:0]
}

// Tokens are those with KV; read only.
func (g *Growing) Tokens() []token.ID { return g.tokens }

// Check verifies the table between steps: a key and a block per group for every
// full block its windows hold, an open block exactly for a rest, all of them held.
func (g *Growing) Check() error {
	full, rest := len(g.tokens)/BlockTokens, len(g.tokens)%BlockTokens
	if len(g.keys) != full {
		return fmt.Errorf("kv: running table of %d tokens has %d keys", len(g.tokens), len(g.keys))
	}
	for gi := range g.groups {
		gg := &g.groups[gi]
		if len(gg.sealed) != full || (gg.open != NoBlock) != (rest > 0) {
			return fmt.Errorf("kv: running table of %d tokens has %d sealed blocks in group %d, open block %d", len(g.tokens), len(gg.sealed), gi, gg.open)
		}
		if err := g.pool.checkHeld(lastFirst(gg.sealed[gg.from:], gg.open)); err != nil {
			return err
		}
	}
	return nil
}

// --- the end ---

// Freeze turns the table into an agent's and gives the stock back.
func (g *Growing) Freeze() *AgentBlocks {
	g.slide()
	g.stock.Return()
	var open []BlockID
	sealed := make([][]BlockID, len(g.groups))
	for gi := range g.groups {
		sealed[gi] = g.groups[gi].sealed
		if id := g.groups[gi].open; id != NoBlock {
			open = append(open, id)
		}
	}
	a := newAgentBlocks(g.pool, g.spec, g.tokens, g.keys, sealed, open)
	*g = Growing{}
	return a
}

// Drop gives everything back; sealed blocks stay findable.
func (g *Growing) Drop() {
	if g.pool == nil {
		return
	}
	g.Undo()
	g.stock.Return()
	for gi := range g.groups {
		gg := &g.groups[gi]
		g.pool.Free(lastFirst(gg.sealed[gg.from:], gg.open)...)
	}
	*g = Growing{}
}
