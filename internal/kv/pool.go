package kv

import (
	"fmt"
	"math/bits"

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
	owner      string  // who it was last reserved for; for messages
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
	count      [4]int   // blocks by state
	open       []uint64 // bit s: slab s is of this class and has a free block
	head, tail BlockID  // cached blocks, oldest first
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
	region *arena.Region
	mem    []byte

	mu mutex
	layout
	hits, evicts int64
}

// layout is a pool's division for one spec. Its geometry changes only while no
// block is reserved or held, so who holds blocks reads it without the mutex.
type layout struct {
	spec      Spec
	slabBytes int
	classes   []class
	classOf   map[groupForm]int

	slabs  []slab
	blocks []block // by BlockID
	index  map[indexKey]BlockID
	unused int // slabs without a class
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
	l, err := newLayout(spec, budgetBytes)
	if err != nil {
		return nil, err
	}
	region, err := arena.Map(int(budgetBytes))
	if err != nil {
		return nil, fmt.Errorf("kv pool: %w", err)
	}
	return &Pool{layout: l, region: region, mem: region.Bytes()}, nil
}

// newLayout chooses the slab size and makes the classes.
func newLayout(spec Spec, budgetBytes int64) (layout, error) {
	if err := spec.Check(); err != nil {
		return layout{}, err
	}
	openBytes := 0
	for g := range spec.Groups {
		openBytes = max(openBytes, spec.BlockBytes(g, spec.Format.Open()))
	}
	perSlab := min(max(int(budgetBytes/int64(openBytes))/wantSlabs, 1), maxOpenPerSlab)
	l := layout{spec: spec, slabBytes: arena.Align(perSlab * openBytes), classOf: map[groupForm]int{}, index: map[indexKey]BlockID{}}
	n := int(budgetBytes / int64(l.slabBytes))
	if least := 4 * len(spec.Groups); n < least {
		return layout{}, fmt.Errorf("kv pool: %d bytes are too few, a block takes %d in full precision: at least %d are needed", budgetBytes, openBytes, least*openBytes)
	}
	l.slabs, l.blocks, l.unused = make([]slab, n), make([]block, n<<slabShift), n
	for i := range l.slabs {
		l.slabs[i].class = -1
	}
	for g := range spec.Groups {
		for _, form := range []quant.KVForm{spec.Format.Open(), spec.Format.Form(0), spec.Format.Form(1)} {
			l.addClass(g, form)
		}
	}
	return l, nil
}

func (l *layout) addClass(group int, form quant.KVForm) {
	at := groupForm{group, form}
	if _, ok := l.classOf[at]; ok {
		return
	}
	g := l.spec.Groups[group]
	c := class{group: group, form: form, layers: len(g.Layers), heads: g.KVHeads, halves: g.halves(), half: g.halfBytes(form), head: NoBlock, tail: NoBlock, open: make([]uint64, (len(l.slabs)+63)/64)}
	c.perSlab = min(l.slabBytes/c.blockBytes(), 1<<slabShift)
	l.classOf[at] = len(l.classes)
	l.classes = append(l.classes, c)
}

// Close gives the memory back; nothing may use the pool's blocks any more.
func (p *Pool) Close() error { return p.region.Unmap() }

// Spec is the geometry the pool was made for.
func (p *Pool) Spec() Spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec
}

// Reconfigure makes the pool one of another spec within the bytes it has;
// capacity follows from them. It is refused while a block is reserved or held;
// cached blocks are dropped.
func (p *Pool) Reconfigure(spec Spec) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.classes {
		if c := &p.classes[i]; c.count[reserved]+c.count[held] > 0 {
			return fmt.Errorf("kv: reconfigure while %d blocks are reserved and %d held as %s in group %d", c.count[reserved], c.count[held], c.form, c.group)
		}
	}
	l, err := newLayout(spec, int64(len(p.mem)))
	if err == nil {
		p.layout = l
	}
	return err
}

// --- taking ---

// Need is what a turn takes, per group.
type Need struct {
	First    int    // sealed blocks in the form of block 0
	Later    int    // sealed blocks in the form of all others, in groups without a window
	Windowed int    // the same in groups with one
	Open     int    // full-precision blocks
	Owner    string // whose they will be; for messages
}

func (n Need) later(g Group) int {
	if g.Window > 0 {
		return n.Windowed
	}
	return n.Later
}

// Empty says whether nothing is needed.
func (n Need) Empty() bool { return n.First == 0 && n.Later == 0 && n.Windowed == 0 && n.Open == 0 }

// Bytes is the room a need takes.
func (p *Pool) Bytes(n Need) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum int64
	for c, need := range p.byClass(n) {
		sum += int64(need) * int64(p.classes[c].blockBytes())
	}
	return sum
}

// BudgetBytes is the size of the pool.
func (p *Pool) BudgetBytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.budgetLocked()
}

func (p *Pool) budgetLocked() int64 { return int64(len(p.slabs)) * int64(p.slabBytes) }

// Allocate reserves all blocks of a need, in all groups, or none; one that gets
// nothing drops nothing from the cache.
func (p *Pool) Allocate(n Need) (*Reservation, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hasRoomLocked(n) {
		return nil, false
	}
	r := &Reservation{pool: p, blocks: make([][]BlockID, len(p.classes))}
	for g := range p.spec.Groups {
		if !p.fillLocked(r, g, p.spec.Format.Form(0), n.First) ||
			!p.fillLocked(r, g, p.spec.Format.Form(1), n.later(p.spec.Groups[g])) ||
			!p.fillLocked(r, g, p.spec.Format.Open(), n.Open) {
			r.returnLocked()
			return nil, false
		}
	}
	for _, ids := range r.blocks {
		for _, id := range ids {
			p.blocks[id].owner = n.Owner
		}
	}
	return r, true
}

// byClass counts a need per class.
func (l *layout) byClass(n Need) []int {
	out := make([]int, len(l.classes))
	for g := range l.spec.Groups {
		out[l.classOf[groupForm{g, l.spec.Format.Form(0)}]] += n.First
		out[l.classOf[groupForm{g, l.spec.Format.Form(1)}]] += n.later(l.spec.Groups[g])
		out[l.classOf[groupForm{g, l.spec.Format.Open()}]] += n.Open
	}
	return out
}

// hasRoomLocked says whether free and cached blocks of each class, and slabs
// that are unused or that other classes can spare, meet a need.
func (p *Pool) hasRoomLocked(n Need) bool {
	spare := make([]int, len(p.classes)) // blocks beyond what is needed
	lack := 0                            // slabs
	for c, need := range p.byClass(n) {
		cl := &p.classes[c]
		spare[c] = cl.count[free] + cl.count[cached] - need
		if spare[c] < 0 {
			lack += (-spare[c] + cl.perSlab - 1) / cl.perSlab
		}
	}
	lack -= p.unused
	for s := 0; s < len(p.slabs) && lack > 0; s++ {
		if c := p.slabs[s].class; c >= 0 && p.slabs[s].busy == 0 && spare[c] >= p.classes[c].perSlab {
			spare[c] -= p.classes[c].perSlab
			lack--
		}
	}
	return lack <= 0
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
	for w, open := range p.classes[c].open {
		if open != 0 {
			return p.firstFree(64*w + bits.TrailingZeros64(open))
		}
	}
	panic(fmt.Sprintf("kv: class %d counts %d free blocks, none found", c, p.classes[c].count[free]))
}

// firstFree is the first free block of a slab that has one.
func (p *Pool) firstFree(s int) BlockID {
	for w, open := range p.slabs[s].open {
		if open != 0 {
			return BlockID(s<<slabShift + 64*w + bits.TrailingZeros64(open))
		}
	}
	panic(fmt.Sprintf("kv: slab %d has no free block", s))
}

// markLocked notes whether a slab has a free block.
func (p *Pool) markLocked(s int) {
	sl := &p.slabs[s]
	open := &p.classes[sl.class].open[s>>6]
	if sl.open != [2]uint64{} {
		*open |= 1 << (s & 63)
	} else {
		*open &^= 1 << (s & 63)
	}
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
	p.markLocked(s)
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
	p.slabs[s].open = [2]uint64{}
	p.markLocked(s)
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
		p.markLocked(int(id >> slabShift))
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
		panic(fmt.Sprintf("kv: retain of block %d of %q in state %d", id, b.owner, b.state))
	}
	if b.state == cached {
		p.moveLocked(id, held)
	}
	b.refs++
}

// Free drops a reference to each block; the last one makes it cached, if it
// has a key, or free.
func (p *Pool) Free(ids ...BlockID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.freeLocked(id)
	}
}

// FreeAgent drops an agent's references, in one critical section.
func (p *Pool) FreeAgent(a *AgentBlocks) { p.Free(a.blocks()...) }

func (p *Pool) freeLocked(id BlockID) {
	b := &p.blocks[id]
	if b.state != held || b.refs <= 0 {
		panic(fmt.Sprintf("kv: free of block %d of %q in state %d, refs %d", id, b.owner, b.state, b.refs))
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
			if i >= p.spec.Groups[g].FirstRead(n) {
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
		from := p.spec.Groups[g].FirstRead(len(keys))
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
	p.mu.Lock()
	defer p.mu.Unlock()
	slabs := 0
	for c, need := range p.byClass(n) {
		slabs += (need + p.classes[c].perSlab - 1) / p.classes[c].perSlab
	}
	return slabs <= len(p.slabs)
}

// NeedFor is what a sequence takes from nothing to n tokens in steps of at most
// step tokens.
func (p *Pool) NeedFor(n, step int) Need {
	empty := Growing{spec: p.Spec(), stock: &Reservation{pool: p, blocks: make([][]BlockID, len(p.classes))}}
	empty.groups = make([]growGroup, len(empty.spec.Groups))
	for gi := range empty.groups {
		empty.groups[gi].open = NoBlock
	}
	return empty.Missing(n, step)
}

// Cached lists the keys of sealed blocks that are in no table.
func (p *Pool) Cached() (keys []Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, id := range p.index {
		if p.blocks[id].state == cached {
			keys = append(keys, at.key)
		}
	}
	return keys
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
