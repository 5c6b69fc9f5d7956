package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mneme/internal/quant"
)

// smallFile has a key of every type that the builder writes, and three tensors, the middle one padded.
func smallFile() []byte {
	b := NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("n.u32", uint32(7))
	b.Set("n.i32", int32(-7))
	b.Set("n.u64", uint64(1)<<63)
	b.Set("x.f32", float32(1.5))
	b.Set("yes", true)
	b.Set("tokens", []string{"a", "", "Ġthe"})
	b.Set("types", []int32{1, -2, math.MaxInt32})
	b.Set("scores", []float32{0, -1.5})
	b.Set("none", []string{})
	b.Add("norm", quant.F32, []int{3}, counting(12))
	b.Add("ffn", quant.Q4_1, []int{64, 3}, counting(120))
	b.Add("cube", quant.F16, []int{2, 3, 2}, counting(24))
	return b.Bytes()
}

func counting(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i)
	}
	return out
}

func mustParse(tb testing.TB, data []byte) *File {
	tb.Helper()
	f, err := Parse(data)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestMetadataOfABuiltFile(t *testing.T) {
	f := mustParse(t, smallFile())
	if got := strings.Join(f.Keys(), " "); got != "general.architecture n.u32 n.i32 n.u64 x.f32 yes tokens types scores none" {
		t.Errorf("keys %s", got)
	}
	check := func(what string, want any, wantOK bool) func(got any, ok bool) {
		return func(got any, ok bool) {
			t.Helper()
			if ok != wantOK || (ok && !reflect.DeepEqual(got, want)) {
				t.Errorf("%s: %v %v, want %v %v", what, got, ok, want, wantOK)
			}
		}
	}
	show(f.String("general.architecture"))(check("string", "llama", true))
	show(f.Uint("n.u32"))(check("u32", uint64(7), true))
	show(f.Uint("n.u64"))(check("u64", uint64(1)<<63, true))
	show(f.Uint("n.i32"))(check("a negative number", nil, false))
	show(f.Float("x.f32"))(check("f32", 1.5, true))
	show(f.Bool("yes"))(check("bool", true, true))
	show(f.Strings("tokens"))(check("strings", []string{"a", "", "Ġthe"}, true))
	show(f.Strings("none"))(check("no strings", []string{}, true))
	show(f.Ints("types"))(check("ints", []int32{1, -2, math.MaxInt32}, true))
	show(f.Floats("scores"))(check("floats", []float32{0, -1.5}, true))

	show(f.String("absent"))(check("absent", nil, false))
	show(f.String("n.u32"))(check("a number as string", nil, false))
	show(f.Uint("x.f32"))(check("a float as integer", nil, false))
	show(f.Uint("yes"))(check("a bool as integer", nil, false))
	show(f.Float("n.u32"))(check("an integer as float", nil, false))
	show(f.Bool("n.u32"))(check("an integer as bool", nil, false))
	show(f.Ints("tokens"))(check("strings as ints", nil, false))
	show(f.Strings("types"))(check("ints as strings", nil, false))
	show(f.Floats("types"))(check("ints as floats", nil, false))
}

// show passes on the two results of a getter.
func show[T any](v T, ok bool) func(func(any, bool)) {
	return func(check func(any, bool)) { check(v, ok) }
}

// Every integer type of the file, read as the widest; the builder does not write these.
func TestIntegerWidths(t *testing.T) {
	for _, c := range []struct {
		kind    kind
		bytes   string
		want    uint64
		ok      bool
		asInt   int32
		fitsInt bool
	}{
		{kindU8, "\xff", 255, true, 255, true},
		{kindI8, "\xff", 0, false, -1, true},
		{kindU16, "\xff\xff", 65535, true, 65535, true},
		{kindI16, "\xfe\xff", 0, false, -2, true},
		{kindI16, "\x02\x00", 2, true, 2, true},
		{kindU32, "\xff\xff\xff\xff", math.MaxUint32, true, 0, false},
		{kindI64, "\xff\xff\xff\xff\xff\xff\xff\xff", 0, false, -1, true},
		{kindI64, "\x00\x00\x00\x00\x00\x00\x00\x80", 0, false, 0, false},
		{kindU64, "\xff\xff\xff\xff\xff\xff\xff\xff", math.MaxUint64, true, 0, false},
		{kindU64, "\x05\x00\x00\x00\x00\x00\x00\x00", 5, true, 5, true},
	} {
		f := &File{values: map[string]value{
			"one":  {kind: c.kind, data: []byte(c.bytes)},
			"many": {kind: kindArray, elem: c.kind, count: 1, data: []byte(c.bytes)},
		}}
		if n, ok := f.Uint("one"); ok != c.ok || ok && n != c.want {
			t.Errorf("%s %x: %d %v, want %d %v", c.kind, c.bytes, n, ok, c.want, c.ok)
		}
		if n, ok := f.Ints("many"); ok != c.fitsInt || ok && n[0] != c.asInt {
			t.Errorf("array of %s %x: %d %v, want %d %v", c.kind, c.bytes, n, ok, c.asInt, c.fitsInt)
		}
	}
}

// norm 12 bytes at 0, ffn 120 at 32, cube 24 at 160 of the data.
func TestTensorsOfABuiltFile(t *testing.T) {
	data := smallFile()
	f := mustParse(t, data)
	start := f.tensors[0].Offset
	want := []Tensor{
		{Name: "norm", Format: quant.F32, Dims: []int{3}, Offset: start, Data: counting(12)},
		{Name: "ffn", Format: quant.Q4_1, Dims: []int{64, 3}, Offset: start + 32, Data: counting(120)},
		{Name: "cube", Format: quant.F16, Dims: []int{2, 3, 2}, Offset: start + 160, Data: counting(24)},
	}
	if got := f.Tensors(); !reflect.DeepEqual(got, want) {
		t.Errorf("tensors %v\nwant %v", got, want)
	}
	if start%32 != 0 || len(data) != start+184 {
		t.Errorf("data begins at %d of %d bytes", start, len(data))
	}
	cube, ok := f.Tensor("cube")
	if !ok || cube.Rows() != 6 || cube.RowLen() != 2 || !bytes.Equal(cube.Row(5), []byte{20, 21, 22, 23}) {
		t.Errorf("cube: %d rows of %d, the last %v", cube.Rows(), cube.RowLen(), cube.Row(5))
	}
	if _, ok := f.Tensor("absent"); ok {
		t.Error("a tensor that is not there was found")
	}
}

func TestAlignmentOfTheFile(t *testing.T) {
	b := NewBuilder()
	b.Set("general.alignment", uint32(256))
	b.Add("a", quant.F32, []int{1}, counting(4))
	b.Add("b", quant.F32, []int{1}, counting(4))
	f := mustParse(t, b.Bytes())
	if a, b := f.tensors[0].Offset, f.tensors[1].Offset; a != 256 || b != 512 {
		t.Errorf("tensors at %d and %d, want 256 and 512", a, b)
	}
}

func TestOpenDigestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.gguf")
	if err := os.WriteFile(path, []byte("GGUF\x03\x00\x00\x00"+strings.Repeat("\x00", 16)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = "a4e5e156ddec27e286f75328784d7106b60a4eb1d246e950a001a3f944fbda99" // by sha256sum
	if got := f.Digest(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil || f.Digest() != want || len(f.Keys()) != 0 {
		t.Errorf("after a second Close: %v, digest %s, keys %v", err, f.Digest(), f.Keys())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.gguf")
	text := filepath.Join(dir, "text.gguf")
	for path, content := range map[string]string{empty: "", text: "hello, world"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		empty: "gguf: open " + empty + ": the file is empty",
		text:  "gguf: " + text + `: not a GGUF file: it begins with "hell", not "GGUF"`,
		dir:   "gguf: open " + dir + ": not a regular file (d---------)",
	} {
		if f, err := Open(path); f != nil || err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Open(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

// hostile is a file that asks for something it must not get, and what it is told.
type hostile struct {
	name string
	data []byte
	want string
}

// raw builds a file by hand: header with its counts, then the parts.
func raw(version uint32, tensors, keys uint64, parts ...[]byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte("GGUF"), version)
	out = binary.LittleEndian.AppendUint64(out, tensors)
	out = binary.LittleEndian.AppendUint64(out, keys)
	return append(out, bytes.Join(parts, nil)...)
}

func text(s string) []byte { return appendText(nil, s) }

func u32s(ns ...uint32) (out []byte) {
	for _, n := range ns {
		out = binary.LittleEndian.AppendUint32(out, n)
	}
	return out
}

func u64s(ns ...uint64) (out []byte) {
	for _, n := range ns {
		out = binary.LittleEndian.AppendUint64(out, n)
	}
	return out
}

// entry is a line of the tensor table.
func entry(name string, format uint32, offset uint64, dims ...uint64) []byte {
	return bytes.Join([][]byte{text(name), u32s(uint32(len(dims))), u64s(dims...), u32s(format), u64s(offset)}, nil)
}

func alignment(n uint32) []byte { return bytes.Join([][]byte{text(alignmentKey), u32s(4, n)}, nil) }

func hostiles() []hostile {
	body := make([]byte, 256)
	key := func(k string, parts ...[]byte) []byte { return append(text(k), bytes.Join(parts, nil)...) }
	return []hostile{
		{"version 1", raw(1, 0, 0), "version 1 at byte 4; supported are 2 and 3"},
		{"version 4", raw(4, 0, 0), "version 4 at byte 4; supported are 2 and 3"},
		{"big-endian version", raw(3<<24, 0, 0), "version 50331648 at byte 4; supported are 2 and 3"},
		{"2^62 tensors", raw(3, 1<<62, 0), "4611686018427387904 tensors at byte 8; the limit is 1048576"},
		{"2^62 keys", raw(3, 0, 1<<62), "4611686018427387904 metadata keys at byte 16; the limit is 1048576"},
		{"more tensors than bytes", raw(3, 1000, 0, body), "1000 tensors at byte 8 do not fit the 264 bytes that follow"},
		{"more keys than bytes", raw(3, 0, 1000, body), "1000 metadata keys at byte 16 do not fit the 256 bytes that follow"},
		{"key of 2^63 bytes", raw(3, 0, 1, u64s(1<<63), body),
			"metadata key 0 of 1 at byte 24: string of 9223372036854775808 bytes at byte 24 passes the end of the file at byte 288"},
		{"key without name", raw(3, 0, 1, text(""), body), "metadata key 0 of 1 at byte 24: an empty name"},
		{"value type 13", raw(3, 0, 1, key("k", u32s(13)), body), `key "k" at byte 24: unknown value type 13 at byte 33`},
		{"string of 2^64-1 bytes", raw(3, 0, 1, key("k", u32s(8), u64s(math.MaxUint64)), body),
			`key "k" at byte 24: string of 18446744073709551615 bytes at byte 37 passes the end of the file at byte 301`},
		{"number past the end", raw(3, 0, 1, key("k", u32s(10), u32s(1))), `key "k" at byte 24: 8 bytes at byte 37 pass the end of the file at byte 41`},
		{"bool 2", raw(3, 0, 1, key("k", u32s(7), []byte{2})), `key "k" at byte 24: bool 0 has the value 2`},
		{"nested array", raw(3, 0, 1, key("k", u32s(9, 9), u64s(1), u32s(9), u64s(1)), body),
			`key "k" at byte 24: an array of arrays; only flat arrays are supported`},
		{"array of type 99", raw(3, 0, 1, key("k", u32s(9, 99), u64s(1)), body), `key "k" at byte 24: unknown value type 99 at byte 37`},
		{"array of 2^62", raw(3, 0, 1, key("k", u32s(9, 4), u64s(1<<62)), body),
			`key "k" at byte 24: 4611686018427387904 array items at byte 41; the limit is 16777216`},
		{"array of 2^24 in 256 bytes", raw(3, 0, 1, key("k", u32s(9, 8), u64s(1<<24)), body),
			`key "k" at byte 24: 16777216 array items at byte 41 do not fit the 256 bytes that follow`},
		{"array of bools, one 3", raw(3, 0, 1, key("k", u32s(9, 7), u64s(2), []byte{1, 3})), `key "k" at byte 24: bool 1 has the value 3`},
		{"array with a long string", raw(3, 0, 1, key("k", u32s(9, 8), u64s(2), text("a"), u64s(1<<40)), body),
			`key "k" at byte 24: string 1 of 2: string of 1099511627776 bytes at byte 58 passes the end of the file at byte 322`},
		{"one key twice", raw(3, 0, 2, key("k", u32s(4, 1)), key("k", u32s(4, 1))), `key "k" at byte 41: a second one of that name`},
		{"alignment 0", raw(3, 0, 1, alignment(0)), `key "general.alignment": 0 is not a power of two up to 4096`},
		{"alignment 7", raw(3, 0, 1, alignment(7)), `key "general.alignment": 7 is not a power of two up to 4096`},
		{"alignment 8192", raw(3, 0, 1, alignment(8192)), `key "general.alignment": 8192 is not a power of two up to 4096`},
		{"alignment a string", raw(3, 0, 1, key(alignmentKey, u32s(8), text("32"))), `key "general.alignment": string, want uint32`},
		{"tensor without dims", raw(3, 1, 0, entry("t", 0, 0), body), `tensor "t" at byte 24: 0 dims; supported are 1 to 4`},
		{"tensor of 5 dims", raw(3, 1, 0, entry("t", 0, 0, 1, 1, 1, 1, 1), body), `tensor "t" at byte 24: 5 dims; supported are 1 to 4`},
		{"dim 0", raw(3, 1, 0, entry("t", 0, 0, 4, 0), body), `tensor "t" at byte 24: dim 1 is 0`},
		{"dim 2^63", raw(3, 1, 0, entry("t", 0, 0, 1<<63), body), `tensor "t" at byte 24: dim 0 is 9223372036854775808`},
		{"2^40 x 2^40", raw(3, 1, 0, entry("t", 0, 0, 1<<40, 1<<40), body), `tensor "t": dims [1099511627776 1099511627776] of F32 overflow`},
		{"a row that overflows", raw(3, 1, 0, entry("t", 0, 0, 1<<62), body),
			`tensor "t": row of 4611686018427387904: quant: 4611686018427387904 elements of F32 overflow the address space`},
		{"type 999", raw(3, 1, 0, entry("t", 999, 0, 4), body), `tensor "t" at byte 24: unknown tensor type 999`},
		{"type 4, given up", raw(3, 1, 0, entry("t", 4, 0, 4), body), `tensor "t" at byte 24: unknown tensor type 4`},
		{"part of a block", raw(3, 1, 0, entry("t", 2, 0, 33), body), `tensor "t": row of 33: quant: 33 elements are not whole Q4_0 blocks of 32`},
		{"offset 2^62", raw(3, 1, 0, entry("t", 0, 1<<62, 4), body),
			`tensor "t": 16 bytes at offset 4611686018427387904 of the data (which begins at byte 64) pass the end of the file at byte 313`},
		{"offset that wraps to the header", raw(3, 1, 0, entry("t", 0, math.MaxUint64-31, 4), body),
			`tensor "t": 16 bytes at offset 18446744073709551584 of the data (which begins at byte 64) pass the end of the file at byte 313`},
		{"offset 4", raw(3, 1, 0, entry("t", 0, 4, 4), body), `tensor "t": offset 4 is not a multiple of the alignment 32`},
		{"data past the end", raw(3, 1, 0, entry("t", 0, 224, 16), body),
			`tensor "t": 64 bytes at offset 224 of the data (which begins at byte 64) pass the end of the file at byte 313`},
		{"file ends in the padding", raw(3, 1, 0, entry("t", 24, 0, 1)), // 57 bytes, the data would begin at 64
			`tensor "t": 1 bytes at offset 0 of the data (which begins at byte 64) pass the end of the file at byte 57`},
		{"one tensor twice", raw(3, 2, 0, entry("t", 0, 0, 4), entry("t", 0, 32, 4), body), `tensor "t" at byte 57: a second one of that name`},
		{"tensor without name", raw(3, 1, 0, entry("", 0, 0, 4), body), `tensor 0 of 1 at byte 24: an empty name`},
	}
}

func TestHostileFiles(t *testing.T) {
	for _, h := range hostiles() {
		f, err := Parse(h.data)
		if f != nil || err == nil || err.Error() != "gguf: "+h.want {
			t.Errorf("%s: %v\nwant gguf: %s", h.name, err, h.want)
		}
	}
}

// A long name from the file does not become a long error.
func TestErrorsAreShort(t *testing.T) {
	_, err := Parse(raw(3, 0, 1, text(strings.Repeat("k", 1<<16)), u32s(13)))
	if err == nil || len(err.Error()) > 200 {
		t.Errorf("error of %d bytes", len(fmt.Sprint(err)))
	}
}

// Cut anywhere, the small file is refused: its last tensor ends with it.
func TestTruncatedAnywhere(t *testing.T) {
	data := smallFile()
	for n := range data {
		if _, err := Parse(data[:n:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(data))
		}
	}
}

func TestVersion2IsRead(t *testing.T) {
	data := smallFile()
	data[4] = 2
	if f := mustParse(t, data); len(f.Tensors()) != 3 || len(f.Keys()) != 10 {
		t.Errorf("version 2: %d tensors, %d keys", len(f.Tensors()), len(f.Keys()))
	}
}

func TestBuilderReplacesAndRefuses(t *testing.T) {
	b := NewBuilder()
	b.Set("k", uint32(1))
	b.Set("k", "two")
	if s, ok := mustParse(t, b.Bytes()).String("k"); s != "two" || !ok {
		t.Errorf("k is %q %v, want two", s, ok)
	}
	for what, f := range map[string]func(){
		"a value of no type":   func() { b.Set("k", 1) },
		"data of a wrong size": func() { b.Add("t", quant.F32, []int{2}, counting(4)) },
	} {
		if !panics(f) {
			t.Errorf("%s did not panic", what)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}
