package gguf

import "testing"

// FuzzParse: whatever the bytes, Parse answers; and what it accepts can be read to the end, inside the file.
func FuzzParse(f *testing.F) {
	small := smallFile()
	f.Add(small)
	for n := 0; n < len(small); n += 7 {
		f.Add(small[:n])
	}
	for _, h := range hostiles() {
		f.Add(h.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err == nil {
			readAll(t, file, data)
		}
	})
}

// readAll asks for everything, under every type.
func readAll(t *testing.T, f *File, data []byte) {
	for _, key := range f.Keys() {
		f.String(key)
		f.Uint(key)
		f.Float(key)
		f.Bool(key)
		f.Strings(key)
		f.Ints(key)
		f.Floats(key)
	}
	for _, tensor := range f.Tensors() {
		last := tensor.Row(tensor.Rows() - 1)
		if len(last)*tensor.Rows() != len(tensor.Data) || len(last) == 0 {
			t.Fatalf("tensor %q: %d rows of %d bytes in %d", tensor.Name, tensor.Rows(), len(last), len(tensor.Data))
		}
		if end := tensor.Offset + len(tensor.Data); tensor.Offset < 24 || end > len(data) || &data[end-1] != &last[len(last)-1] {
			t.Fatalf("tensor %q: bytes %d to %d of %d", tensor.Name, tensor.Offset, end, len(data))
		}
	}
	if f.Digest() == "" {
		t.Fatal("no digest")
	}
}
