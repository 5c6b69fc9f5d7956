// Package modeltest makes a small random model in memory for fast tests: the
// kernels' own shapes (head dim 64, quantised tiles), a byte vocabulary and a
// chat template. It is imported by tests only.
package modeltest

import (
	"fmt"
	"math/rand/v2"

	"mneme/internal/gguf"
	"mneme/internal/quant"
)

// Shape of the model.
const (
	layers  = 2
	dim     = 128
	heads   = 2
	kvHeads = 1
	headDim = 64
	ff      = 192
	// Context is the number of trained positions.
	Context = 4096
)

// Special tokens follow the 256 bytes.
var specials = []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}

// Template is ChatML without a default system message.
const Template = `{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// File is a GGUF file of the model with weights from seed.
func File(seed uint64) []byte {
	b := gguf.NewBuilder()
	b.Set("general.architecture", "llama")
	b.Set("general.name", fmt.Sprintf("tiny-%d", seed))
	for _, kv := range []struct {
		key   string
		value uint32
	}{
		{"block_count", layers}, {"embedding_length", dim}, {"attention.head_count", heads}, {"attention.head_count_kv", kvHeads},
		{"attention.key_length", headDim}, {"feed_forward_length", ff}, {"context_length", Context},
	} {
		b.Set("llama."+kv.key, kv.value)
	}
	b.Set("llama.rope.freq_base", float32(10000))
	b.Set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	vocabulary(b)
	weights(b, rand.New(rand.NewPCG(seed, 1)))
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

func weights(b *gguf.Builder, r *rand.Rand) {
	add := func(name string, f quant.Format, rows, cols int, scale float64) {
		b.Add(name, f, []int{cols, rows}, encode(f, rows*cols, func() float32 { return float32(r.NormFloat64() * scale) }))
	}
	ones := func(name string) {
		b.Add(name, quant.F32, []int{dim}, encode(quant.F32, dim, func() float32 { return 1 + float32(r.NormFloat64()*0.1) }))
	}
	// A tied head of this scale spreads logits like a trained model's.
	add("token_embd.weight", quant.Q8_0, vocab, dim, 0.3)
	ones("output_norm.weight")
	for i := range layers {
		p := fmt.Sprintf("blk.%d.", i)
		ones(p + "attn_norm.weight")
		ones(p + "ffn_norm.weight")
		add(p+"attn_q.weight", quant.Q4_1, heads*headDim, dim, 0.2)
		add(p+"attn_k.weight", quant.Q4_1, kvHeads*headDim, dim, 0.2)
		add(p+"attn_v.weight", quant.Q8_0, kvHeads*headDim, dim, 0.15)
		add(p+"attn_output.weight", quant.Q4_0, dim, heads*headDim, 0.15)
		add(p+"ffn_gate.weight", quant.Q4_1, ff, dim, 0.15)
		add(p+"ffn_up.weight", quant.Q4_1, ff, dim, 0.15)
		add(p+"ffn_down.weight", quant.Q4_1, dim, ff, 0.15)
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
