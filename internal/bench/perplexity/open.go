package perplexity

import (
	"fmt"

	"mneme/internal/gguf"
	"mneme/internal/model"
	"mneme/internal/quant"
	"mneme/internal/tensor"
	"mneme/internal/token"
)

// Weights says how the model computes.
type Weights string

const (
	// WeightsStored is the model as it is served: weights as the file has them,
	// activations rounded to int8. The rounding amplifies every difference, be it of
	// a last bit, so that two formats seem a few thousandths of a nat apart even
	// where they hardly differ.
	WeightsStored Weights = "stored"
	// WeightsF32 widens the same weights to f32: activations are not rounded, and
	// what is left is what the KV format does. It takes 12 bytes of memory per
	// weight while loading.
	WeightsF32 Weights = "f32"
)

// ParseWeights reads the name of one.
func ParseWeights(s string) (Weights, error) {
	switch w := Weights(s); w {
	case WeightsStored, WeightsF32:
		return w, nil
	}
	return "", fmt.Errorf("weights %q: stored or f32", s)
}

// open loads the model and its vocabulary.
func open(o Options) (*model.Model, *token.Tokenizer, error) {
	kernels, err := tensor.Pick(o.Kernel)
	if err != nil {
		return nil, nil, err
	}
	f, err := gguf.Open(o.Model)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	tokens, err := tokenizer(f)
	if err != nil {
		return nil, nil, err
	}
	if o.Weights == WeightsF32 {
		if f, err = widened(f); err != nil {
			return nil, nil, err
		}
	}
	m, err := model.Load(f, kernels)
	return m, tokens, err
}

func tokenizer(f *gguf.File) (*token.Tokenizer, error) {
	vocab, err := token.FromMetadata(f)
	if err != nil {
		return nil, err
	}
	return token.New(vocab)
}

// widened is a file, in memory, of the same model with weights in f32; it has no
// vocabulary.
func widened(f *gguf.File) (*gguf.File, error) {
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
	for _, t := range f.Tensors() {
		raw, err := inF32(t)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		b.Add(t.Name, quant.F32, t.Dims, raw)
	}
	return gguf.Parse(b.Bytes())
}

// inF32 are a tensor's numbers as a file would have them in f32.
func inF32(t gguf.Tensor) ([]byte, error) {
	x := make([]float32, t.Rows()*t.RowLen())
	if err := quant.Dequantize(t.Format, t.Data, x); err != nil {
		return nil, err
	}
	raw := make([]byte, 4*len(x))
	return raw, quant.Quantize(quant.F32, x, raw)
}
