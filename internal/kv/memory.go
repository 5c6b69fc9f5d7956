package kv

import (
	"mneme/internal/arena"
	"mneme/internal/quant"
)

// Mem is the pool's arena, for kernels that read blocks in place.
func (p *Pool) Mem() []byte { return p.mem }

// Line is where a block's first K half lies in Mem, in lines of 64 bytes; the
// half of another layer, head or of V lies at the offset Offsets gives.
func (p *Pool) Line(id BlockID) int32 {
	s := int(id >> slabShift)
	c := &p.classes[p.slabs[s].class]
	return int32((s*p.slabBytes + int(id&slabMask)*c.half) / arena.Line)
}

// Offsets are the bytes from a block's Line to its K and V halves of a layer
// (counted within the group) and head.
func (p *Pool) Offsets(group int, form quant.KVForm, layer, head int) (k, v int) {
	c := &p.classes[p.classOf[groupForm{group, form}]]
	k = (layer*c.heads + head) * c.perSlab * c.half
	return k, c.kBytes() + k
}

// Half is the K and V memory of a block for one layer of its group and head; V
// is nil where values are part of the keys.
func (p *Pool) Half(id BlockID, layer, head int) (k, v []byte) {
	s := int(id >> slabShift)
	c := &p.classes[p.slabs[s].class]
	at := s*p.slabBytes + int(id&slabMask)*c.half + (layer*c.heads+head)*c.perSlab*c.half
	k = p.mem[at : at+c.half : at+c.half]
	if c.halves == 2 {
		v = p.mem[at+c.kBytes():][:c.half:c.half]
	}
	return k, v
}

// FormOf is the form a block is stored in.
func (p *Pool) FormOf(id BlockID) quant.KVForm {
	return p.classes[p.slabs[id>>slabShift].class].form
}

// SizeOf is a block's size in bytes.
func (p *Pool) SizeOf(id BlockID) int {
	return p.classes[p.slabs[id>>slabShift].class].blockBytes()
}

// CopyOut writes a block's bytes to dst, [K, V][layer][head].
func (p *Pool) CopyOut(dst []byte, id BlockID) {
	p.eachHalf(id, func(half []byte, at int) { copy(dst[at:], half) })
}

// CopyIn fills a block from what CopyOut wrote.
func (p *Pool) CopyIn(id BlockID, src []byte) {
	p.eachHalf(id, func(half []byte, at int) { copy(half, src[at:]) })
}

func (p *Pool) eachHalf(id BlockID, do func(half []byte, at int)) {
	c := &p.classes[p.slabs[id>>slabShift].class]
	for l := range c.layers {
		for h := range c.heads {
			k, v := p.Half(id, l, h)
			at := (l*c.heads + h) * c.half
			do(k, at)
			if v != nil {
				do(v, c.blockBytes()/2+at)
			}
		}
	}
}

// An open block's first n tokens on their own, for a tail frame:
//
//	per (layer, head): K [KDim][n], then V [n][VDim], in f16

// TailBytes is the size of a tail of n tokens of a group.
func (s Spec) TailBytes(group, n int) int {
	g := s.Groups[group]
	return len(g.Layers) * g.KVHeads * n * (g.KDim + g.VDim) * s.Format.elemBytes()
}

// CopyTailOut writes the first n tokens of an open block to dst.
func (p *Pool) CopyTailOut(dst []byte, id BlockID, n int) {
	p.eachTail(id, n, func(open, tail []byte) { copy(tail, open) }, dst)
}

// CopyTailIn fills the first n tokens of an open block from CopyTailOut's bytes.
func (p *Pool) CopyTailIn(id BlockID, src []byte, n int) {
	p.eachTail(id, n, func(open, tail []byte) { copy(open, tail) }, src)
}

func (p *Pool) eachTail(id BlockID, n int, do func(open, tail []byte), tail []byte) {
	c := &p.classes[p.slabs[id>>slabShift].class]
	g := p.spec.Groups[c.group]
	elem := p.spec.Format.elemBytes()
	row := elem * n // bytes of one K dim's tokens
	for l := range c.layers {
		for h := range c.heads {
			k, v := p.Half(id, l, h)
			for d := range g.KDim {
				do(k[elem*BlockTokens*d:][:row], tail[row*d:][:row])
			}
			tail = tail[row*g.KDim:]
			do(v[:row*g.VDim], tail[:row*g.VDim])
			tail = tail[row*g.VDim:]
		}
	}
}
