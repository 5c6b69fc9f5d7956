package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"mneme/internal/quant"
)

// eachVariant tells the same story to every variant of this machine.
func eachVariant(t *testing.T, story func(t *testing.T, k *Kernels)) {
	for _, k := range Variants() {
		t.Run(k.Name(), func(t *testing.T) { story(t, k) })
	}
}

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func normals(r *rand.Rand, n int, mean, deviation float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64()*deviation + mean)
	}
	return x
}

func take(n int) ([]byte, error) { return make([]byte, n), nil }

// matrix is a matrix in file bytes: the format changes from panel to panel.
type matrix struct {
	n, k    int
	formats []quant.Format
	rows    [][]byte
}

func randomMatrix(t *testing.T, r *rand.Rand, n, k int, formats ...quant.Format) *matrix {
	m := &matrix{n: n, k: k, formats: formats}
	for i := range n {
		f := m.format(i)
		size, err := quant.RowBytes(f, k)
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, size)
		if err := quant.Quantize(f, normals(r, k, 0.02, 0.05), raw); err != nil {
			t.Fatal(err)
		}
		m.rows = append(m.rows, raw)
	}
	return m
}

func (m *matrix) format(i int) quant.Format               { return m.formats[i/panelRows%len(m.formats)] }
func (m *matrix) source(i int) (f quant.Format, b []byte) { return m.format(i), m.rows[i] }

func (m *matrix) pack(t testing.TB, k *Kernels) *Weights {
	w, err := k.Pack(m.n, m.k, m.source, take)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// values is the dequantised row i.
func (m *matrix) values(t *testing.T, i int) []float32 {
	x := make([]float32, m.k)
	if err := quant.Dequantize(m.format(i), m.rows[i], x); err != nil {
		t.Fatal(err)
	}
	return x
}

// The formats of 32 columns, and those of 256.
var (
	quantised   = []quant.Format{quant.Q8_0, quant.Q4_0, quant.Q4_1, quant.Q5_0, quant.Q5_1}
	superblocks = []quant.Format{quant.Q4_K, quant.Q5_K, quant.Q6_K}
)

// widthFor is k, cut to whole blocks of a format.
func widthFor(f quant.Format, k int) int {
	elems, _ := f.Block()
	return max(k/elems, 1) * elems
}

// floatCanary is a bit pattern that no kernel computes.
var floatCanary = math.Float32frombits(0x7fc0dead)

// guardedFloats is n floats at an odd place with canaries around, and their check.
func guardedFloats(t *testing.T, n, offset int) ([]float32, func()) {
	all := make([]float32, offset+n+32)
	for i := range all {
		all[i] = floatCanary
	}
	return all[offset : offset+n], func() {
		t.Helper()
		for i, v := range all {
			if (i < offset || i >= offset+n) && math.Float32bits(v) != math.Float32bits(floatCanary) {
				t.Fatalf("wrote %v at %d, outside %d..%d", v, i, offset, offset+n)
			}
		}
	}
}

func sameBits(a, b []float32) error {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return fmt.Errorf("at %d of %d: %v and %v", i, len(a), a[i], b[i])
		}
	}
	return nil
}

func TestPick(t *testing.T) {
	best, err := Pick("")
	if err != nil || best != Variants()[0] {
		t.Errorf("best: %v, %v", best, err)
	}
	generic, err := Pick("generic")
	if err != nil || generic.Name() != "generic" || generic.Class() != "generic-2" {
		t.Errorf("generic: %v, %v", generic, err)
	}
	if _, err := Pick("mmx"); err == nil || !strings.Contains(err.Error(), `"mmx"`) || !strings.Contains(err.Error(), "generic") {
		t.Errorf("unknown name: %v", err)
	}
}

// A processor that runs the AVX-512 kernels names all that they ask for.
func TestFeatures(t *testing.T) {
	const all = "avx2 fma f16c bmi2 avx512f avx512bw avx512dq avx512vl avx512_vnni"
	has := strings.Join(Features(), " ")
	if runs := Variants()[0].Name() == "avx512vnni"; runs && has != all {
		t.Errorf("features %s, want %s", has, all)
	}
}
