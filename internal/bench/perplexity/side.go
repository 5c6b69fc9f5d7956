package perplexity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/team"
	"mneme/internal/token"
)

// chunk is how many positions are computed at once: their logits, of every
// side, are all that is kept of the vocabulary's size.
const chunk = kv.BlockTokens

// side is the model with KV in one format.
type side struct {
	format kv.Format
	pool   *kv.Pool
	runner *model.Runner
}

func newSide(m *model.Model, f kv.Format, window int, workers *team.Team) (*side, error) {
	s := &side{format: f}
	var err error
	if s.pool, err = kv.NewPool(m.Spec(f), poolBytes(m.Spec(f), window)); err != nil {
		return nil, err
	}
	if s.runner, err = m.NewRunner(s.pool, workers, model.Limits{Rows: chunk, Logits: chunk, Context: window}); err != nil {
		return nil, errors.Join(err, s.pool.Close())
	}
	return s, nil
}

// poolBytes is room for one window and more: memory that is not used is not taken.
func poolBytes(spec kv.Spec, window int) int64 {
	block := 0
	for g := range spec.Groups {
		block += spec.BlockBytes(g, spec.Format.Open())
	}
	return int64(window/kv.BlockTokens+64) * 2 * int64(block)
}

func (s *side) close() error { return errors.Join(s.runner.Close(), s.pool.Close()) }

// begin starts an empty table with room for the first step.
func (s *side) begin() (*kv.Growing, error) {
	stock, ok := s.pool.Allocate(s.pool.NeedFor(chunk, chunk))
	if !ok {
		return nil, fmt.Errorf("kv %s: no room for a step", s.format)
	}
	return kv.NewGrowing(s.pool, kv.Scope{Fingerprint: string(s.format), Namespace: "bench"}, stock), nil
}

// step computes the next tokens and returns their logits, valid until the next step.
func (s *side) step(g *kv.Growing, tokens []token.ID) ([][]float32, error) {
	stock, ok := s.pool.Allocate(g.Missing(g.Len()+len(tokens), chunk)) // windows give back what they have passed
	if !ok {
		return nil, fmt.Errorf("kv %s: no room behind %d tokens", s.format, g.Len())
	}
	g.Stock(stock)
	logits := s.runner.Run([]model.Span{{Tokens: tokens, KV: g, Slots: g.Plan(len(tokens)), Logits: len(tokens)}})
	g.Commit(tokens)
	return logits, nil
}

// window runs one window on every side, chunk by chunk, and compares. The
// result is a tally per side.
func (r *run) window(ctx context.Context, ids []token.ID, at func(pos int)) ([]tally, error) {
	tables := make([]*kv.Growing, len(r.sides))
	for i, s := range r.sides {
		g, err := s.begin()
		if err != nil {
			return nil, err
		}
		defer g.Drop()
		tables[i] = g
	}
	sums, logits := make([]tally, len(r.sides)), make([][][]float32, len(r.sides))
	for from := 0; from < len(ids); from += chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at(from)
		part := ids[from:min(from+chunk, len(ids))]
		for i, s := range r.sides {
			var err error
			if logits[i], err = s.step(tables[i], part); err != nil {
				return nil, err
			}
		}
		for _, p := range r.compare(ids, from, logits) {
			for i := range sums {
				sums[i].add(p[i])
			}
		}
	}
	return sums, nil
}

// compare looks at a chunk's positions, several at a time; the result is in
// their order, a point per side.
func (r *run) compare(ids []token.ID, from int, logits [][][]float32) [][]point {
	points := make([][]point, len(logits[0]))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(r.Threads, len(points)) {
		readers.Go(func() {
			p := make([]float64, r.model.Vocab)
			for row := int(next.Add(1)) - 1; row < len(points); row = int(next.Add(1)) - 1 {
				points[row] = comparePosition(ids, from+row, row, logits, p)
			}
		})
	}
	readers.Wait()
	return points
}

// comparePosition scores every side at one position; p is scratch, [vocab].
func comparePosition(ids []token.ID, pos, row int, logits [][][]float32, p []float64) []point {
	target := token.None
	if pos+1 < len(ids) {
		target = ids[pos+1]
	}
	ref := distributionOf(logits[0][row], p)
	out := make([]point, len(logits))
	for i := range out {
		l := logits[i][row]
		q := ref
		if i > 0 {
			q = distributionOf(l, nil)
		}
		out[i] = point{sealed: pos >= kv.BlockTokens, agrees: q.best == ref.best}
		if i > 0 {
			out[i].kl = divergence(logits[0][row], l, p, ref, q)
		}
		if target != token.None {
			out[i].nll, out[i].foretold = q.lse-float64(l[target]), true
		}
	}
	return out
}

// distribution is what a softmax needs: probability i is exp(logit i - lse).
type distribution struct {
	lse  float64
	best int // the first of the largest
}

// distributionOf reads logits; into p, if it is not nil, go the probabilities.
func distributionOf(logits []float32, p []float64) distribution {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	top, sum := float64(logits[best]), 0.0
	for i, v := range logits {
		e := math.Exp(float64(v) - top)
		sum += e
		if p != nil {
			p[i] = e
		}
	}
	for i := range p {
		p[i] /= sum
	}
	return distribution{lse: top + math.Log(sum), best: best}
}

// divergence is KL(a || b) in nats, a's probabilities being p.
func divergence(a, b []float32, p []float64, da, db distribution) float64 {
	sum := 0.0
	for i := range p {
		sum += p[i] * (float64(a[i]) - float64(b[i]))
	}
	return sum - da.lse + db.lse
}
