package kv

import "testing"

// BenchmarkAllocateFree32 takes and gives back 32 blocks; `make cost` runs it
// with and without the mutex, in turn.
func BenchmarkAllocateFree32(b *testing.B) {
	p := newTestPool(b, FormatQ4, 256)
	b.ReportAllocs()
	for b.Loop() {
		r, ok := p.Allocate(Need{First: 1, Later: 30, Open: 1})
		if !ok {
			b.Fatal("no room")
		}
		r.Return()
	}
}
