package model_test

import (
	"fmt"
	"math"
	"testing"

	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
	"mneme/internal/quant"
	"mneme/internal/tensor"
	"mneme/internal/token"
)

// TestOddShapes holds models of f32 weights whose widths no block and no tile
// divides, with heads of 80, 96 and more, to a forward pass in f64: exact
// kernels to f32 bounds, the best ones with KV in f16, whose rounding moves the
// large scores of random weights by hundredths.
func TestOddShapes(t *testing.T) {
	for _, shape := range []modeltest.Shape{
		{Arch: "qwen2", Layers: 2, Dim: 200, Heads: 4, KVHeads: 2, HeadDim: 80, FF: 112, Untied: true, Float: true},
		{Arch: "llama", Layers: 2, Dim: 200, Heads: 3, KVHeads: 1, HeadDim: 96, FF: 208, Float: true},
		{Arch: "llama", Layers: 1, Dim: 72, Heads: 2, KVHeads: 2, HeadDim: 256, FF: 48, Float: true},
	} {
		t.Run(fmt.Sprintf("%s %d", shape.Arch, shape.HeadDim), func(t *testing.T) { checkShape(t, shape) })
	}
}

func checkShape(t *testing.T, shape modeltest.Shape) {
	f, err := gguf.Parse(shape.File(3))
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]token.ID, 150)
	for i := range ids {
		ids[i] = token.ID((i*37 + i*i) % 256)
	}
	want := (&plainModel{shape, f}).logits(t, ids)
	for _, c := range []struct {
		k      *tensor.Kernels
		format kv.Format
		bound  float64
	}{{tensor.Exact(), kv.FormatF32, 1e-3}, {tensor.Variants()[0], kv.FormatF16, 0.2}} {
		worst := 0.0
		newBench(t, loadModel(t, f, c.k), c.format, 256).logits(t, ids, 64, func(pos int, logits []float32) {
			for i, x := range logits {
				worst = math.Max(worst, math.Abs(float64(x)-want[pos][i]))
			}
		})
		t.Logf("%s, %s: max |logit diff| %.2e, bound %g", c.k.Name(), c.format, worst, c.bound)
		if !(worst <= c.bound) {
			t.Errorf("%s, %s: max |logit diff| %.2e, bound %g", c.k.Name(), c.format, worst, c.bound)
		}
	}
}

// plainModel computes llama and qwen2 from the file's numbers in f64, one token
// after the other: the definition, without blocks, tiles or batches.
type plainModel struct {
	modeltest.Shape
	file *gguf.File
}

// tensor is a tensor's numbers, rows outermost; nil if there is none.
func (m *plainModel) tensor(t *testing.T, name string) []float64 {
	t.Helper()
	x, ok := m.file.Tensor(name)
	if !ok {
		return nil
	}
	narrow := make([]float32, x.Rows()*x.RowLen())
	if err := quant.Dequantize(x.Format, x.Data, narrow); err != nil {
		t.Fatal(err)
	}
	wide := make([]float64, len(narrow))
	for i, v := range narrow {
		wide[i] = float64(v)
	}
	return wide
}

// logits of every position.
func (m *plainModel) logits(t *testing.T, ids []token.ID) [][]float64 {
	embd := m.tensor(t, "token_embd.weight")
	x := make([][]float64, len(ids))
	for pos, id := range ids {
		x[pos] = append([]float64(nil), embd[int(id)*m.Dim:][:m.Dim]...)
	}
	for i := range m.Layers {
		m.layer(t, fmt.Sprintf("blk.%d.", i), x)
	}
	head := m.tensor(t, "output.weight")
	if head == nil {
		head = embd
	}
	norm := m.tensor(t, "output_norm.weight")
	for pos := range x {
		x[pos] = times(head, normed(x[pos], norm))
	}
	return x
}

func (m *plainModel) layer(t *testing.T, p string, x [][]float64) {
	w := func(name string) []float64 { return m.tensor(t, p+name) }
	norm, ffNorm := w("attn_norm.weight"), w("ffn_norm.weight")
	wq, wk, wv, wo := w("attn_q.weight"), w("attn_k.weight"), w("attn_v.weight"), w("attn_output.weight")
	bq, bk, bv := w("attn_q.bias"), w("attn_k.bias"), w("attn_v.bias")
	gate, up, down := w("ffn_gate.weight"), w("ffn_up.weight"), w("ffn_down.weight")
	var keys, values [][]float64
	for pos := range x {
		h := normed(x[pos], norm)
		q, k, v := plus(times(wq, h), bq), plus(times(wk, h), bk), plus(times(wv, h), bv)
		m.rope(q, pos)
		m.rope(k, pos)
		keys, values = append(keys, k), append(values, v)
		plus(x[pos], times(wo, m.attend(q, keys, values)))
		h = normed(x[pos], ffNorm)
		hidden, ups := times(gate, h), times(up, h)
		for i, g := range hidden {
			hidden[i] = g / (1 + math.Exp(-g)) * ups[i]
		}
		plus(x[pos], times(down, hidden))
	}
}

// attend is softmax attention of all heads.
func (m *plainModel) attend(q []float64, keys, values [][]float64) []float64 {
	d := m.HeadDim
	out := make([]float64, len(q))
	for h := range m.Heads {
		at := h / (m.Heads / m.KVHeads) * d
		scores, sum := make([]float64, len(keys)), 0.0
		for t := range scores {
			for i := range d {
				scores[t] += q[h*d+i] * keys[t][at+i] / math.Sqrt(float64(d))
			}
		}
		for t := range scores {
			scores[t] = math.Exp(scores[t])
			sum += scores[t]
		}
		for t, p := range scores {
			for i := range d {
				out[h*d+i] += p / sum * values[t][at+i]
			}
		}
	}
	return out
}

// rope turns pairs of each head: neighbours in llama's files, halves in others.
func (m *plainModel) rope(x []float64, pos int) {
	half := m.HeadDim / 2
	for at := 0; at < len(x); at += m.HeadDim {
		for i := range half {
			a, b := at+i, at+half+i
			if m.Arch == "llama" {
				a, b = at+2*i, at+2*i+1
			}
			sin, cos := math.Sincos(float64(pos) * math.Pow(10000, -float64(2*i)/float64(m.HeadDim)))
			x[a], x[b] = x[a]*cos-x[b]*sin, x[a]*sin+x[b]*cos
		}
	}
}

func normed(x, weight []float64) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(sum/float64(len(x))+float64(float32(1e-5))) * weight[i]
	}
	return out
}

// times is a matrix [rows, len(x)] times x.
func times(matrix, x []float64) []float64 {
	out := make([]float64, len(matrix)/len(x))
	for r := range out {
		for i, v := range x {
			out[r] += matrix[r*len(x)+i] * v
		}
	}
	return out
}

// plus adds b, if any, to a.
func plus(a, b []float64) []float64 {
	for i, v := range b {
		a[i] += v
	}
	return a
}
