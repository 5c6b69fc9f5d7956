package quant

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The package quantises the first ones and decodes all.
var (
	quantised   = []Format{F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1}
	withFixture = append(quantised[:7:7], Q4_K, Q5_K, Q6_K)
)

func fixture(t *testing.T, f Format, suffix string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", strings.ToLower(f.String())+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func floats(t *testing.T, data []byte) []float32 {
	t.Helper()
	out := make([]float32, len(data)/4)
	if err := Dequantize(F32, data, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// testdata/make.py: the same inputs, quantised by other software -> the same bytes.
func TestQuantizeAsTheGGUFPackageDoes(t *testing.T) {
	for _, f := range quantised {
		src, want := floats(t, fixture(t, f, ".src")), fixture(t, f, ".bytes")
		got := make([]byte, len(want))
		if err := Quantize(f, src, got); err != nil {
			t.Fatal(err)
		}
		elems, size := f.Block()
		for i := 0; i < len(src)/elems; i++ {
			if g, w := got[i*size:(i+1)*size], want[i*size:(i+1)*size]; !bytes.Equal(g, w) {
				t.Fatalf("%s block %d of %v: %x, want %x", f, i, src[i*elems:(i+1)*elems], g, w)
			}
		}
	}
}

// testdata/make.py: random blocks, decoded by other software -> the same values, bit for bit.
func TestDequantizeAsTheGGUFPackageDoes(t *testing.T) {
	for _, f := range withFixture {
		blocks, want := fixture(t, f, ".blocks"), floats(t, fixture(t, f, ".values"))
		got := make([]float32, len(want))
		if err := Dequantize(f, blocks, got); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%s element %d: %v, want %v", f, i, got[i], want[i])
			}
		}
	}
}

// testdata/types.txt lists every type that the package knows; the table holds these and no others.
func TestTypeTable(t *testing.T) {
	file, err := os.Open("testdata/types.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := map[Format]layout{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var f Format
		var l layout
		if _, err := fmt.Sscan(lines.Text(), &f, &l.name, &l.elems, &l.bytes); err != nil {
			t.Fatal(err)
		}
		want[f] = l
	}
	for f := Format(0); f < 1000; f++ {
		elems, size := f.Block()
		if w := want[f]; elems != w.elems || size != w.bytes || f.Known() != (w.elems > 0) {
			t.Errorf("type %d: %d elements in %d bytes, want %+v", uint32(f), elems, size, w)
		}
		if w, ok := want[f]; ok && f.String() != w.name {
			t.Errorf("type %d is named %s, want %s", uint32(f), f, w.name)
		}
	}
}

// A half that is widened and narrowed is itself; only a signalling NaN turns quiet, as it does in hardware.
func TestEveryHalfRoundTrips(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		want := h
		if h&0x7c00 == 0x7c00 && h&0x3ff != 0 {
			want |= 0x200
		}
		if got := F16Bits(F16Value(h)); got != want {
			t.Fatalf("half %#04x -> %v -> %#04x, want %#04x", h, F16Value(h), got, want)
		}
	}
}

func TestHalfValues(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		half  uint16
		value float32
	}{
		{0x0000, 0}, {0x0001, 0x1p-24}, {0x03ff, 0x3ffp-24}, {0x0400, 0x1p-14}, {0x3555, 0.333251953125},
		{0x3c00, 1}, {0x3c01, 1 + 0x1p-10}, {0x7bff, 65504}, {0x7c00, inf}, {0xfc00, -inf}, {0xbc00, -1},
	} {
		if got := F16Value(c.half); got != c.value {
			t.Errorf("value of %#04x: %v, want %v", c.half, got, c.value)
		}
	}
	if bits := math.Float32bits(F16Value(0x8000)); bits != 1<<31 {
		t.Errorf("value of 0x8000: bits %#x, want minus zero", bits)
	}
	if bits := math.Float32bits(F16Value(0xfd01)); bits != 0xffe02000 {
		t.Errorf("value of NaN 0xfd01: bits %#x, want 0xffe02000", bits)
	}
}

// Between two neighbouring halves a value goes to the nearer, and the middle to the even one; all pairs, both signs.
func TestHalfRoundingBetweenNeighbours(t *testing.T) {
	for h := uint16(0); h < 0x7c00; h++ {
		low, high := float64(F16Value(h)), float64(F16Value(h+1))
		if h == 0x7bff {
			high = 65536 // where the next half would be, were there one
		}
		middle := float32((low + high) / 2)
		even := h + h&1
		below, above := math.Nextafter32(middle, 0), math.Nextafter32(middle, 1e6)
		if a, b, c := F16Bits(below), F16Bits(middle), F16Bits(above); a != h || b != even || c != h+1 {
			t.Fatalf("around %v: %#04x %#04x %#04x, want %#04x %#04x %#04x", middle, a, b, c, h, even, h+1)
		}
		if got := F16Bits(-middle); got != even|0x8000 {
			t.Fatalf("%v -> %#04x, want %#04x", -middle, got, even|0x8000)
		}
	}
}

func TestHalfAtTheEnds(t *testing.T) {
	for _, c := range []struct {
		bits uint32
		half uint16
	}{
		{0x00000001, 0x0000}, {0x80000001, 0x8000}, {0x007fffff, 0x0000}, // float32 subnormals
		{0x7f7fffff, 0x7c00}, {0xff7fffff, 0xfc00}, {0x7f800000, 0x7c00}, {0xff800000, 0xfc00},
		{0x477fefff, 0x7bff}, {0x477ff000, 0x7c00}, // 65519.99, 65520
		{0x7f800001, 0x7e00}, {0xffffffff, 0xffff}, {0x7fa00000, 0x7f00}, // NaNs
	} {
		if got := F16Bits(math.Float32frombits(c.bits)); got != c.half {
			t.Errorf("float32 bits %#x -> %#04x, want %#04x", c.bits, got, c.half)
		}
	}
}

// A decoded element is within half a step of what was encoded; the far end of a signed scale within a whole one.
// Superblocks round their scales and minima to 1/63 and 1/128 of the largest, so that they are measured by that.
func TestQuantizeIsClose(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for f, parts := range map[Format]float64{
		Q8_0: 127, Q4_0: 8, Q4_1: 15, Q5_0: 16, Q5_1: 31, Q4_K: 15, Q5_K: 31, Q6_K: 32,
	} {
		for range 300 {
			src := make([]float32, 512)
			for i := range src {
				src[i] = float32(rng.NormFloat64())
			}
			got := throughBytes(t, f, src)
			elems, _ := f.Block()
			for i := range src {
				low, high := extremes(src[i/elems*elems:][:elems])
				span := float64(max(high, -low))
				if f == Q4_1 || f == Q5_1 || f == Q4_K || f == Q5_K {
					span = float64(high - low)
				}
				bound := span/parts + 0.002*float64(max(high, -low))
				if diff := math.Abs(float64(got[i] - src[i])); diff > bound {
					t.Fatalf("seed %d: %s element %d: %v became %v, off by more than %v", seed, f, i, src[i], got[i], bound)
				}
			}
		}
	}
}

// throughBytes encodes src and decodes what that gave.
func throughBytes(t *testing.T, f Format, src []float32) []float32 {
	t.Helper()
	n, err := RowBytes(f, len(src))
	if err != nil {
		t.Fatal(err)
	}
	data, got := make([]byte, n), make([]float32, len(src))
	if err := Quantize(f, src, data); err != nil {
		t.Fatal(err)
	}
	if err := Dequantize(f, data, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// What a superblock holds exactly comes back exactly: whole codes, scales and minima of which one is 63, or 128 below.
func TestSuperblocksKeepWholeNumbers(t *testing.T) {
	for f, top := range map[Format]int{Q4_K: 15, Q5_K: 31, Q6_K: 31} {
		src := make([]float32, 256)
		for i := range src {
			g := i / 32
			src[i] = float32(i%(top+1)*(63-5*g)) - float32(63-7*g)
			if i%32 == 0 {
				src[i] = float32(-(63 - 7*g))
			}
			if i%32 == 1 {
				src[i] = float32(top*(63-5*g) - (63 - 7*g))
			}
			if f == Q6_K {
				src[i] = float32((i%64 - 32) * (127 - 3*(i/16)))
				if i%16 == 0 {
					src[i] = float32(-32 * (127 - 3*(i/16)))
				}
			}
			if f == Q6_K && i < 16 {
				src[i] = float32((i - 32) * -128)
			}
		}
		got := throughBytes(t, f, src)
		for i, x := range src {
			if got[i] != x {
				t.Fatalf("%s element %d: %v became %v", f, i, x, got[i])
			}
		}
	}
}

// Inputs that are no numbers give some bytes, never a panic; the same ones everywhere.
func TestQuantizeOfNonsense(t *testing.T) {
	src := make([]float32, 256)
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e-45, 3e38, -3e38} {
		src[i] = float32(v)
	}
	for _, f := range []Format{Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K} {
		n, _ := RowBytes(f, len(src))
		a, b := make([]byte, n), bytes.Repeat([]byte{0xff}, n)
		if err := Quantize(f, src, a); err != nil {
			t.Fatal(err)
		}
		if err := Quantize(f, src, b); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %x then %x, %v", f, a, b, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	check := func(what string, err error, want string) {
		t.Helper()
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	_, err := RowBytes(999, 32)
	check("unknown type", err, "quant: unknown tensor type 999")
	_, err = RowBytes(Q8_0, 33)
	check("part of a block", err, "quant: 33 elements are not whole Q8_0 blocks of 32")
	_, err = RowBytes(F32, -1)
	check("negative", err, "quant: -1 elements are not whole F32 blocks of 1")
	_, err = RowBytes(F32, 1<<62)
	check("overflow", err, "quant: 4611686018427387904 elements of F32 overflow the address space")
	check("short source", Dequantize(Q4_1, make([]byte, 19), make([]float32, 32)),
		"quant: 32 elements of Q4_1 take 20 bytes, not 19")
	check("no codec", Quantize(10, make([]float32, 256), make([]byte, 84)),
		"quant: no codec for Q2_K; supported are F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16")
	_, err = RowBytes(Q4_K, 896)
	check("part of a superblock", err, "quant: 896 elements are not whole Q4_K blocks of 256")
	if n, err := RowBytes(Q4_1, 576); n != 360 || err != nil {
		t.Errorf("576 of Q4_1: %d, %v, want 360 bytes", n, err)
	}
	if f := Format(10); !f.Known() || f.Supported() || Format(4).Known() || !Q4_1.Supported() {
		t.Error("Q2_K is named without codec, 4 is no type, Q4_1 has a codec")
	}
}

// 64 tokens of head dim 64; then sizes that are rounded up to a cache line.
func TestHalfBytes(t *testing.T) {
	for _, c := range []struct {
		form           KVForm
		name           string
		k, lanes, want int
	}{
		{KVF16, "f16", 64, 64, 8192}, {KVQ8, "q8", 64, 64, 4352}, {KVQ4, "q4", 64, 64, 2304}, {KVQ3, "q3", 64, 64, 1792},
		{KVF32, "f32", 64, 64, 16384}, {KVF16, "f16", 64, 3, 384}, {KVQ8, "q8", 16, 64, 1088}, {KVQ4, "q4", 8, 64, 320}, {KVQ4, "q4", 4, 2, 64},
		{KVQ3, "q3", 256, 64, 7168}, {KVQ3, "q3", 64, 256, 6400}, {KVQ3, "q3", 16, 64, 448},
	} {
		if got := c.form.HalfBytes(c.k, c.lanes); got != c.want || c.form.String() != c.name {
			t.Errorf("%s half block of %d x %d: %d bytes, want %s with %d", c.form, c.k, c.lanes, got, c.name, c.want)
		}
	}
}

func TestF32IsLittleEndian(t *testing.T) {
	data := make([]byte, 4)
	if err := Quantize(F32, []float32{-1.5}, data); err != nil || binary.LittleEndian.Uint32(data) != 0xbfc00000 {
		t.Errorf("-1.5 as F32: %x, %v", data, err)
	}
}
