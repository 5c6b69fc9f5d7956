package tensor

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"mneme/internal/quant"
)

// Every row reads back as the file's own codec gives it, whatever the format,
// and so do rows of a matrix whose format changes every panel.
func TestPackedRowsReadBack(t *testing.T) {
	r := seeded(t)
	mixed := []quant.Format{quant.Q8_0, quant.Q4_1, quant.Q4_1, quant.F16, quant.Q5_0, quant.Q4_0, quant.F32, quant.BF16, quant.Q5_1}
	supers := []quant.Format{quant.Q4_K, quant.Q5_K, quant.Q5_1, quant.Q4_K}
	for _, n := range []int{1, 15, 16, 17, 40, 112} {
		for _, k := range []int{32, 64, 96, 576} {
			for _, formats := range [][]quant.Format{
				{quant.Q8_0}, {quant.Q4_0}, {quant.Q4_1}, {quant.Q5_0}, {quant.Q5_1}, {quant.F32}, {quant.F16}, {quant.BF16}, mixed,
			} {
				checkRows(t, randomMatrix(t, r, n, k, formats...))
			}
		}
	}
	for _, k := range []int{256, 1024} {
		for _, formats := range [][]quant.Format{{quant.Q4_K}, {quant.Q5_K}, supers} {
			checkRows(t, randomMatrix(t, r, 70, k, formats...))
		}
	}
	for k := 1; k < 70; k++ {
		checkRows(t, randomMatrix(t, r, 3, k, quant.F16))
	}
}

func checkRows(t *testing.T, m *matrix) {
	t.Helper()
	w := m.pack(t, Variants()[0])
	if w.N() != m.n || w.K() != m.k || w.PaddedN() != (m.n+15)/16*16 {
		t.Fatalf("%d x %d became %d (%d) x %d", m.n, m.k, w.N(), w.PaddedN(), w.K())
	}
	for i := range m.n {
		got, intact := guardedFloats(t, m.k, 3)
		w.Row(i, got)
		intact()
		if err := sameBits(got, m.values(t, i)); err != nil {
			t.Fatalf("%v %d x %d, row %d: %v", m.formats, m.n, m.k, i, err)
		}
	}
}

// Q6_K is packed in 8 bits: a row reads back within a hundredth.
func TestSixBitsReadBackNearly(t *testing.T) {
	m := randomMatrix(t, seeded(t), 33, 512, quant.Q6_K)
	w := m.pack(t, Variants()[0])
	for i := range m.n {
		got := make([]float32, m.k)
		w.Row(i, got)
		var wrong, all float64
		for j, v := range m.values(t, i) {
			d := float64(got[j] - v)
			wrong, all = wrong+d*d, all+float64(v)*float64(v)
		}
		if wrong > 1e-4*all {
			t.Errorf("row %d: off by %.4f", i, math.Sqrt(wrong/all))
		}
	}
}

// 16 x 64 in Q4_1 is one tile of 640 bytes: 5 bits a weight; in Q8_0 1088, 8.5
// bits; 32 rows of both, 1728; 16 x 256 of Q4_K are 2368, 4.625 bits.
func TestPackedSize(t *testing.T) {
	k := Variants()[0]
	r := seeded(t)
	for want, m := range map[int]*matrix{
		640:  randomMatrix(t, r, 16, 64, quant.Q4_1),
		576:  randomMatrix(t, r, 9, 32, quant.Q4_0),
		1088: randomMatrix(t, r, 16, 64, quant.Q8_0),
		4096: randomMatrix(t, r, 1, 1, quant.F16),
		1728: randomMatrix(t, r, 32, 64, quant.Q4_1, quant.Q8_0),
		704:  randomMatrix(t, r, 16, 64, quant.Q5_0),
		768:  randomMatrix(t, r, 16, 64, quant.Q5_1),
		2368: randomMatrix(t, r, 16, 256, quant.Q4_K),
		2880: randomMatrix(t, r, 16, 256, quant.Q5_K),
		4352: randomMatrix(t, r, 16, 256, quant.Q6_K),
	} {
		if got := m.pack(t, k).SizeBytes(); got != want {
			t.Errorf("%d x %d of %v: %d bytes, not %d", m.n, m.k, m.formats, got, want)
		}
	}
}

// Rows that the source does not have are zeros, in memory that was dirty before.
func TestMissingRowsAreZero(t *testing.T) {
	m := randomMatrix(t, seeded(t), 20, 96, quant.Q4_1)
	m.rows[3], m.rows[17] = nil, nil
	dirty := func(n int) ([]byte, error) {
		b := make([]byte, n)
		for i := range b {
			b[i] = 0xA5
		}
		return b, nil
	}
	w, err := Variants()[0].Pack(m.n, m.k, m.source, dirty)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.n {
		got, want := make([]float32, m.k), make([]float32, m.k)
		if w.Row(i, got); m.rows[i] != nil {
			want = m.values(t, i)
		}
		if err := sameBits(got, want); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	const known = "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16"
	full := errors.New("full")
	one := func(f quant.Format, size int) RowSource {
		return func(int) (quant.Format, []byte) { return f, make([]byte, size) }
	}
	mix := func(i int) (quant.Format, []byte) {
		if i == 18 {
			return quant.Q8_0, make([]byte, 68)
		}
		return quant.Q4_0, make([]byte, 36)
	}
	for _, c := range []struct {
		n, k int
		src  RowSource
		take func(int) ([]byte, error)
		want string
	}{
		{0, 64, nil, take, "tensor: pack of 0 x 64 weights"},
		{4, -1, nil, take, "tensor: pack of 4 x -1 weights"},
		{16, 256, one(10, 84), take, "tensor: row 0 is Q2_K; the kernels take " + known},
		{16, 64, one(99, 210), take, "tensor: row 0 is type 99; the kernels take " + known},
		{16, 128, one(quant.Q4_K, 144), take, "tensor: row 0 has 144 bytes for 128 columns of Q4_K"},
		{16, 64, one(quant.Q8_0, 67), take, "tensor: row 0 has 67 bytes for 64 columns of Q8_0"},
		{16, 40, one(quant.Q8_0, 34), take, "tensor: row 0 has 34 bytes for 40 columns of Q8_0"},
		{32, 64, mix, take, "tensor: row 18 is Q8_0 in a panel of Q4_0; formats may change every 16 rows"},
		{16, 64, one(quant.Q8_0, 68), func(int) ([]byte, error) { return nil, full }, "tensor: pack 16 x 64 weights: full"},
	} {
		_, err := Variants()[0].Pack(c.n, c.k, c.src, c.take)
		if fmt.Sprint(err) != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}
