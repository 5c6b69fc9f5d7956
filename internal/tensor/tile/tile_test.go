package tile

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mneme/internal/quant"
)

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64()*0.05 + 0.01)
	}
	return x
}

func encoded(t *testing.T, f quant.Format, x []float32) []byte {
	t.Helper()
	n, err := quant.RowBytes(f, len(x))
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, n)
	if err := quant.Quantize(f, x, raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

func decoded(t *testing.T, f quant.Format, raw []byte, n int) []float32 {
	t.Helper()
	x := make([]float32, n)
	if err := quant.Dequantize(f, raw, x); err != nil {
		t.Fatal(err)
	}
	return x
}

// Rows of any bytes come back as the file's own codec gives them, bit for bit,
// and what the kernels read, code by code, means the same.
func TestRowsComeBack(t *testing.T) {
	const k = 512
	r := seeded(t)
	for f, kind := range kindOf {
		if f == quant.Q6_K {
			continue
		}
		panel := make([]byte, kind.PanelBytes(k/Cols))
		var want [Rows][]float32
		for i := range want {
			raw := encoded(t, f, normals(r, k))
			if kind != Dense {
				scramble(r, f, raw)
			}
			kind.PutRow(panel, i, f, raw, k)
			want[i] = decoded(t, f, raw, k)
		}
		for i := range want {
			got := make([]float32, k)
			kind.GetRow(panel, i, got)
			if j := firstDifference(got, want[i]); j >= 0 {
				t.Fatalf("%s row %d column %d: %g, want %g", f, i, j, got[j], want[i][j])
			}
		}
		if kind != Dense {
			checkCodes(t, f, kind, panel, &want)
		}
	}
}

// scramble makes any bytes of what follows the halves of each block.
func scramble(r *rand.Rand, f quant.Format, raw []byte) {
	_, size := f.Block()
	for i := range raw {
		if i%size >= 4 {
			raw[i] = byte(r.Uint32())
		}
	}
}

func checkCodes(t *testing.T, f quant.Format, kind Kind, panel []byte, want *[Rows][]float32) {
	t.Helper()
	var codes [Rows][GroupLen]int32
	for g := range len(want[0]) / GroupLen {
		tile := kind.At(panel, g/2)
		tile.Codes(g%2, &codes)
		for i := range want {
			for j, c := range codes[i] {
				x := tile.Scale(i, g%2) * float32(c-kind.Offset())
				if kind.HasMinima() {
					x += tile.Least(i, g%2)
				}
				if w := want[i][GroupLen*g+j]; x != w {
					t.Fatalf("%s row %d column %d: codes say %g, want %g", f, i, GroupLen*g+j, x, w)
				}
			}
		}
	}
}

func firstDifference(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// A panel's bytes: 16 rows of 4 tiles.
func TestPanelBytes(t *testing.T) {
	var got []int
	for kind := range Kinds {
		got = append(got, kind.PanelBytes(4))
	}
	if want := []int{4352, 2304, 2560, 2816, 3072, 2368, 2880, 16384}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Q6_K in 8 bits: what a row loses, with the search for a scale and without,
// and that the panel holds exactly the requantised row.
func TestSixBitsInEight(t *testing.T) {
	const k, rows = 4096, 8
	r := seeded(t)
	var searched, plain, all float64
	for range rows {
		raw := encoded(t, quant.Q6_K, normals(r, k))
		want := decoded(t, quant.Q6_K, raw, k)
		best := decoded(t, quant.Q8_0, eightBits(raw, k), k)
		simple := decoded(t, quant.Q8_0, encoded(t, quant.Q8_0, want), k)
		for i, v := range want {
			searched += square(best[i] - v)
			plain += square(simple[i] - v)
			all += square(v)
		}
		panel, got := make([]byte, Q8.PanelBytes(k/Cols)), make([]float32, k)
		Q8.PutRow(panel, 3, quant.Q6_K, raw, k)
		Q8.GetRow(panel, 3, got)
		if i := firstDifference(got, best); i >= 0 {
			t.Fatalf("column %d: %g in the panel, %g requantised", i, got[i], best[i])
		}
	}
	with, without := math.Sqrt(searched/all), math.Sqrt(plain/all)
	t.Logf("relative error %.3f %%, %.3f %% without the search", 100*with, 100*without)
	if with > 0.0052 || with > 0.9*without {
		t.Errorf("relative error %g, %g without the search", with, without)
	}
}

func square(x float32) float64 { return float64(x) * float64(x) }

// Whatever this machine adds up with, the sums are those of the plain loop, bit
// for bit, so that a file is packed alike everywhere.
func TestLossesAreTheSame(t *testing.T) {
	r := seeded(t)
	for range 1000 {
		x := (*[GroupLen]float32)(normals(r, GroupLen))
		var here, plain tries
		for i := range here.d {
			here.d[i] = float64(quant.F16Value(quant.F16Bits(float32(math.Exp(r.NormFloat64()) / 1000))))
			here.inv[i] = 1 / here.d[i]
		}
		plain = here
		losses(x, &here)
		plainLosses(x, &plain)
		if here != plain {
			t.Fatalf("%v:\n%v here\n%v plain", *x, here.loss, plain.loss)
		}
	}
}

// Rows of zeros, and of numbers at both ends of what Q6_K has.
func TestSixBitsAtTheEnds(t *testing.T) {
	for _, x := range []float32{0, 1e-7, 6e4} {
		row := make([]float32, 256)
		row[7], row[200] = x, -x
		raw := encoded(t, quant.Q6_K, row)
		want := decoded(t, quant.Q6_K, raw, 256)
		got := decoded(t, quant.Q8_0, eightBits(raw, 256), 256)
		for i := range got {
			if math.Abs(float64(got[i]-want[i])) > math.Abs(float64(want[i]))/100 {
				t.Errorf("%g: element %d is %g, want %g", x, i, got[i], want[i])
			}
		}
	}
}

func BenchmarkPutRow(b *testing.B) {
	const k = 4096
	row := normals(rand.New(rand.NewPCG(1, 1)), k)
	for _, f := range []quant.Format{quant.Q4_1, quant.Q8_0, quant.Q5_0, quant.Q4_K, quant.Q5_K, quant.Q6_K} {
		b.Run(f.String(), func(b *testing.B) {
			n, _ := quant.RowBytes(f, k)
			raw := make([]byte, n)
			if err := quant.Quantize(f, row, raw); err != nil {
				b.Fatal(err)
			}
			kind := kindOf[f]
			panel := make([]byte, kind.PanelBytes(k/Cols))
			for b.Loop() {
				clear(panel)
				kind.PutRow(panel, 1, f, raw, k)
			}
			b.ReportMetric(float64(k)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "Gweights/s")
		})
	}
}
