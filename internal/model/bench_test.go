package model_test

import (
	"testing"

	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/tensor"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// BenchmarkWindows is Gemma 3 270M, five of whose six layers look back 512
// positions: prefill of 2,048 tokens in chunks of 512, and 64 decode steps there.
func BenchmarkWindows(b *testing.B) {
	m := openBench(b, testkit.Gemma(b), tensor.Variants()[0], kv.FormatQ4, 4096)
	const tokens, steps = 2048, 64
	b.Run("prefill", func(b *testing.B) {
		for b.Loop() {
			m.grown(b, tokens).Drop()
		}
		b.ReportMetric(float64(tokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
	})
	b.Run("decode", func(b *testing.B) {
		g := m.grown(b, tokens)
		defer g.Drop()
		n := 0
		for b.Loop() && n < 1500 {
			for range steps {
				m.extend(b, g, 1)
			}
			n += steps
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tokens/s")
	})
}

// grown is a sequence of n tokens that nobody shares.
func (m *bench) grown(b *testing.B, n int) *kv.Growing {
	stock, _ := m.pool.Allocate(kv.Need{})
	g := kv.NewGrowing(m.pool, kv.Scope{Fingerprint: "bench", Namespace: "n"}, stock)
	for g.Len() < n {
		m.extend(b, g, min(512, n-g.Len()))
	}
	return g
}

func (m *bench) extend(b *testing.B, g *kv.Growing, n int) {
	m.stock(b, g, g.Len()+n)
	tokens := make([]token.ID, n)
	for i := range tokens {
		tokens[i] = token.ID(1000 + 37*(g.Len()+i)%9000)
	}
	m.runner.Run([]model.Span{{Tokens: tokens, KV: g, Slots: g.Plan(n), Logits: 1}})
	g.Commit(tokens)
}
