package model

import (
	"testing"

	"mneme/internal/gguf"
	"mneme/internal/quant"
)

// Keys that change what a model computes and that nothing here reads must be
// refused (rule 8): otherwise the answer is wrong without a word.
func TestIgnoredKeysAreRefused(t *testing.T) {
	for key, value := range map[string]any{
		"llama.rope.scaling.type":        "linear", // with factor: every angle is wrong
		"llama.rope.scaling.factor":      float32(4),
		"llama.rope.dimension_count":     uint32(32), // half of each head is not rotated
		"llama.attention.value_length":   uint32(32),
		"llama.attention.sliding_window": uint32(512),
		"llama.expert_count":             uint32(8),
	} {
		b := gguf.NewBuilder()
		b.Set("general.architecture", "llama")
		for k, v := range map[string]uint32{"block_count": 1, "embedding_length": 128, "attention.head_count": 2, "attention.head_count_kv": 1, "attention.key_length": 64, "feed_forward_length": 192, "context_length": 512} {
			b.Set("llama."+k, v)
		}
		b.Set(key, value)
		b.Add("token_embd.weight", quant.F32, []int{128, 4}, make([]byte, 4*128*4))
		f, err := gguf.Parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(f); err == nil {
			t.Errorf("%s = %v is ignored", key, value)
		}
	}
}
