package tensor

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"mneme/internal/quant"
	"mneme/internal/team"
	"mneme/internal/tensor/tile"
)

// begun is an Act with rows of x set by k.
func begun(t testing.TB, k *Kernels, x []float32, rows int, ws ...*Weights) *Act {
	a, err := NewAct(rows, ws[0].K(), take)
	if err != nil {
		t.Fatal(err)
	}
	a.Begin(rows, ws...)
	for i := range rows {
		k.SetRow(a, i, x[i*a.k:][:a.k])
	}
	return a
}

// product is x times w [rows, PaddedN], by parts workers one after the other.
func product(t *testing.T, k *Kernels, w *Weights, x []float32, rows, parts int) []float32 {
	t.Helper()
	a := begun(t, k, x, rows, w)
	ld := w.PaddedN() + 5
	dst, intact := guardedFloats(t, (a.PaddedRows()-1)*ld+w.PaddedN(), 1)
	for i := range dst {
		dst[i] = floatCanary
	}
	for part := range parts {
		k.MatMul(dst, ld, w, a, part, parts)
	}
	intact()
	out := make([]float32, 0, rows*w.PaddedN())
	for i := range rows {
		out = append(out, dst[i*ld:][:w.PaddedN()]...)
		for j := i*ld + w.PaddedN(); j < min(len(dst), (i+1)*ld); j++ {
			if math.Float32bits(dst[j]) != math.Float32bits(floatCanary) {
				t.Fatalf("row %d of %d: wrote column %d of %d", i, rows, j-i*ld, w.PaddedN())
			}
		}
	}
	return out
}

// rounded is what the int8 panel holds of a row.
func rounded(a *Act, row int) []float32 {
	panel, at := a.place(row)
	x := make([]float32, a.k)
	for i := range x {
		p := panel[i/groupLen*at.stride:]
		scale := math.Float32frombits(binary.LittleEndian.Uint32(p[at.scale:]))
		x[i] = float32(int8(p[at.codes+i%groupLen])) * scale
	}
	return x
}

// productError is how far got is from the product in f64, relative to its size.
func productError(got []float32, w *Weights, x []float32, row func(int) []float32) float64 {
	var wrong, all float64
	weights := make([]float32, w.K())
	for n := range w.N() {
		w.Row(n, weights)
		for m := range len(got) / w.PaddedN() {
			var sum float64
			for k, v := range row(m) {
				sum += float64(v) * float64(weights[k])
			}
			d := sum - float64(got[m*w.PaddedN()+n])
			wrong, all = wrong+d*d, all+sum*sum
		}
	}
	return math.Sqrt(wrong / all)
}

// Against f64 with the activations as they were rounded a product is exact up
// to f32 sums; against those given it carries int8's half per cent.
func TestMatMul(t *testing.T) {
	r := seeded(t)
	eachVariant(t, func(t *testing.T, k *Kernels) {
		for _, f := range append(append(quantised, superblocks...), quant.F16) {
			w := randomMatrix(t, r, 40, widthFor(f, 352), f).pack(t, k)
			for _, rows := range []int{1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 33} {
				x := normals(r, rows*w.K(), 0.3, 1)
				got := product(t, k, w, x, rows, 2)
				given := func(m int) []float32 { return x[m*w.K():][:w.K()] }
				if f == quant.F16 {
					if e := productError(got, w, x, given); e > 1e-5 {
						t.Errorf("%v, %d rows: off by %g", f, rows, e)
					}
					continue
				}
				a := begun(t, k, x, rows, w)
				if e := productError(got, w, x, given); e > 0.01 {
					t.Errorf("%v, %d rows: off by %g", f, rows, e)
				}
				if e := productError(got, w, x, func(m int) []float32 { return rounded(a, m) }); e > 1e-5 {
					t.Errorf("%v, %d rows: off by %g without rounding", f, rows, e)
				}
			}
		}
	})
}

// Any width works: columns to 300, those of a dense matrix one by one.
func TestMatMulWidths(t *testing.T) {
	r := seeded(t)
	eachVariant(t, func(t *testing.T, k *Kernels) {
		for width := 1; width <= 300; width++ {
			formats := []quant.Format{quant.F32}
			if width%groupLen == 0 {
				formats = append(formats, quantised...)
			}
			if width%256 == 0 {
				formats = append(formats, superblocks...)
			}
			w := randomMatrix(t, r, 16*len(formats)+1, width, formats...).pack(t, k)
			x := normals(r, 3*width, 0.3, 1)
			got := product(t, k, w, x, 3, 1)
			if e := productError(got, w, x, func(m int) []float32 { return x[m*width:][:width] }); e > 0.015 {
				t.Errorf("width %d: off by %g", width, e)
			}
		}
	})
}

// A product's bits do not depend on how many rows there are, where a row
// stands, or how many workers share the panels.
func TestRowsAreIndependent(t *testing.T) {
	r := seeded(t)
	eachVariant(t, func(t *testing.T, k *Kernels) {
		for _, formats := range [][]quant.Format{
			{quant.Q8_0}, {quant.Q4_0}, {quant.Q4_1}, {quant.Q5_0}, {quant.Q5_1}, {quant.F32},
			{quant.Q4_1, quant.F16, quant.Q8_0, quant.Q4_0, quant.Q5_1, quant.Q5_0},
			{quant.Q4_K}, {quant.Q5_K}, {quant.Q6_K, quant.Q4_K, quant.Q5_0, quant.Q5_K, quant.Q8_0},
		} {
			w := randomMatrix(t, r, 120, widthFor(formats[0], 224), formats...).pack(t, k)
			const most = 50
			x := normals(r, most*w.K(), 0.3, 1)
			var alone [][]float32
			for m := range most {
				alone = append(alone, product(t, k, w, x[m*w.K():], 1, 1))
			}
			for rows := 1; rows <= most; rows++ {
				first, parts := r.IntN(most-rows+1), 1+r.IntN(9)
				got := product(t, k, w, x[first*w.K():], rows, parts)
				for m := range rows {
					if err := sameBits(got[m*w.PaddedN():][:w.PaddedN()], alone[first+m]); err != nil {
						t.Fatalf("%v: row %d, as number %d of %d, %d parts: %v", formats, first+m, m, rows, parts, err)
					}
				}
			}
		}
	})
}

// With scales that are powers of two every f32 sum is exact, so all variants
// must give the same bits: their integers are equal.
func TestVariantsAgreeOnExactData(t *testing.T) {
	r := seeded(t)
	for _, f := range append(quantised, quant.Q4_K, quant.Q5_K) {
		m := exactMatrix(r, f, 48, widthFor(f, 192))
		for _, rows := range []int{1, 2, 3, 4, 8, 12, 16, 20} {
			x := exactRows(r, rows, m.k)
			var truth []float32
			for _, k := range Variants() {
				w := m.pack(t, k)
				got := product(t, k, w, x, rows, 1)
				if e := productError(got, w, x, func(i int) []float32 { return x[i*m.k:][:m.k] }); e != 0 {
					t.Errorf("%s %v: off by %g", k.Name(), f, e)
				}
				if truth == nil {
					truth = got
				}
				if err := sameBits(truth, got); err != nil {
					t.Errorf("%s and %s, %v, %d rows: %v", Variants()[0].Name(), k.Name(), f, rows, err)
				}
			}
		}
	}
}

// exactMatrix has any codes, scales 2^-3..2^0 and minima that are multiples of
// 1/8; in superblocks up to 7 times as much.
func exactMatrix(r *rand.Rand, f quant.Format, n, k int) *matrix {
	m := &matrix{n: n, k: k, formats: []quant.Format{f}}
	elems, size := f.Block()
	for range n {
		raw := make([]byte, k/elems*size)
		for b := 0; b < len(raw); b += size {
			for i := range size {
				raw[b+i] = byte(r.Uint32())
			}
			binary.LittleEndian.PutUint16(raw[b:], quant.F16Bits(float32(math.Ldexp(1, -r.IntN(4)))))
			if f != quant.Q8_0 && f != quant.Q4_0 && f != quant.Q5_0 {
				binary.LittleEndian.PutUint16(raw[b+2:], quant.F16Bits(float32(r.IntN(65)-32)/8))
			}
			if elems == 256 {
				for i := range 12 {
					raw[b+4+i] &= 0x07 | byte(i/8*0x70)
				}
			}
		}
		m.rows = append(m.rows, raw)
	}
	return m
}

// exactRows have in each group integers up to 127 times a power of two.
func exactRows(r *rand.Rand, rows, k int) []float32 {
	x := make([]float32, rows*k)
	for i := range x {
		if i%k%groupLen == 0 {
			x[i] = 127
		} else {
			x[i] = float32(r.IntN(255) - 127)
		}
	}
	for g := 0; g < len(x); g += groupLen {
		scale := float32(math.Ldexp(1, -r.IntN(3)))
		for i := range x[g:min(len(x), g+groupLen)] {
			x[g+i] *= scale
		}
	}
	return x
}

// Quantised activations are equal bytes in all variants, for every length to
// 300, from odd places; the row's neighbours are not touched.
func TestQuantisedRowsAreEqual(t *testing.T) {
	r := seeded(t)
	for n := 1; n <= 300; n++ {
		x := normals(r, n+1, 0, math.Exp(r.NormFloat64()*3))[1:]
		if n%7 == 0 {
			clear(x[:min(n, 40)])
		}
		w := &Weights{n: 16, k: n, parts: []part{{kind: tile.Q8, count: 1}}}
		var first []byte
		for _, k := range Variants() {
			a, err := NewAct(7, n, func(size int) ([]byte, error) {
				b := make([]byte, size)
				for i := range b {
					b[i] = 0x5A
				}
				return b, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			a.Begin(7, w)
			k.SetRow(a, 4, x)
			if first == nil {
				first = a.codes
			}
			if string(first) != string(a.codes) {
				t.Fatalf("length %d: panels of %s and %s differ", n, Variants()[0].Name(), k.Name())
			}
			for i, v := range rounded(a, 4) {
				if d := float64(v - x[i]); math.Abs(d) > most(x)*0.51/127 {
					t.Fatalf("%s, length %d: %v became %v", k.Name(), n, x[i], v)
				}
			}
		}
	}
}

func most(x []float32) (m float64) {
	for _, v := range x {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}

// silu(gate)*up equals what MatMul and f64 make of the same panels, also when
// gate and up differ in format.
func TestGateUp(t *testing.T) {
	r := seeded(t)
	eachVariant(t, func(t *testing.T, k *Kernels) {
		for _, formats := range [][]quant.Format{
			{quant.Q4_1}, {quant.F16}, {quant.Q8_0, quant.Q4_0}, {quant.F32, quant.F32, quant.Q4_1, quant.Q8_0},
			{quant.Q5_0, quant.Q5_1}, {quant.Q4_K, quant.Q6_K}, {quant.Q5_K, quant.Q4_K, quant.Q5_0},
		} {
			w := randomMatrix(t, r, 96, widthFor(formats[0], 160), formats...).pack(t, k)
			for _, rows := range []int{1, 3, 6, 16, 35} {
				x := normals(r, rows*w.K(), 0.3, 3)
				plain := product(t, k, w, x, rows, 1)
				a := begun(t, k, x, rows, w)
				const ff, ld = 48, 51
				dst, intact := guardedFloats(t, (a.PaddedRows()-1)*ld+ff, 1)
				for part := range 2 {
					k.GateUp(dst, ld, w, a, part, 2, make([]float32, 512))
				}
				intact()
				for m := range rows {
					for i := range ff {
						at := m*w.PaddedN() + i/16*32 + i%16
						gate, up := float64(plain[at]), float64(plain[at+16])
						want, got := gate/(1+math.Exp(-gate))*up, float64(dst[m*ld+i])
						if math.Abs(want-got) > 1e-5*(1e-3+math.Abs(want)) {
							t.Fatalf("%v, %d rows: silu(%g)*%g is %g, not %g", formats, rows, gate, up, want, got)
						}
					}
				}
			}
		}
	})
}

// A team sets the rows and shares the panels; the result is that of one worker.
func TestTeamSharesTheWork(t *testing.T) {
	r := seeded(t)
	three := team.New(3)
	defer three.Close()
	eachVariant(t, func(t *testing.T, k *Kernels) {
		const rows = 37
		w := randomMatrix(t, r, 112, 96, quant.Q4_1, quant.F16).pack(t, k)
		x := normals(r, rows*w.K(), 0, 1)
		a, err := NewAct(rows, w.K(), take)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 48*w.PaddedN())
		a.Begin(rows, w)
		three.Run(func(job team.Worker) {
			for row := job.ID; row < rows; row += job.N {
				k.SetRow(a, row, x[row*w.K():][:w.K()])
			}
			job.Barrier()
			k.MatMul(got, w.PaddedN(), w, a, job.ID, job.N)
		})
		if err := sameBits(product(t, k, w, x, rows, 1), got); err != nil {
			t.Error(err)
		}
	})
}

func TestMisuseIsRefused(t *testing.T) {
	k := Variants()[0]
	r := seeded(t)
	w := randomMatrix(t, r, 16, 64, quant.Q8_0).pack(t, k)
	dense := randomMatrix(t, r, 16, 64, quant.F16).pack(t, k)
	narrow := randomMatrix(t, r, 16, 32, quant.Q8_0).pack(t, k)
	a := begun(t, k, make([]float32, 5*64), 5, w)
	dst := make([]float32, 8*16)
	for name, misuse := range map[string]func(){
		"dst too short":        func() { k.MatMul(dst[:8*16-1], 16, w, a, 0, 1) },
		"ld too small":         func() { k.MatMul(dst, 15, w, a, 0, 1) },
		"other K":              func() { k.MatMul(dst, 16, narrow, a, 0, 1) },
		"not begun for dense":  func() { k.MatMul(dst, 16, dense, a, 0, 1) },
		"odd number of panels": func() { k.GateUp(dst, 16, w, a, 0, 1, make([]float32, 512)) },
		"row outside":          func() { k.SetRow(a, 5, make([]float32, 64)) },
		"row of other length":  func() { k.SetRow(a, 0, make([]float32, 63)) },
		"too many rows":        func() { a.Begin(6, w) },
		"two widths":           func() { a.Begin(1, w, narrow) },
	} {
		if !panics(misuse) {
			t.Errorf("%s: no panic", name)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestStepAllocatesNothing(t *testing.T) {
	r := seeded(t)
	eachVariant(t, func(t *testing.T, k *Kernels) {
		w := randomMatrix(t, r, 32, 160, quant.Q4_1, quant.F16).pack(t, k)
		x := normals(r, w.K(), 0, 1)
		a := begun(t, k, x, 1, w)
		dst, tile := make([]float32, 32), make([]float32, 512)
		allocations := testing.AllocsPerRun(10, func() {
			a.Begin(1, w)
			k.SetRow(a, 0, x)
			k.MatMul(dst, 32, w, a, 0, 1)
			k.GateUp(dst, 32, w, a, 0, 1, tile)
			k.RMSNorm(x, x, x, 1e-5)
		})
		if allocations != 0 {
			t.Errorf("%v allocations", allocations)
		}
	})
}
