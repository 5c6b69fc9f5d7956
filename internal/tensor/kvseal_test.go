package tensor

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"mneme/internal/quant"
	"mneme/internal/tensor/kvblock"
)

const guardByte = 0xA5

// fenced is n bytes with canaries after them; check fails when one died.
func fenced(n int) (b []byte, check func(t *testing.T, what string)) {
	mem := bytes.Repeat([]byte{guardByte}, n+64)
	return mem[:n], func(t *testing.T, what string) {
		t.Helper()
		if !bytes.Equal(mem[n:], bytes.Repeat([]byte{guardByte}, 64)) {
			t.Fatalf("%s: wrote after its %d bytes", what, n)
		}
	}
}

// halvesToSeal are k x lanes of f16 of many kinds: plain, constant, zeros of both signs, tiny, huge, lopsided.
func halvesToSeal(k, lanes int, r *rand.Rand) []byte {
	half := make([]byte, 2*k*lanes)
	for i := range k {
		kind, scale, offset := r.IntN(8), math.Exp(4*r.NormFloat64()), 20*r.NormFloat64()
		for l := range lanes {
			x := quant.F16Bits(float32(offset + scale*r.NormFloat64()))
			switch kind {
			case 0:
				x = quant.F16Bits(float32(offset))
			case 1:
				x = uint16(r.IntN(2)) << 15
			case 2:
				x = uint16(r.IntN(40)) | uint16(r.IntN(2))<<15
			case 3:
				x = quant.F16Bits(kvblock.LargestHalf) | uint16(r.IntN(2))<<15
			case 4:
				x = quant.F16Bits(float32(offset)) + uint16(r.IntN(2))
			}
			if x&0x7c00 == 0x7c00 {
				x = quant.F16Bits(kvblock.LargestHalf)
			}
			binary.LittleEndian.PutUint16(half[2*(i*lanes+l):], x)
		}
	}
	return half
}

// Every variant stores the same bytes, and none after the end.
func TestSealIsTheSameInAllVariants(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, form := range []quant.KVForm{quant.KVF16, quant.KVQ8, quant.KVQ4, quant.KVQ3} {
		for round := range 60 {
			size := [][2]int{{64, 64}, {64, 96}, {64, 80}, {128, 64}, {16, 64}, {64, 128}, {256, 64}, {64, 256}, {80, 64}, {272, 64}, {96, 64}, {64, 112}}[round%12]
			src := halvesToSeal(size[0], size[1], r)
			n := form.HalfBytes(size[0], size[1])
			want, check := fenced(n)
			genericKernels(t).SealHalf(form, want, src, size[0], size[1])
			check(t, "generic")
			for _, k := range Variants() {
				got, check := fenced(n)
				k.SealHalf(form, got, src, size[0], size[1])
				check(t, k.Name())
				if !bytes.Equal(got, want) {
					t.Fatalf("%s %s round %d: other bytes than generic", k.Name(), form, round)
				}
			}
		}
	}
}

func genericKernels(t *testing.T) *Kernels {
	t.Helper()
	k, err := Pick("generic")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Stored values lie within half a step of the originals, plus what f16 scale and mid cost.
func TestSealError(t *testing.T) {
	for _, k := range Variants() {
		for _, form := range []quant.KVForm{quant.KVQ8, quant.KVQ4, quant.KVQ3} {
			for _, size := range [][2]int{{64, 64}, {80, 64}, {64, 128}} {
				lanes := size[1]
				src := halvesToSeal(size[0], lanes, rand.New(rand.NewPCG(13, 1)))
				dst := make([]byte, form.HalfBytes(size[0], lanes))
				k.SealHalf(form, dst, src, size[0], lanes)
				steps := map[quant.KVForm]float64{quant.KVQ8: 255, quant.KVQ4: 15, quant.KVQ3: 7}[form]
				decodeHalf(form, dst, size[0], lanes, func(i, l int, y float64) {
					lo, hi := lowHigh(src[2*i*lanes:][:2*lanes])
					x := float64(quant.F16Value(binary.LittleEndian.Uint16(src[2*(i*lanes+l):])))
					step := float64(hi-lo) / steps
					limit := 0.56*step + max(math.Abs(float64(lo)), math.Abs(float64(hi)))/1000 + steps*0x1p-25
					if !(math.Abs(y-x) <= limit) {
						t.Fatalf("%s %s k %d lane %d: %g stored as %g, range %g to %g", k.Name(), form, i, l, x, y, lo, hi)
					}
				})
			}
		}
	}
}

// The q4 layout by hand: 16 x 16, where k = 9 rises from -7 to 8 over the lanes and all else is 2.
func TestSealLayout(t *testing.T) {
	const k, lanes = 16, 16
	src := make([]byte, 2*k*lanes)
	for i := range k * lanes {
		x := float32(2)
		if i/lanes == 9 {
			x = float32(i%lanes - 7)
		}
		binary.LittleEndian.PutUint16(src[2*i:], quant.F16Bits(x))
	}
	want := make([]byte, quant.KVQ4.HalfBytes(k, lanes))
	for i := range k * lanes / 2 {
		want[i] = 0x88 // a constant k has the centre code
	}
	for l := range lanes {
		want[4*l+1] = byte(l<<4 | 8) // k = 9 is the high nibble of byte 1 of step 0
	}
	for i := range k {
		scale, mid := float32(0), float32(2)
		if i == 9 {
			scale, mid = 1, 1
		}
		binary.LittleEndian.PutUint16(want[k*lanes/2+2*i:], quant.F16Bits(scale))
		binary.LittleEndian.PutUint16(want[k*lanes/2+2*k+2*i:], quant.F16Bits(mid))
	}
	for _, kernels := range Variants() {
		got := make([]byte, len(want))
		kernels.SealHalf(quant.KVQ4, got, src, k, lanes)
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", kernels.Name(), got, want)
		}
	}
}

// Token 5 of a block, with values no f16 can hold: K goes to column 5, V to row 5, all finite.
func TestAppendKV(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, k := range Variants() {
		for _, headDim := range []int{8, 64, 80} {
			kHalf, checkK := fenced(2 * blockTokens * headDim)
			vHalf, checkV := fenced(2 * blockTokens * headDim)
			kx, vx := make([]float32, headDim), make([]float32, headDim)
			for i := range kx {
				kx[i], vx[i] = 0.1*float32(i), -0.3*float32(i)
			}
			copy(kx, []float32{1e6, -1e6, nan, inf, -inf, 65504, 65519, 1e-9})
			wantK, wantV := bytes.Repeat([]byte{guardByte}, len(kHalf)), bytes.Repeat([]byte{guardByte}, len(vHalf))
			for i := range kx {
				h := quant.F16Bits(kx[i])
				if i < 7 {
					h = quant.F16Bits([]float32{65504, -65504, 65504, 65504, -65504, 65504, 65504}[i])
				}
				binary.LittleEndian.PutUint16(wantK[2*(i*blockTokens+5):], h)
				binary.LittleEndian.PutUint16(wantV[2*(5*headDim+i):], quant.F16Bits(vx[i]))
			}
			k.AppendKV(kHalf, vHalf, 5, kx, vx)
			checkK(t, k.Name()+" K")
			checkV(t, k.Name()+" V")
			if !bytes.Equal(kHalf, wantK) || !bytes.Equal(vHalf, wantV) {
				t.Errorf("%s, head dim %d: other bytes than by hand", k.Name(), headDim)
			}
			if n := testing.AllocsPerRun(5, func() { k.AppendKV(kHalf, vHalf, 6, kx, vx) }); n != 0 {
				t.Errorf("%s, head dim %d: %g allocations", k.Name(), headDim, n)
			}
		}
	}
}

// Rows of every power of two against the definition; twice is the row again; all variants round alike.
func TestHadamard(t *testing.T) {
	const seed, rows = 17, 3
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for dim := 1; dim <= 256; dim *= 2 {
		x := make([]float32, rows*dim)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		first := append([]float32{}, x...)
		genericKernels(t).Hadamard(first, dim)
		for _, k := range Variants() {
			y := append(append([]float32{}, x...), 42, 42, 42, 42)
			k.Hadamard(y[:rows*dim], dim)
			if i := firstDifference(y[:rows*dim], first); i >= 0 {
				t.Fatalf("%s dim %d: element %d is %g, generic %g", k.Name(), dim, i, y[i], first[i])
			}
			for i := range rows * dim {
				if want := hadamardSum(x[i/dim*dim:][:dim], i%dim); math.Abs(float64(y[i])-want) > 1e-5 {
					t.Fatalf("%s dim %d row %d element %d: %g, want %g", k.Name(), dim, i/dim, i%dim, y[i], want)
				}
			}
			k.Hadamard(y[:rows*dim], dim)
			for i := range x {
				if math.Abs(float64(y[i]-x[i])) > 1e-5 {
					t.Fatalf("%s dim %d: twice is not the same at %d", k.Name(), dim, i)
				}
			}
			if i := firstDifference(y[rows*dim:], []float32{42, 42, 42, 42}); i >= 0 {
				t.Fatalf("%s dim %d: wrote after the end", k.Name(), dim)
			}
		}
	}
}

// hadamardSum is element i of the transform by its definition: signs are the parity of i & j.
func hadamardSum(x []float32, i int) float64 {
	var s float64
	for j, v := range x {
		s += float64(v) * float64(1-2*(bits.OnesCount(uint(i&j))&1))
	}
	return s / math.Sqrt(float64(len(x)))
}

// Sealing one half, and rotating and appending one token of one head.
func BenchmarkSeal(b *testing.B) {
	for _, k := range Variants() {
		src := halvesToSeal(64, 64, rand.New(rand.NewPCG(1, 1)))
		dst, other, x := make([]byte, len(src)), make([]byte, len(src)), make([]float32, 64)
		b.Run(k.Name()+"/q4", func(b *testing.B) {
			for b.Loop() {
				k.SealHalf(quant.KVQ4, dst, src, 64, 64)
			}
		})
		b.Run(k.Name()+"/append", func(b *testing.B) {
			for b.Loop() {
				k.Hadamard(x, 64)
				k.AppendKV(dst, other, 7, x, x)
			}
		})
	}
}

// lowHigh are the smallest and the largest of f16.
func lowHigh(row []byte) (lo, hi float32) {
	lo, hi = math.MaxFloat32, -math.MaxFloat32
	for i := 0; i < len(row); i += 2 {
		x := quant.F16Value(binary.LittleEndian.Uint16(row[i:]))
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}
