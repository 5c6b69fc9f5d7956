package kv

import (
	"fmt"
	"math/bits"
	"sync"

	"mneme/internal/arena"
	"mneme/internal/quant"
)

// BlockID names a block of the pool: its slab and its place in it.
type BlockID int32

// NoBlock is the absence of a block.
const NoBlock BlockID = -1

const (
	slabShift = 7 // a slab holds at most 128 blocks
	slabMask  = 1<<slabShift - 1

	// A slab is as large as 16 open blocks, so that it holds 16 to 64 of any
	// form; small pools have smaller slabs, to have enough of them.
	maxOpenPerSlab = 16
	wantSlabs      = 48
)

type state uint8

const (
	free     state = iota
	reserved       // taken for a turn that has not filled it yet
	held           // in a table: refs > 0
	cached         // sealed, in no table, still findable by its key
)

// block is what the pool knows of one block.
type block struct {
	state      state
	keyed      bool // findable under key
	refs       int32
	key        Key
	prev, next BlockID // neighbours in its class's list of cached blocks, oldest first
}

// class is all blocks of one form of one group: equal size and layout.
type class struct {
	group      int
	form       quant.KVForm
	layers     int
	heads      int
	halves     int // K and V, or keys only
	half       int // bytes of K or V of one (layer, head)
	perSlab    int
	count      [4]int  // blocks by state
	head, tail BlockID // cached blocks, oldest first
}

func (c *class) blockBytes() int { return c.halves * c.layers * c.heads * c.half }
func (c *class) kBytes() int     { return c.layers * c.heads * c.perSlab * c.half }

// slab is a piece of the arena that holds blocks of one class, or of none yet.
//
//	K area [layer][head][block], then V area [layer][head][block]
type slab struct {
	class int       // index of its class, or -1
	busy  int       // blocks reserved or held
	open  [2]uint64 // bit i: block i is free
}

// Pool hands out fixed blocks of one arena: the only storage of KV in memory.
//   - A block is free, reserved, held by one or more tables (refs counts them)
//     or cached; free + reserved + held + cached = total, in every class.
//   - A released block with a key is cached and findable until its room is
//     needed, oldest first; one without is free.
//   - Allocate gives all blocks asked for or none.
//   - A slab changes class only when all its blocks are free.
//   - Sealed bytes never change while a block is held or cached.
type Pool struct {
	spec      Spec
	region    *arena.Region
	mem       []byte
	slabBytes int
	classes   []class
	classOf   map[groupForm]int

	mu     sync.Mutex
	slabs  []slab
	blocks []block // by BlockID
	index  map[indexKey]BlockID
	unused int // slabs without a class
	hits   int64
	evicts int64
}

type groupForm struct {
	group int
	form  quant.KVForm
}

type indexKey struct {
	key   Key
	group int
}

// NewPool makes a pool of at most budgetBytes; memory is taken from the system
// as blocks are first used. The budget must hold at least a handful of blocks.
func NewPool(spec Spec, budgetBytes int64) (*Pool, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	p := &Pool{spec: spec, classOf: map[groupForm]int{}, index: map[indexKey]BlockID{}}
	if err := p.layOut(budgetBytes); err != nil {
		return nil, err
	}
	region, err := arena.Map(len(p.slabs) * p.slabBytes)
	if err != nil {
		return nil, fmt.Errorf("kv pool: %w", err)
	}
	p.region, p.mem = region, region.Bytes()
	return p, nil
}

// layOut chooses the slab size and makes the classes.
func (p *Pool) layOut(budgetBytes int64) error {
	openBytes := 0
	for g := range p.spec.Groups {
		openBytes = max(openBytes, p.spec.BlockBytes(g, p.spec.Format.Open()))
	}
	perSlab := min(max(int(budgetBytes/int64(openBytes))/wantSlabs, 1), maxOpenPerSlab)
	p.slabBytes = arena.Align(perSlab * openBytes)
	n := int(budgetBytes / int64(p.slabBytes))
	if n < 4*len(p.spec.Groups) {
		return fmt.Errorf("kv pool: %d bytes are too few, a block takes %d in full precision: at least %d are needed", budgetBytes, openBytes, 4*len(p.spec.Groups)*openBytes)
	}
	p.slabs = make([]slab, n)
	for i := range p.slabs {
		p.slabs[i].class = -1
	}
	p.unused = n
	p.blocks = make([]block, n<<slabShift)
	for g := range p.spec.Groups {
		for _, form := range []quant.KVForm{p.spec.Format.Open(), p.spec.Format.Form(0), p.spec.Format.Form(1)} {
			p.addClass(g, form)
		}
	}
	return nil
}

func (p *Pool) addClass(group int, form quant.KVForm) {
	at := groupForm{group, form}
	if _, ok := p.classOf[at]; ok {
		return
	}
	g := p.spec.Groups[group]
	c := class{group: group, form: form, layers: len(g.Layers), heads: g.KVHeads, halves: g.halves(), half: g.halfBytes(form), head: NoBlock, tail: NoBlock}
	c.perSlab = min(p.slabBytes/c.blockBytes(), 1<<slabShift)
	p.classOf[at] = len(p.classes)
	p.classes = append(p.classes, c)
}

// Close gives the memory back; nothing may use the pool's blocks any more.
func (p *Pool) Close() error { return p.region.Unmap() }

// Spec is the geometry the pool was made for.
func (p *Pool) Spec() Spec { return p.spec }

// --- taking ---

// Need is what a turn takes, for every group alike.
type Need struct {
	First int // sealed blocks in the form of block 0
	Later int // sealed blocks in the form of all others
	Open  int // full-precision blocks
}

// Bytes is the room a need takes.
func (p *Pool) Bytes(n Need) int64 {
	var sum int64
	for g := range p.spec.Groups {
		sum += int64(n.First)*int64(p.spec.BlockBytes(g, p.spec.Format.Form(0))) +
			int64(n.Later)*int64(p.spec.BlockBytes(g, p.spec.Format.Form(1))) +
			int64(n.Open)*int64(p.spec.BlockBytes(g, p.spec.Format.Open()))
	}
	return sum
}

// BudgetBytes is the size of the pool.
func (p *Pool) BudgetBytes() int64 { return int64(len(p.slabs)) * int64(p.slabBytes) }

// Allocate reserves all blocks of a need, in all groups, or none.
func (p *Pool) Allocate(n Need) (*Reservation, bool) {
	r := &Reservation{pool: p, blocks: make([][]BlockID, len(p.classes))}
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := range p.spec.Groups {
		if !p.fillLocked(r, g, p.spec.Format.Form(0), n.First) ||
			!p.fillLocked(r, g, p.spec.Format.Form(1), n.Later) ||
			!p.fillLocked(r, g, p.spec.Format.Open(), n.Open) {
			r.returnLocked()
			return nil, false
		}
	}
	return r, true
}

func (p *Pool) fillLocked(r *Reservation, group int, form quant.KVForm, n int) bool {
	c := p.classOf[groupForm{group, form}]
	for range n {
		id := p.takeLocked(c)
		if id == NoBlock {
			return false
		}
		p.moveLocked(id, reserved)
		r.blocks[c] = append(r.blocks[c], id)
	}
	return true
}

// takeLocked finds a free block of a class: in its slabs, in an unused slab,
// in place of its oldest cached block, in a slab that another class can spare.
func (p *Pool) takeLocked(c int) BlockID {
	if p.classes[c].count[free] == 0 && !p.growLocked(c) {
		if id := p.classes[c].head; id != NoBlock {
			p.evictLocked(id)
		} else if !p.reclaimLocked(c) {
			return NoBlock
		}
	}
	for s := range p.slabs {
		if p.slabs[s].class != c {
			continue
		}
		for w, free := range p.slabs[s].open {
			if free != 0 {
				return BlockID(s<<slabShift + 64*w + bits.TrailingZeros64(free))
			}
		}
	}
	panic(fmt.Sprintf("kv: class %d counts %d free blocks, none found", c, p.classes[c].count[free]))
}

// growLocked gives an unused slab to the class.
func (p *Pool) growLocked(c int) bool {
	if p.unused == 0 {
		return false
	}
	for s := range p.slabs {
		if p.slabs[s].class < 0 {
			p.assignLocked(s, c)
			return true
		}
	}
	panic(fmt.Sprintf("kv: %d unused slabs counted, none found", p.unused))
}

func (p *Pool) assignLocked(s, c int) {
	n := p.classes[c].perSlab
	p.slabs[s] = slab{class: c}
	for i := range n {
		p.slabs[s].open[i>>6] |= 1 << (i & 63)
		p.blocks[s<<slabShift+i] = block{prev: NoBlock, next: NoBlock}
	}
	p.classes[c].count[free] += n
	p.unused--
}

// reclaimLocked empties a slab of another class that holds cached blocks only
// and gives it to the class.
func (p *Pool) reclaimLocked(c int) bool {
	for s := range p.slabs {
		if p.slabs[s].class >= 0 && p.slabs[s].class != c && p.slabs[s].busy == 0 {
			p.emptyLocked(s)
			p.assignLocked(s, c)
			return true
		}
	}
	return false
}

func (p *Pool) emptyLocked(s int) {
	c := &p.classes[p.slabs[s].class]
	for i := range c.perSlab {
		if id := BlockID(s<<slabShift + i); p.blocks[id].state == cached {
			p.evictLocked(id)
		}
	}
	c.count[free] -= c.perSlab
	p.slabs[s].class = -1
	p.unused++
}

// --- states ---

// moveLocked changes a block's state and keeps every count true.
func (p *Pool) moveLocked(id BlockID, to state) {
	b, s := &p.blocks[id], &p.slabs[id>>slabShift]
	c := &p.classes[s.class]
	c.count[b.state]--
	c.count[to]++
	s.busy += busy(to) - busy(b.state)
	if (b.state == free) != (to == free) {
		s.open[(id&slabMask)>>6] ^= 1 << (id & 63)
	}
	if b.state == cached {
		p.unlinkLocked(c, id)
	}
	b.state = to
	if to == cached {
		p.linkLocked(c, id)
	}
	if to == free {
		p.poison(id)
	}
}

func busy(s state) int {
	if s == reserved || s == held {
		return 1
	}
	return 0
}

func (p *Pool) linkLocked(c *class, id BlockID) {
	b := &p.blocks[id]
	b.prev, b.next = c.tail, NoBlock
	if c.tail != NoBlock {
		p.blocks[c.tail].next = id
	} else {
		c.head = id
	}
	c.tail = id
}

func (p *Pool) unlinkLocked(c *class, id BlockID) {
	b := &p.blocks[id]
	if b.prev != NoBlock {
		p.blocks[b.prev].next = b.next
	} else {
		c.head = b.next
	}
	if b.next != NoBlock {
		p.blocks[b.next].prev = b.prev
	} else {
		c.tail = b.prev
	}
	b.prev, b.next = NoBlock, NoBlock
}

func (p *Pool) evictLocked(id BlockID) {
	p.forgetLocked(id)
	p.evicts++
	p.moveLocked(id, free)
}

func (p *Pool) forgetLocked(id BlockID) {
	if b := &p.blocks[id]; b.keyed {
		delete(p.index, indexKey{b.key, p.groupOf(id)})
		b.keyed = false
	}
}

func (p *Pool) groupOf(id BlockID) int { return p.classes[p.slabs[id>>slabShift].class].group }

// Retain adds a reference to each block, which must be held.
func (p *Pool) Retain(ids ...BlockID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.retainLocked(id)
	}
}

func (p *Pool) retainLocked(id BlockID) {
	b := &p.blocks[id]
	if b.state != held && b.state != cached {
		panic(fmt.Sprintf("kv: retain of block %d in state %d", id, b.state))
	}
	if b.state == cached {
		p.moveLocked(id, held)
	}
	b.refs++
}

// Release drops a reference to each block.
func (p *Pool) Release(ids ...BlockID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.releaseLocked(id)
	}
}

func (p *Pool) releaseLocked(id BlockID) {
	b := &p.blocks[id]
	if b.state != held || b.refs <= 0 {
		panic(fmt.Sprintf("kv: release of block %d in state %d, refs %d", id, b.state, b.refs))
	}
	if b.refs--; b.refs > 0 {
		return
	}
	if b.keyed {
		p.moveLocked(id, cached)
	} else {
		p.moveLocked(id, free)
	}
}

// --- finding ---

// Lookup finds the sealed blocks of a key, one per group, and retains them;
// all groups or none.
func (p *Pool) Lookup(key Key) ([]BlockID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]BlockID, len(p.spec.Groups))
	for g := range ids {
		id, ok := p.index[indexKey{key, g}]
		if !ok {
			return nil, false
		}
		ids[g] = id
	}
	for _, id := range ids {
		p.retainLocked(id)
	}
	p.hits++
	return ids, true
}

// Match finds the longest beginning of keys that every group can serve and
// retains its blocks: in full groups all of them, in a group with a window
// those that the next position may read; the others are NoBlock. [block][group]
func (p *Pool) Match(keys []Key) [][]BlockID {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(keys)
	for g := range p.spec.Groups {
		if p.spec.Groups[g].Window == 0 {
			n = p.runLocked(keys[:n], g)
		}
	}
	for ; n > 0 && !p.servesLocked(keys[:n]); n-- {
	}
	ids := make([][]BlockID, n)
	for i := range ids {
		ids[i] = make([]BlockID, len(p.spec.Groups))
		for g := range ids[i] {
			ids[i][g] = NoBlock
			if i > n-p.spec.Groups[g].keeps(n*BlockTokens) {
				ids[i][g] = p.index[indexKey{keys[i], g}]
				p.retainLocked(ids[i][g])
			}
		}
	}
	if n > 0 {
		p.hits++
	}
	return ids
}

// runLocked counts the leading keys that a group has.
func (p *Pool) runLocked(keys []Key, group int) int {
	for i, key := range keys {
		if _, ok := p.index[indexKey{key, group}]; !ok {
			return i
		}
	}
	return len(keys)
}

// servesLocked says whether the groups with windows can go on behind keys.
func (p *Pool) servesLocked(keys []Key) bool {
	for g := range p.spec.Groups {
		from := max(0, len(keys)+1-p.spec.Groups[g].keeps(len(keys)*BlockTokens))
		if p.spec.Groups[g].Window > 0 && p.runLocked(keys[from:], g) < len(keys)-from {
			return false
		}
	}
	return true
}

// Contains says whether every group has a sealed block of the key.
func (p *Pool) Contains(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := range p.spec.Groups {
		if _, ok := p.index[indexKey{key, g}]; !ok {
			return false
		}
	}
	return true
}

// publish makes a reserved, filled block findable and held. If the key is
// there already its block is taken instead and the new one is free again: same
// key, same bytes.
func (p *Pool) publish(id BlockID, key Key) (BlockID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := indexKey{key, p.groupOf(id)}
	if other, ok := p.index[at]; ok {
		p.retainLocked(other)
		p.moveLocked(id, free)
		return other, false
	}
	b := &p.blocks[id]
	b.key, b.keyed, b.refs = key, true, 1
	p.moveLocked(id, held)
	p.index[at] = id
	return id, true
}

// hold turns a reserved block into a held one without a key.
func (p *Pool) hold(id BlockID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks[id].keyed, p.blocks[id].refs = false, 1
	p.moveLocked(id, held)
}

// refs counts the references of a held block.
func (p *Pool) refs(id BlockID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.blocks[id].refs)
}

// Fits says whether a need could be met by an otherwise empty pool.
func (p *Pool) Fits(n Need) bool {
	slabs := 0
	for g := range p.spec.Groups {
		count := map[int]int{}
		count[p.classOf[groupForm{g, p.spec.Format.Form(0)}]] += n.First
		count[p.classOf[groupForm{g, p.spec.Format.Form(1)}]] += n.Later
		count[p.classOf[groupForm{g, p.spec.Format.Open()}]] += n.Open
		for c, k := range count {
			slabs += (k + p.classes[c].perSlab - 1) / p.classes[c].perSlab
		}
	}
	return slabs <= len(p.slabs)
}

// NeedFor is what a sequence of n tokens takes from nothing.
func NeedFor(n int) Need {
	if n < BlockTokens {
		return Need{Open: 1}
	}
	return Need{First: 1, Later: n/BlockTokens - 1, Open: 2}
}

// Forget drops cached blocks of these keys; held ones stay.
func (p *Pool) Forget(keys []Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		for g := range p.spec.Groups {
			if id, ok := p.index[indexKey{key, g}]; ok && p.blocks[id].state == cached {
				p.evictLocked(id)
			}
		}
	}
}
