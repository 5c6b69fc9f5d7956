package kv

import (
	"fmt"

	"mneme/internal/quant"
)

// ClassStats counts the blocks of one form of one group.
type ClassStats struct {
	Group                               int
	Form                                quant.KVForm
	BlockBytes                          int64
	Total, Free, Reserved, Held, Cached int
}

// Stats is the pool at one instant.
type Stats struct {
	TotalBytes  int64 // the budget
	UnusedBytes int64 // in slabs that have no class yet
	Hits        int64 // lookups that found a block
	Evictions   int64 // cached blocks dropped for room
	Classes     []ClassStats
}

// UsedBytes are those of reserved and held blocks.
func (s Stats) UsedBytes() int64 {
	var n int64
	for _, c := range s.Classes {
		n += int64(c.Reserved+c.Held) * c.BlockBytes
	}
	return n
}

// Stats takes one consistent snapshot.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{TotalBytes: p.budgetLocked(), UnusedBytes: int64(p.unused) * int64(p.slabBytes), Hits: p.hits, Evictions: p.evicts}
	for i := range p.classes {
		c := &p.classes[i]
		s.Classes = append(s.Classes, ClassStats{
			Group: c.group, Form: c.form, BlockBytes: int64(c.blockBytes()),
			Total: c.count[free] + c.count[reserved] + c.count[held] + c.count[cached],
			Free:  c.count[free], Reserved: c.count[reserved], Held: c.count[held], Cached: c.count[cached],
		})
	}
	return s
}

// Check walks every block and compares with the pool's own numbers; tables are
// all live tables, whose references must be exactly those counted.
func (p *Pool) Check(tables ...*AgentBlocks) error {
	want := map[BlockID]int32{}
	for _, t := range tables {
		for _, id := range t.blocks() {
			want[id]++
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkCountsLocked(); err != nil {
		return err
	}
	for id := range p.blocks {
		if b := &p.blocks[id]; p.slabs[id>>slabShift].class >= 0 && b.state == held && b.refs != want[BlockID(id)] {
			return fmt.Errorf("kv: block %d has %d refs, live tables hold it %d times", id, b.refs, want[BlockID(id)])
		}
	}
	for id, n := range want {
		if b := &p.blocks[id]; b.state != held {
			return fmt.Errorf("kv: block %d is held %d times by tables, its state is %d", id, n, b.state)
		}
	}
	return nil
}

// checkHeld says which of some blocks is not held.
func (p *Pool) checkHeld(ids []BlockID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if b := &p.blocks[id]; b.state != held || b.refs <= 0 {
			return fmt.Errorf("kv: block %d of %q is in a table, its state is %d, refs %d", id, b.owner, b.state, b.refs)
		}
	}
	return nil
}

// CheckCounts recounts states, slabs and the index while others may hold blocks.
func (p *Pool) CheckCounts() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkCountsLocked()
}

// checkCountsLocked recounts states, slabs and the index from the blocks.
func (p *Pool) checkCountsLocked() error {
	counts := make([][4]int, len(p.classes))
	keyed := 0
	for s := range p.slabs {
		c := p.slabs[s].class
		if c < 0 {
			continue
		}
		n := 0
		for i := range p.classes[c].perSlab {
			b := &p.blocks[s<<slabShift+i]
			counts[c][b.state]++
			n += busy(b.state)
			if b.keyed {
				keyed++
			}
			if err := p.checkBlockLocked(BlockID(s<<slabShift+i), b); err != nil {
				return err
			}
		}
		if n != p.slabs[s].busy {
			return fmt.Errorf("kv: slab %d counts %d busy blocks, has %d", s, p.slabs[s].busy, n)
		}
	}
	for c := range counts {
		if counts[c] != p.classes[c].count {
			return fmt.Errorf("kv: class %d counts %v (free, reserved, held, cached), has %v", c, p.classes[c].count, counts[c])
		}
	}
	if keyed != len(p.index) {
		return fmt.Errorf("kv: %d blocks have keys, the index has %d", keyed, len(p.index))
	}
	return nil
}

func (p *Pool) checkBlockLocked(id BlockID, b *block) error {
	switch {
	case (b.state == held) != (b.refs > 0):
		return fmt.Errorf("kv: block %d in state %d has %d refs", id, b.state, b.refs)
	case b.keyed && p.index[indexKey{b.key, p.groupOf(id)}] != id:
		return fmt.Errorf("kv: block %d is not indexed under its key", id)
	case b.state == cached && !b.keyed:
		return fmt.Errorf("kv: cached block %d has no key", id)
	}
	return nil
}
