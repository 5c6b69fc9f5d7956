package arena

import (
	"testing"
	"unsafe"
)

func TestMapIsZeroedAndAligned(t *testing.T) {
	for _, size := range []int{1, 4095, 3 << 20} {
		r, err := Map(size)
		if err != nil {
			t.Fatal(err)
		}
		b := r.Bytes()
		if len(b) != size || uintptr(unsafe.Pointer(&b[0]))%hugePage != 0 {
			t.Errorf("map of %d bytes: %d at %p", size, len(b), &b[0])
		}
		for i := range b {
			if b[i] != 0 {
				t.Fatalf("map of %d bytes: byte %d is %d", size, i, b[i])
			}
		}
		b[size-1] = 1
		if err := r.Unmap(); err != nil {
			t.Error(err)
		}
		if err := r.Unmap(); err != nil {
			t.Errorf("second unmap: %v", err)
		}
	}
	if _, err := Map(0); err == nil {
		t.Error("a map of nothing was given")
	}
}

// Pieces are aligned, do not overlap, and are counted in whole lines.
func TestBump(t *testing.T) {
	var b Bump
	var last []byte
	for _, n := range []int{1, 64, 65, bumpChunk + 1, 100} {
		piece, err := b.Take(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(piece) != Align(n) || uintptr(unsafe.Pointer(&piece[0]))%Line != 0 {
			t.Errorf("took %d, got %d bytes at %p", n, len(piece), &piece[0])
		}
		for i := range piece {
			piece[i] = 0xAB
		}
		if last != nil && &last[0] == &piece[0] {
			t.Error("a piece was given twice")
		}
		last = piece
	}
	if want := 64 + 64 + 128 + Align(bumpChunk+1) + 128; b.Used() != want {
		t.Errorf("used %d, want %d", b.Used(), want)
	}
	if err := b.Free(); err != nil || b.Used() != 0 {
		t.Errorf("free: %v, %d used", err, b.Used())
	}
}

func TestFloats(t *testing.T) {
	if f := Floats(make([]byte, 15)); len(f) != 3 {
		t.Errorf("15 bytes are %d floats", len(f))
	}
	if f := Floats(nil); f != nil {
		t.Errorf("no bytes are %v", f)
	}
}
