package model_test

import (
	"math"
	"testing"

	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/tensor"
	"mneme/internal/token"
)

// What a KV format may diverge from f16 KV on prose, as mean KL.
var divergenceBounds = []struct {
	format kv.Format
	maxKL  float64
}{{kv.FormatQ8, 0.0006}, {kv.FormatQ4, 0.005}, {kv.FormatQ3, 0.02}}

// TestKVFormatsDiverge runs the beginning of the golden prose with f16 KV and
// with each sealed format and compares what they predict. The weights are
// widened to f32, so that activations are not rounded: the rounding of int8
// activations amplifies any change, be it of the last bit, to a mean KL of 0.001
// (Qwen) to 0.004, which is more than q8 differs by.
func TestKVFormatsDiverge(t *testing.T) {
	best := tensor.Variants()[0]
	for _, m := range modelsFor(best) {
		if best.Name() == "generic" || m.dir != "smollm2-135m" {
			continue // all models, whole, are the soak of package perplexity
		}
		t.Run(m.dir, func(t *testing.T) {
			f, err := gguf.Open(m.path(t))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			loaded := loadModel(t, widened(t, f), best)
			ids := proseOf(t, m)
			truth := newBench(t, loaded, kv.FormatF16, len(ids)).predictions(t, ids)
			for _, c := range divergenceBounds {
				kl := divergence(truth, newBench(t, loaded, c.format, len(ids)).predictions(t, ids))
				t.Logf("%s: mean KL %.5f over %d tokens, bound %g", c.format, kl, len(ids), c.maxKL)
				if !(kl <= c.maxKL) {
					t.Errorf("%s: mean KL %.5f over %d tokens, bound %g", c.format, kl, len(ids), c.maxKL)
				}
			}
		})
	}
}

// proseOf is the beginning of the golden prose.
func proseOf(t *testing.T, m realModel) []token.ID {
	t.Helper()
	var file struct {
		Streams map[string]struct{ Windows [][]token.ID }
	}
	readJSON(t, m.dir+"/ppl.json", &file)
	return file.Streams["prose"].Windows[0][:1024]
}

// widened is a file of the same numbers in f32.
func widened(t *testing.T, f *gguf.File) *gguf.File {
	t.Helper()
	b := gguf.NewBuilder()
	for _, key := range f.Keys() {
		if s, ok := f.String(key); ok {
			b.Set(key, s)
		} else if n, ok := f.Uint(key); ok {
			b.Set(key, n)
		} else if x, ok := f.Float(key); ok {
			b.Set(key, float32(x))
		}
	}
	for _, tensor := range f.Tensors() {
		x := make([]float32, tensor.Rows()*tensor.RowLen())
		raw := make([]byte, 4*len(x))
		if err := quant.Dequantize(tensor.Format, tensor.Data, x); err != nil {
			t.Fatal(err)
		}
		if err := quant.Quantize(quant.F32, x, raw); err != nil {
			t.Fatal(err)
		}
		b.Add(tensor.Name, quant.F32, tensor.Dims, raw)
	}
	wide, err := gguf.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return wide
}

// predictions are the log-probabilities at every fifth position from the fifth block on.
func (b *bench) predictions(t *testing.T, ids []token.ID) (all [][]float64) {
	t.Helper()
	b.logits(t, ids, 128, func(pos int, logits []float32) {
		if pos >= 4*kv.BlockTokens && pos%5 == 0 {
			all = append(all, logSoftmax(logits))
		}
	})
	return all
}

// divergence is the mean KL of got from want.
func divergence(want, got [][]float64) float64 {
	var sum float64
	for i := range want {
		for j, w := range want[i] {
			sum += math.Exp(w) * (w - got[i][j])
		}
	}
	return sum / float64(len(want))
}
