// Package arena hands out memory off the Go heap: anonymous maps, aligned to
// and advised for 2 MiB pages. The collector never sees it and the TLB covers
// it, which is worth a third of decode speed (docs/ARCHITECTURE.md).
package arena

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Line is the cache line; everything the kernels read is aligned to it.
	Line = 64

	hugePage = 2 << 20
)

// Region is one anonymous map. Its owner is whoever called Map; the bytes are
// zero until written and must not be used after Unmap.
type Region struct {
	mapped []byte // what the kernel gave us, one huge page longer
	bytes  []byte // the aligned part handed out
}

// Map reserves sizeBytes of zeroed memory. Pages are taken from the system as
// they are first touched.
func Map(sizeBytes int) (*Region, error) {
	if sizeBytes <= 0 {
		return nil, fmt.Errorf("arena: map of %d bytes", sizeBytes)
	}
	mapped, err := unix.Mmap(-1, 0, sizeBytes+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("arena: map %d bytes: %w", sizeBytes, err)
	}
	start := int(-uintptr(unsafe.Pointer(&mapped[0])) & (hugePage - 1))
	r := &Region{mapped: mapped, bytes: mapped[start : start+sizeBytes : start+sizeBytes]}
	adviseHuge(r.bytes)
	return r, nil
}

// Bytes is the whole region.
func (r *Region) Bytes() []byte { return r.bytes }

// Unmap gives the memory back; a second call does nothing.
func (r *Region) Unmap() error {
	if r.mapped == nil {
		return nil
	}
	mapped := r.mapped
	r.mapped, r.bytes = nil, nil
	return unix.Munmap(mapped)
}

// Bump cuts aligned pieces from regions it maps itself, for data that lives as
// long as its owner (repacked weights, scratch).
type Bump struct {
	regions []*Region
	rest    []byte
	used    int
}

const bumpChunk = 32 << 20

// Take returns n zeroed bytes aligned to a cache line.
func (b *Bump) Take(n int) ([]byte, error) {
	n = Align(n)
	if len(b.rest) < n {
		r, err := Map(max(n, bumpChunk))
		if err != nil {
			return nil, err
		}
		b.regions, b.rest = append(b.regions, r), r.bytes
	}
	out := b.rest[:n:n]
	b.rest, b.used = b.rest[n:], b.used+n
	return out, nil
}

// Used is the number of bytes taken so far.
func (b *Bump) Used() int { return b.used }

// Free unmaps everything that was taken.
func (b *Bump) Free() error {
	var first error
	for _, r := range b.regions {
		if err := r.Unmap(); err != nil && first == nil {
			first = err
		}
	}
	*b = Bump{}
	return first
}

// Align rounds n up to whole cache lines.
func Align(n int) int { return (n + Line - 1) &^ (Line - 1) }

// Floats views bytes, whose start must be 4-byte aligned, as float32.
func Floats(b []byte) []float32 {
	if len(b) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}
