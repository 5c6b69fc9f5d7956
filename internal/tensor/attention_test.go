package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"mneme/internal/quant"
)

// kvCase is one KV head: complete blocks, in full precision and sealed, and what the stored bytes mean.
type kvCase struct {
	k        *Kernels
	form     quant.KVForm
	headDim  int
	openK    [][]byte // full-precision halves of every block
	openV    [][]byte
	mem      []byte // sealed blocks in shuffled places
	kOff     int
	vOff     int
	table    []int32
	first    []byte    // block 0 as q8
	exactK   []float64 // [token][headDim] as stored in full precision
	exactV   []float64
	sealedK  []float64 // [token][headDim] as sealed, block 0 as q8
	sealedV  []float64
	firstOff int // of the V half in first
}

const kvSeed = 7

// kvTokens draws keys with a scale and an offset per channel and a few channels far out, and values with a scale per token.
func kvTokens(n, headDim int, seed uint64) (k, v []float32) {
	r := rand.New(rand.NewPCG(seed, 1))
	k, v = make([]float32, n*headDim), make([]float32, n*headDim)
	offset, scale := make([]float64, headDim), make([]float64, headDim)
	for c := range offset {
		offset[c], scale[c] = r.NormFloat64(), math.Exp(r.NormFloat64()*0.7)
	}
	offset[5], offset[headDim*5/8] = 30, -12
	for t := range n {
		s := math.Exp(r.NormFloat64() * 0.5)
		for c := range headDim {
			k[t*headDim+c] = float32(offset[c] + scale[c]*r.NormFloat64())
			v[t*headDim+c] = float32(s * r.NormFloat64())
		}
	}
	return k, v
}

func newKVCase(k *Kernels, form quant.KVForm, headDim, blocks int) *kvCase {
	x := &kvCase{k: k, form: form, headDim: headDim}
	x.fill(blocks)
	x.seal(blocks - 1)
	return x
}

func (x *kvCase) fill(blocks int) {
	d := x.headDim
	k, v := kvTokens(blocks*blockTokens, d, kvSeed)
	for b := range blocks {
		kHalf, vHalf := make([]byte, 2*blockTokens*d), make([]byte, 2*blockTokens*d)
		for t := range blockTokens {
			at := (b*blockTokens + t) * d
			x.k.AppendKV(kHalf, vHalf, t, k[at:][:d], v[at:][:d])
		}
		x.openK, x.openV = append(x.openK, kHalf), append(x.openV, vHalf)
	}
	x.exactK, x.exactV = make([]float64, len(k)), make([]float64, len(v))
	for i := range k {
		x.exactK[i] = float64(quant.F16Value(quant.F16Bits(k[i])))
		x.exactV[i] = float64(quant.F16Value(quant.F16Bits(v[i])))
	}
	x.sealedK, x.sealedV = append([]float64{}, x.exactK...), append([]float64{}, x.exactV...)
}

// seal puts the complete blocks into mem, and block 0 into first.
func (x *kvCase) seal(complete int) {
	kSize, vSize := x.form.HalfBytes(x.headDim, blockTokens), x.form.HalfBytes(blockTokens, x.headDim)
	x.kOff, x.vOff = 3*lineBytes, 3*lineBytes+kSize
	x.mem = make([]byte, x.kOff+complete*(kSize+vSize))
	for b, place := range rand.New(rand.NewPCG(kvSeed, 2)).Perm(complete) {
		at := place * (kSize + vSize)
		x.table = append(x.table, int32(at/lineBytes))
		x.sealBlock(x.form, b, x.mem[x.kOff+at:][:kSize], x.mem[x.vOff+at:][:vSize])
	}
	if x.form == quant.KVF16 {
		return
	}
	x.firstOff = quant.KVQ8.HalfBytes(x.headDim, blockTokens)
	x.first = make([]byte, x.firstOff+quant.KVQ8.HalfBytes(blockTokens, x.headDim))
	x.sealBlock(quant.KVQ8, 0, x.first[:x.firstOff], x.first[x.firstOff:])
}

func (x *kvCase) sealBlock(form quant.KVForm, b int, k, v []byte) {
	d := x.headDim
	x.k.SealHalf(form, k, x.openK[b], d, blockTokens)
	x.k.SealHalf(form, v, x.openV[b], blockTokens, d)
	if form == quant.KVF16 {
		return
	}
	decodeHalf(form, k, d, blockTokens, func(c, t int, y float64) { x.sealedK[(b*blockTokens+t)*d+c] = y })
	decodeHalf(form, v, blockTokens, d, func(t, c int, y float64) { x.sealedV[(b*blockTokens+t)*d+c] = y })
}

// decodeHalf says what a sealed half means, by the drawing in attention.go.
func decodeHalf(form quant.KVForm, half []byte, k, lanes int, f func(k, lane int, x float64)) {
	codes := k * lanes * map[quant.KVForm]int{quant.KVQ3: 3, quant.KVQ4: 4, quant.KVQ8: 8}[form] / 8
	value := func(at int) float64 { return float64(quant.F16Value(binary.LittleEndian.Uint16(half[at:]))) }
	for i := range k {
		scale, mid := value(codes+2*i), value(codes+2*k+2*i)
		for l := range lanes {
			u := 0
			switch form {
			case quant.KVQ3:
				s, j := i/(k/4), i%(k/4)
				word := binary.LittleEndian.Uint64(half[k*lanes/4+32*(lanes/16*(j/4)+l/16)+8*s:])
				u = int(half[4*(lanes*(j/4)+l)+j%4])>>(2*s)&3 + int(word>>(4*(l%16)+j%4)&1)*4 - 4
			case quant.KVQ4:
				j := i % (k / 2)
				u = int(half[4*(lanes*(j/4)+l)+j%4])>>(i/(k/2)*4)&15 - 8
			default:
				u = int(half[4*(lanes*(i/4)+l)+i%4]) - 128
			}
			f(i, l, mid+scale*float64(u))
		}
	}
}

// run computes rows at positions pos, all in one block, queries q, into out [row][headDim].
func (x *kvCase) run(a *Attention, q []float32, pos []int, out []float32) {
	own, nmax, d := pos[0]/blockTokens, 0, x.headDim
	a.Begin(len(pos))
	for i, p := range pos {
		a.Row(i, q[i*d:][:d], p%blockTokens+1)
		nmax = max(nmax, p%blockTokens+1)
	}
	x.runSealed(a, own)
	a.Open(x.openK[own], x.openV[own], nmax)
	for i := range pos {
		a.End(i, out[i*d:][:d])
	}
}

// firstTable names block 0 where it lies alone, in kvCase.first.
var firstTable = []int32{0}

func (x *kvCase) runSealed(a *Attention, own int) {
	if x.form == quant.KVF16 || own == 0 {
		a.Sealed(x.form, x.mem, x.kOff, x.vOff, x.table[:own])
		return
	}
	a.Sealed(quant.KVQ8, x.first, 0, x.firstOff, firstTable)
	a.Sealed(x.form, x.mem, x.kOff, x.vOff, x.table[1:own])
}

// want is the attention of one row in float64 over the values as stored.
func (x *kvCase) want(q []float32, pos int, scale float64) []float64 {
	d, own := x.headDim, pos/blockTokens*blockTokens
	out, scores, largest := make([]float64, d), make([]float64, pos+1), math.Inf(-1)
	pick := func(sealed, exact []float64, t int) []float64 {
		if t < own {
			return sealed[t*d:][:d]
		}
		return exact[t*d:][:d]
	}
	for t := range scores {
		for c, k := range pick(x.sealedK, x.exactK, t) {
			scores[t] += float64(q[c]) * k * scale
		}
		largest = max(largest, scores[t])
	}
	var sum float64
	for t, s := range scores {
		p := math.Exp(s - largest)
		sum += p
		for c, v := range pick(x.sealedV, x.exactV, t) {
			out[c] += p * v
		}
	}
	for c := range out {
		out[c] /= sum
	}
	return out
}

func kvQueries(rows, headDim int) []float32 {
	r := rand.New(rand.NewPCG(kvSeed, 3))
	q := make([]float32, rows*headDim)
	for i := range q {
		q[i] = float32(r.NormFloat64() * 0.6)
	}
	return q
}

// eachAttention runs a test for every variant, form and head dim.
func eachAttention(t *testing.T, f func(t *testing.T, k *Kernels, form quant.KVForm, headDim int)) {
	t.Logf("seed %d", kvSeed)
	for _, k := range Variants() {
		for _, form := range []quant.KVForm{quant.KVF16, quant.KVQ8, quant.KVQ4, quant.KVQ3} {
			for _, headDim := range []int{16, 64, 80, 96, 128, 256} {
				t.Run(fmt.Sprintf("%s/%s/%d", k.Name(), form, headDim), func(t *testing.T) { f(t, k, form, headDim) })
			}
		}
	}
}

// relative is the distance of out from want over all elements, as a part of want.
func relative(out []float32, want []float64) float64 {
	var diff, all float64
	for i, w := range want {
		diff += (float64(out[i]) - w) * (float64(out[i]) - w)
		all += w * w
	}
	return math.Sqrt(diff / all)
}

// Attention over what is stored: f16 to 2e-5; with int8 queries and u8 probabilities to 2 % on this data,
// whose softmax is peaked enough to show every rounding.
func TestAttentionAgainstStoredValues(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, headDim int) {
		const rows, blocks = 7, 10
		x := newKVCase(k, form, headDim, blocks)
		q, out := kvQueries(rows, headDim), make([]float32, rows*headDim)
		for _, own := range []int{0, 1, 5, blocks - 1} {
			var pos []int
			var want []float64
			for i := range rows {
				pos = append(pos, own*blockTokens+(i*11+3)%blockTokens)
				want = append(want, x.want(q[i*headDim:], pos[i], 1/math.Sqrt(float64(headDim)))...)
			}
			x.run(k.NewAttention(headDim, rows, 0), q, pos, out)
			limit := 0.02
			if form == quant.KVF16 || own == 0 {
				limit = 2e-5
			}
			got := relative(out, want)
			t.Logf("own block %d: off by %.6f", own, got)
			if !(got < limit) {
				t.Errorf("own block %d: off by %.6f, limit %g", own, got, limit)
			}
		}
	})
}

// Every head dim from 16 to 256 that kernels take, in every form: the variants
// agree to what their order of sums and a few codes rounded the other way make.
func TestAttentionVariantsAgree(t *testing.T) {
	const rows, blocks = 5, 4
	for _, form := range []quant.KVForm{quant.KVF16, quant.KVQ8, quant.KVQ4, quant.KVQ3} {
		limit := 5e-3
		if form == quant.KVF16 {
			limit = 1e-5
		}
		for headDim := 16; headDim <= 256; headDim += 16 {
			q, pos := kvQueries(rows, headDim), []int{200, 201, 230, 250, 255}
			out := make([]float32, rows*headDim)
			newKVCase(genericKernels(t), form, headDim, blocks).run(genericKernels(t).NewAttention(headDim, rows, 0), q, pos, out)
			want := make([]float64, len(out))
			for i, x := range out {
				want[i] = float64(x)
			}
			for _, k := range Variants() {
				newKVCase(k, form, headDim, blocks).run(k.NewAttention(headDim, rows, 0), q, pos, out)
				if off := relative(out, want); !(off < limit) {
					t.Errorf("%s, %s, head dim %d: %.6f off the generic result, limit %g", k.Name(), form, headDim, off, limit)
				}
			}
		}
	}
}

// Another scale than 1/sqrt(headDim), as some model families have it.
func TestAttentionScale(t *testing.T) {
	for _, k := range Variants() {
		x := newKVCase(k, quant.KVF16, 64, 3)
		q, out := kvQueries(1, 64), make([]float32, 64)
		x.run(k.NewAttention(64, 1, 0.03), q, []int{150}, out)
		if got := relative(out, x.want(q, 150, float64(float32(0.03)))); !(got < 2e-5) {
			t.Errorf("%s: off by %g", k.Name(), got)
		}
	}
}

// One answer: rows alone, and in tiles of 1 to 16 at three places, give equal bits.
func TestAttentionRowIsIndependentOfItsTile(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, headDim int) {
		blocks, stride := 10, 1
		if k.Name() == "generic" {
			blocks, stride = 3, 5
		}
		x := newKVCase(k, form, headDim, blocks)
		const rows = 32
		q, a := kvQueries(rows, headDim), k.NewAttention(headDim, rows, 0)
		for _, own := range []int{0, 1, blocks - 1} {
			pos, alone := make([]int, rows), make([]float32, rows*headDim)
			for i := range pos {
				pos[i] = own*blockTokens + 2*i + 1
				x.run(a, q[i*headDim:], pos[i:i+1], alone[i*headDim:])
			}
			out := make([]float32, rows*headDim)
			for n := 1; n <= 16; n += stride {
				for _, at := range []int{0, 3, 16} {
					x.run(a, q[at*headDim:], pos[at:at+n], out)
					if i := firstDifference(out[:n*headDim], alone[at*headDim:][:n*headDim]); i >= 0 {
						t.Fatalf("own %d, %d rows at %d: row %d dim %d is %g, alone %g", own, n, at, i/headDim, i%headDim, out[i], alone[at*headDim+i])
					}
				}
			}
		}
	})
}

// firstDifference is the first index whose bits differ, or -1.
func firstDifference(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// A table given in pieces gives the bits of the whole table.
func TestSealedInPieces(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, headDim int) {
		const rows, own = 5, 9
		x := newKVCase(k, form, headDim, own+1)
		q, a := kvQueries(rows, headDim), k.NewAttention(headDim, rows, 0)
		compute := func(cuts ...int) []float32 {
			out := make([]float32, rows*headDim)
			a.Begin(rows)
			for i := range rows {
				a.Row(i, q[i*headDim:][:headDim], 10*i+1)
			}
			for i := 1; i < len(cuts); i++ {
				a.Sealed(form, x.mem, x.kOff, x.vOff, x.table[cuts[i-1]:cuts[i]])
			}
			a.Open(x.openK[own], x.openV[own], 41)
			for i := range rows {
				a.End(i, out[i*headDim:][:headDim])
			}
			return out
		}
		whole := compute(0, own)
		for _, cuts := range [][]int{{0, 1, own}, {0, 5, 6, own}, {0, 3, 3, 7, own}} {
			if i := firstDifference(compute(cuts...), whole); i >= 0 {
				t.Errorf("cut at %v: element %d differs", cuts, i)
			}
		}
	})
}

// Slots that hold no token yet may hold anything: all ones are NaN as f16.
func TestOpenIgnoresUnusedSlots(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, headDim int) {
		if form != quant.KVF16 {
			return // the open block is f16 under every form
		}
		x := newKVCase(k, form, headDim, 2)
		q, a := kvQueries(3, headDim), k.NewAttention(headDim, 3, 0)
		for _, nmax := range []int{1, 3, 16, 17, 40, 63} {
			pos := []int{blockTokens, blockTokens + nmax/2, blockTokens + nmax - 1}
			clean, dirty := make([]float32, 3*headDim), make([]float32, 3*headDim)
			x.run(a, q, pos, clean)
			spoiled := *x
			spoiled.openK, spoiled.openV = spoil(x.openK, headDim, nmax, true), spoil(x.openV, headDim, nmax, false)
			spoiled.run(a, q, pos, dirty)
			if i := firstDifference(clean, dirty); i >= 0 {
				t.Errorf("%d tokens: row %d dim %d is %g, without NaN %g", nmax, i/headDim, i%headDim, dirty[i], clean[i])
			}
		}
	})
}

// spoil copies halves and fills the slots from nmax on with NaN.
func spoil(halves [][]byte, headDim, nmax int, keys bool) [][]byte {
	var out [][]byte
	for _, h := range halves {
		h = append([]byte{}, h...)
		for i := range blockTokens * headDim {
			slot := i / headDim
			if keys {
				slot = i % blockTokens
			}
			if slot >= nmax {
				h[2*i], h[2*i+1] = 0xFF, 0xFF
			}
		}
		out = append(out, h)
	}
	return out
}

// Memory after an output stays as it was, and the state may be used again.
func TestAttentionStaysInItsOutput(t *testing.T) {
	eachAttention(t, func(t *testing.T, k *Kernels, form quant.KVForm, headDim int) {
		x := newKVCase(k, form, headDim, 2)
		a := k.NewAttention(headDim, 4, 0)
		out := make([]float32, headDim+16)
		for i := range out {
			out[i] = 42
		}
		for range 2 {
			x.run(a, kvQueries(1, headDim), []int{100}, out)
		}
		for i, v := range out[headDim:] {
			if v != 42 {
				t.Fatalf("float %d after the output is %g", i, v)
			}
		}
	})
}

func TestAttentionTileAllocatesNothing(t *testing.T) {
	for _, k := range Variants() {
		x := newKVCase(k, quant.KVQ4, 64, 3)
		q, a, out := kvQueries(3, 64), k.NewAttention(64, 3, 0), make([]float32, 3*64)
		pos := []int{160, 160, 160}
		if n := testing.AllocsPerRun(10, func() { x.run(a, q, pos, out) }); n != 0 {
			t.Errorf("%s: %g allocations a tile", k.Name(), n)
		}
	}
}

// What cannot be computed is refused with its numbers.
func TestAttentionRefusesWrongSizes(t *testing.T) {
	for _, k := range Variants() {
		x := newKVCase(k, quant.KVQ4, 64, 3)
		end := []int32{x.table[0], int32(len(x.mem) / lineBytes)}
		started := func() *Attention {
			a := k.NewAttention(64, 2, 0)
			a.Begin(1)
			a.Row(0, make([]float32, 64), 9)
			return a
		}
		for name, f := range map[string]func(){
			"odd head dim":        func() { k.NewAttention(60, 1, 0) },
			"q4 of head dim 72":   func() { a := k.NewAttention(72, 1, 0); a.Begin(1); a.Sealed(quant.KVQ4, x.mem, 0, 0, x.table) },
			"more rows than room": func() { k.NewAttention(64, 2, 0).Begin(3) },
			"row beyond the tile": func() { started().Row(1, make([]float32, 64), 1) },
			"row that sees none":  func() { started().Row(0, make([]float32, 64), 0) },
			"short query":         func() { started().Row(0, make([]float32, 63), 1) },
			"block beyond memory": func() { started().Sealed(quant.KVQ4, x.mem, x.kOff, x.vOff, end) },
			"negative line":       func() { started().Sealed(quant.KVQ4, x.mem, x.kOff, x.vOff, []int32{-1}) },
			"negative offset":     func() { started().Sealed(quant.KVQ4, x.mem, -64, x.vOff, x.table) },
			"fewer than rows see": func() { started().Open(x.openK[0], x.openV[0], 8) },
			"short open block":    func() { started().Open(x.openK[0][1:], x.openV[0], 9) },
			"long output":         func() { started().End(0, make([]float32, 65)) },
			"slot 64":             func() { k.AppendKV(x.openK[0], x.openV[0], 64, make([]float32, 64), make([]float32, 64)) },
			"seal of 64 x 24":     func() { k.SealHalf(quant.KVQ4, make([]byte, 1<<16), make([]byte, 1<<16), 64, 24) },
			"seal into too few":   func() { k.SealHalf(quant.KVQ4, make([]byte, 2303), make([]byte, 8192), 64, 64) },
			"hadamard of 12":      func() { k.Hadamard(make([]float32, 12), 12) },
		} {
			t.Run(k.Name()+"/"+name, func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("not refused")
					}
				}()
				f()
			})
		}
	}
}

func TestPow2(t *testing.T) {
	for x := float32(-125.9); x <= 1; x += 0.0117 {
		want := math.Exp2(float64(x))
		if got := float64(pow2(x)); math.Abs(got-want) > 4e-6*want {
			t.Fatalf("2^%g is %g, want %g", x, got, want)
		}
	}
	for x, want := range map[float32]float32{0: 1, -1: 0.5, -20: 0x1p-20, -126: 0x1p-126, -127: 0, maskedScore: 0} {
		if got := pow2(x); got != want {
			t.Errorf("2^%g is %g, want %g", x, got, want)
		}
	}
}

// Attention of one KV head at 2,048 tokens: 3 rows as in decode, 48 as in prefill.
func BenchmarkAttention(b *testing.B) {
	const blocks = 2048 / blockTokens
	for _, k := range Variants() {
		for _, c := range []struct {
			form quant.KVForm
			dim  int
		}{
			{quant.KVQ3, 64}, {quant.KVQ4, 64}, {quant.KVQ8, 64}, {quant.KVF16, 64}, {quant.KVQ4, 80}, {quant.KVQ4, 96},
			{quant.KVQ3, 128}, {quant.KVQ4, 128}, {quant.KVQ8, 128}, {quant.KVF16, 128}, {quant.KVQ4, 256},
		} {
			for _, rows := range []int{3, 48} {
				b.Run(fmt.Sprintf("%s/%s/dim%d/rows%d", k.Name(), c.form, c.dim, rows), func(b *testing.B) {
					x := newKVCase(k, c.form, c.dim, blocks)
					q, a, out := kvQueries(rows, c.dim), k.NewAttention(c.dim, rows, 0), make([]float32, rows*c.dim)
					pos := make([]int, rows)
					for i := range pos {
						pos[i] = blocks*blockTokens - 1
					}
					b.ReportAllocs()
					for b.Loop() {
						x.run(a, q, pos, out)
					}
					b.ReportMetric(float64(b.N*rows*blocks*blockTokens)/b.Elapsed().Seconds()/1e9, "Gtokenrow/s")
				})
			}
		}
	}
}
