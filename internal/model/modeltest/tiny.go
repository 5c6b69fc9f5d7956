// Package modeltest makes small random models in memory for fast tests: every
// family, the kernels' own shapes (quantised tiles, head dims narrow and wide), a
// byte vocabulary and a chat template. It is imported by tests only.
package modeltest

import (
	"fmt"
	"math/rand/v2"

	"mneme/internal/gguf"
	"mneme/internal/quant"
)

// Shape is what a model's file declares, and how its weights are stored.
type Shape struct {
	Arch    string
	Layers  int
	Dim     int
	Heads   int
	KVHeads int
	HeadDim int
	FF      int
	Window  int  // of gemma3's local layers
	Untied  bool // an output head of its own
	Float   bool // all weights in F32, for widths that no block divides
}

// Context is the number of trained positions.
const Context = 4096

// Tiny is the shape of File.
func Tiny() Shape {
	return Shape{Arch: "llama", Layers: 2, Dim: 128, Heads: 2, KVHeads: 1, HeadDim: 64, FF: 192}
}

// Families are one shape per family: with an untied head and biases and a width
// that is no multiple of 64, with norms of q and k and heads of 128, with five
// windows of two blocks to a full layer and heads of 80.
func Families() map[string]Shape {
	return map[string]Shape{
		"llama":  Tiny(),
		"qwen2":  {Arch: "qwen2", Layers: 2, Dim: 160, Heads: 4, KVHeads: 2, HeadDim: 64, FF: 192, Untied: true},
		"qwen3":  {Arch: "qwen3", Layers: 2, Dim: 128, Heads: 2, KVHeads: 1, HeadDim: 128, FF: 160},
		"gemma3": {Arch: "gemma3", Layers: 7, Dim: 96, Heads: 2, KVHeads: 1, HeadDim: 80, FF: 160, Window: 128},
	}
}

// Special tokens follow the 256 bytes.
var specials = []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}

// Template is ChatML without a default system message.
const Template = `{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// File is a GGUF file of the tiny llama with weights from seed.
func File(seed uint64) []byte { return Tiny().File(seed) }

// File is a GGUF file of the shape with weights from seed.
func (s Shape) File(seed uint64) []byte {
	b := gguf.NewBuilder()
	b.Set("general.architecture", s.Arch)
	b.Set("general.name", fmt.Sprintf("tiny-%d", seed))
	for _, kv := range []struct {
		key   string
		value int
	}{
		{"block_count", s.Layers}, {"embedding_length", s.Dim}, {"attention.head_count", s.Heads}, {"attention.head_count_kv", s.KVHeads},
		{"attention.key_length", s.HeadDim}, {"feed_forward_length", s.FF}, {"context_length", Context},
	} {
		b.Set(s.Arch+"."+kv.key, uint32(kv.value))
	}
	b.Set(s.Arch+".rope.freq_base", float32(10000))
	b.Set(s.Arch+".attention.layer_norm_rms_epsilon", float32(1e-5))
	if s.Window > 0 {
		b.Set(s.Arch+".attention.sliding_window", uint32(s.Window))
		b.Set(s.Arch+".rope.freq_base_swa", float32(1000))
	}
	vocabulary(b)
	w := weights{Shape: s, b: b, r: rand.New(rand.NewPCG(seed, 1))}
	w.add()
	return b.Bytes()
}

func vocabulary(b *gguf.Builder) {
	var tokens []string
	var types []int32
	for i := range 256 {
		tokens, types = append(tokens, string(byteRune(byte(i)))), append(types, 1)
	}
	for _, s := range specials {
		tokens, types = append(tokens, s), append(types, 3)
	}
	merges := []string{"t h", "th e", "Ġ the", "i n", "Ġ a"}
	for _, m := range []string{"th", "the", "Ġthe", "in", "Ġa"} {
		tokens, types = append(tokens, m), append(types, 1)
	}
	b.Set("tokenizer.ggml.model", "gpt2")
	b.Set("tokenizer.ggml.pre", "smollm")
	b.Set("tokenizer.ggml.tokens", tokens)
	b.Set("tokenizer.ggml.token_type", types)
	b.Set("tokenizer.ggml.merges", merges)
	b.Set("tokenizer.ggml.bos_token_id", uint32(257))
	b.Set("tokenizer.ggml.eos_token_id", uint32(258))
	b.Set("tokenizer.chat_template", Template)
}

// byteRune is the printable rune that stands for a byte in byte-level BPE.
func byteRune(c byte) rune {
	n := rune(256)
	for b := range 256 {
		printable := b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE
		switch {
		case byte(b) == c && printable:
			return rune(b)
		case byte(b) == c:
			return n
		case !printable:
			n++
		}
	}
	panic("unreachable")
}

const vocab = 256 + 3 + 5

// weights draws a model's tensors, always in the same order.
type weights struct {
	Shape
	b *gguf.Builder
	r *rand.Rand
}

func (w weights) matrix(name string, f quant.Format, rows, cols int, scale float64) {
	if w.Float {
		f = quant.F32
	}
	w.b.Add(name, f, []int{cols, rows}, encode(f, rows*cols, func() float32 { return float32(w.r.NormFloat64() * scale) }))
}

func (w weights) vector(name string, n int, mean, scale float64) {
	w.b.Add(name, quant.F32, []int{n}, encode(quant.F32, n, func() float32 { return float32(mean) + float32(w.r.NormFloat64()*scale) }))
}

func (w weights) add() {
	// A tied head of this scale spreads logits like a trained model's.
	w.matrix("token_embd.weight", quant.Q8_0, vocab, w.Dim, 0.3)
	w.vector("output_norm.weight", w.Dim, 1, 0.1)
	if w.Untied {
		w.matrix("output.weight", quant.Q8_0, vocab, w.Dim, 0.3)
	}
	for i := range w.Layers {
		w.layer(fmt.Sprintf("blk.%d.", i))
	}
}

func (w weights) layer(p string) {
	w.vector(p+"attn_norm.weight", w.Dim, 1, 0.1)
	w.vector(p+"ffn_norm.weight", w.Dim, 1, 0.1)
	w.matrix(p+"attn_q.weight", quant.Q4_1, w.Heads*w.HeadDim, w.Dim, 0.2)
	w.matrix(p+"attn_k.weight", quant.Q4_1, w.KVHeads*w.HeadDim, w.Dim, 0.2)
	w.matrix(p+"attn_v.weight", quant.Q8_0, w.KVHeads*w.HeadDim, w.Dim, 0.15)
	w.matrix(p+"attn_output.weight", quant.Q4_0, w.Dim, w.Heads*w.HeadDim, 0.15)
	w.matrix(p+"ffn_gate.weight", quant.Q4_1, w.FF, w.Dim, 0.15)
	w.matrix(p+"ffn_up.weight", quant.Q4_1, w.FF, w.Dim, 0.15)
	w.matrix(p+"ffn_down.weight", quant.Q4_1, w.Dim, w.FF, 0.15)
	w.family(p)
}

// family adds what a layer of one family has beside the others'.
func (w weights) family(p string) {
	if w.Arch == "qwen2" {
		w.vector(p+"attn_q.bias", w.Heads*w.HeadDim, 0, 1)
		w.vector(p+"attn_k.bias", w.KVHeads*w.HeadDim, 0, 1)
		w.vector(p+"attn_v.bias", w.KVHeads*w.HeadDim, 0, 0.3)
	}
	if w.Arch == "qwen3" || w.Arch == "gemma3" {
		w.vector(p+"attn_q_norm.weight", w.HeadDim, 1, 0.1)
		w.vector(p+"attn_k_norm.weight", w.HeadDim, 1, 0.1)
	}
	if w.Arch == "gemma3" {
		w.vector(p+"post_attention_norm.weight", w.Dim, 1, 0.1)
		w.vector(p+"post_ffw_norm.weight", w.Dim, 1, 0.1)
	}
}

func encode(f quant.Format, n int, next func() float32) []byte {
	x := make([]float32, n)
	for i := range x {
		x[i] = next()
	}
	size, err := quant.RowBytes(f, n)
	if err == nil {
		out := make([]byte, size)
		if err = quant.Quantize(f, x, out); err == nil {
			return out
		}
	}
	panic(fmt.Sprintf("modeltest: %s: %v", f, err))
}
