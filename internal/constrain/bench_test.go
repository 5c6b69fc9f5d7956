package constrain_test

import (
	"testing"

	"mneme/internal/constrain"
	"mneme/internal/constrain/schema"
	"mneme/internal/gguf"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// A real vocabulary of 151,936 tokens: one call without a mask, one mask of a new
// state, one of a known state.
func BenchmarkConstraint(b *testing.B) {
	f, err := gguf.Open(testkit.Qwen(b))
	if err != nil {
		b.Fatal(err)
	}
	vocab, err := token.FromMetadata(f)
	if err != nil {
		b.Fatal(err)
	}
	tok, err := token.New(vocab)
	if err != nil {
		b.Fatal(err)
	}
	v := constrain.NewVocabulary(tok)
	n, err := schema.Compile([]byte(`{"type":"object","properties":{"city":{"type":"string","maxLength":100},"days":{"type":"integer"}},"required":["city"]}`), schema.Strict)
	if err != nil {
		b.Fatal(err)
	}
	ids, err := tok.IDs(`{"city": "Paris on the`, token.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("vocabulary", func(b *testing.B) {
		for b.Loop() {
			constrain.NewVocabulary(tok)
		}
	})
	b.Run("token", func(b *testing.B) {
		g := constrain.NewGrammar(v, n)
		for b.Loop() {
			c := g.Begin()
			for _, id := range ids {
				if !c.Allows(id) {
					b.Fatal("not allowed")
				}
				c.Take(id)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/token")
	})
	b.Run("mask new", func(b *testing.B) {
		for b.Loop() {
			c := constrain.NewGrammar(v, n).Begin()
			for _, id := range ids {
				c.Mask()
				c.Take(id)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/mask")
	})
}
