package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"mneme/internal/token"
	"pgregory.net/rapid"
)

var (
	nan  = float32(math.NaN())
	inf  = float32(math.Inf(1))
	none = float32(math.Inf(-1))
)

// with returns the defaults, changed.
func with(change func(*Params)) Params {
	p := Defaults()
	change(&p)
	return p
}

func greedy(p *Params) { p.Temperature = 0 }

func TestGreedy(t *testing.T) {
	for _, c := range []struct {
		logits []float32
		want   token.ID // None: no token at all
	}{
		{[]float32{1, 3, 2}, 1},
		{[]float32{2, 3, 3}, 1}, // of equals the lower id
		{[]float32{nan, -5, nan}, 1},
		{[]float32{none, none, -1e30}, 2},
		{[]float32{inf, 1, inf}, 0},
		{[]float32{nan, none}, token.None},
		{nil, token.None},
	} {
		// A bias on no token of this vocabulary takes the long way round.
		biased := with(greedy)
		biased.LogitBias = map[token.ID]float64{1000: 5}
		sampled := with(func(p *Params) { p.TopK = 1 })
		for _, p := range []Params{with(greedy), biased, sampled} {
			choice, err := New(p).Next(c.logits, 7, nil, 0)
			if c.want == token.None {
				if !errors.Is(err, ErrNoToken) {
					t.Errorf("%v: token %d, error %v, want ErrNoToken", c.logits, choice.ID, err)
				}
			} else if err != nil || choice.ID != c.want {
				t.Errorf("%v: token %d (error %v), want %d", c.logits, choice.ID, err, c.want)
			}
		}
	}
}

// prompt [0 1], answer [1 1 2]; what each setting makes of the logits.
func TestAdjustments(t *testing.T) {
	history := []token.ID{0, 1, 1, 1, 2, 99}
	logits := []float32{2, -1, 0.5, 4}
	for _, c := range []struct {
		change func(*Params)
		want   []float64
	}{
		{func(p *Params) {}, []float64{2, -1, 0.5, 4}},
		{func(p *Params) { p.RepetitionPenalty = 2 }, []float64{1, -2, 0.25, 4}},
		{func(p *Params) { p.PresencePenalty = 1 }, []float64{2, -2, -0.5, 4}},
		{func(p *Params) { p.FrequencyPenalty = 0.5 }, []float64{2, -2, 0, 4}},
		{func(p *Params) { p.LogitBias = map[token.ID]float64{3: -100, 1: 1, -4: 9, 4: 9} }, []float64{2, 0, 0.5, -96}},
		{func(p *Params) {
			p.RepetitionPenalty, p.PresencePenalty, p.FrequencyPenalty = 2, 1, 0.5
			p.LogitBias = map[token.ID]float64{0: 3}
		}, []float64{4, -4, -1.25, 4}},
	} {
		s := New(with(c.change))
		for range 2 { // the second call finds clean working memory
			if _, err := s.Next(logits, 0, history, 2); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.values, c.want) {
				t.Errorf("values %v, want %v", s.values, c.want)
			}
		}
	}
	if want := []float32{2, -1, 0.5, 4}; !slices.Equal(logits, want) {
		t.Errorf("the model's logits became %v", logits)
	}
}

// probabilities 0.4 0.3 0.2 0.1 by id 2 0 3 1; which ids each filter keeps.
func TestFilters(t *testing.T) {
	logits := logitsOf(0.3, 0.1, 0.4, 0.2)
	for name, c := range map[string]struct {
		change func(*Params)
		want   []token.ID // in order of rank
	}{
		"all":                    {func(p *Params) {}, []token.ID{2, 0, 3, 1}},
		"top_k 2":                {func(p *Params) { p.TopK = 2 }, []token.ID{2, 0}},
		"top_k -1":               {func(p *Params) { p.TopK = -1 }, []token.ID{2, 0, 3, 1}},
		"top_p 0":                {func(p *Params) { p.TopP = 0 }, []token.ID{2}},
		"top_k above all":        {func(p *Params) { p.TopK = 9 }, []token.ID{2, 0, 3, 1}},
		"top_p 0.65":             {func(p *Params) { p.TopP = 0.65 }, []token.ID{2, 0}},
		"top_p 0.75":             {func(p *Params) { p.TopP = 0.75 }, []token.ID{2, 0, 3}},
		"top_p tiny":             {func(p *Params) { p.TopP = 1e-12 }, []token.ID{2}},
		"min_p 0.45":             {func(p *Params) { p.MinP = 0.45 }, []token.ID{2, 0, 3}},
		"min_p 1":                {func(p *Params) { p.MinP = 1 }, []token.ID{2}},
		"top_p of top_k's mass":  {func(p *Params) { p.TopK = 2; p.TopP = 0.55 }, []token.ID{2}},
		"temperature then top_p": {func(p *Params) { p.Temperature = 0.5; p.TopP = 0.8 }, []token.ID{2, 0}}, // 16:9:4:1
		"all three":              {func(p *Params) { p.TopK = 3; p.TopP = 0.99; p.MinP = 0.6 }, []token.ID{2, 0}},
	} {
		if got := keptBy(with(c.change), logits); !slices.Equal(got, c.want) {
			t.Errorf("%s: kept %v, want %v", name, got, c.want)
		}
	}
}

func logitsOf(probabilities ...float64) []float32 {
	logits := make([]float32, len(probabilities))
	for i, p := range probabilities {
		logits[i] = float32(math.Log(p))
	}
	return logits
}

func keptBy(p Params, logits []float32) []token.ID {
	s := New(p)
	s.load(logits)
	s.ranking.load(s.values, p.Temperature)
	kept, _ := p.keep(&s.ranking)
	var ids []token.ID
	for i := range kept {
		ids = append(ids, s.ranking.at(i).id)
	}
	return ids
}

// plain is Next as one would write it down, without haste.
func plain(p Params, logits []float32, pos int) token.ID {
	type weighed struct {
		id token.ID
		w  float64
	}
	greatest := float64(slices.Max(logits))
	var all []weighed
	for id, l := range logits {
		all = append(all, weighed{token.ID(id), math.Exp((float64(l) - greatest) / p.Temperature)})
	}
	slices.SortStableFunc(all, func(a, b weighed) int {
		switch {
		case a.w > b.w:
			return -1
		case a.w < b.w:
			return 1
		}
		return 0
	})
	mass := func(all []weighed) (sum float64) {
		for _, c := range all {
			sum += c.w
		}
		return sum
	}
	if p.TopK > 0 && p.TopK < len(all) {
		all = all[:p.TopK]
	}
	if p.TopP < 1 {
		n, enough := 1, p.TopP*mass(all)
		for n < len(all) && mass(all[:n]) < enough {
			n++
		}
		all = all[:n]
	}
	for len(all) > 0 && all[len(all)-1].w < p.MinP {
		all = all[:len(all)-1]
	}
	target, sum := uniform(p.Seed, pos)*mass(all), 0.0
	for _, c := range all {
		if sum += c.w; sum > target {
			return c.id
		}
	}
	return all[len(all)-1].id
}

// The early-stopping heap picks what sorting everything picks, ties included,
// and a used sampler picks what a fresh one does.
func TestSortingEverythingPicksTheSame(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := Params{
			Temperature:       rapid.Float64Range(0.01, 2).Draw(r, "temperature"),
			TopK:              rapid.IntRange(0, 12).Draw(r, "top_k"),
			TopP:              rapid.SampledFrom([]float64{1, 0.95, 0.5, 0.1}).Draw(r, "top_p"),
			MinP:              rapid.SampledFrom([]float64{0, 0.05, 0.5}).Draw(r, "min_p"),
			RepetitionPenalty: 1, Logprobs: -1,
			Seed: rapid.Uint64().Draw(r, "seed"),
		}
		level := rapid.Map(rapid.IntRange(-6, 6), func(i int) float32 { return float32(i) / 2 })
		logits := rapid.SliceOfN(level, 1, 60).Draw(r, "logits")
		used := New(p)
		for _, pos := range rapid.SliceOfN(rapid.IntRange(0, 1<<20), 1, 5).Draw(r, "positions") {
			want := plain(p, logits, pos)
			a, errA := used.Next(logits, pos, nil, 0)
			b, errB := New(p).Next(logits, pos, nil, 0)
			if errA != nil || errB != nil || a.ID != want || b.ID != want {
				r.Fatalf("position %d: used %d (%v), fresh %d (%v), want %d", pos, a.ID, errA, b.ID, errB, want)
			}
		}
	})
}

// 60,000 draws under one seed follow the distribution: chi-square with 5
// degrees of freedom is above 20.5 once in 1,000. Under another seed, other
// draws.
func TestDistribution(t *testing.T) {
	probabilities := []float64{0.05, 0.3, 0.1, 0.25, 0.1, 0.2}
	const draws = 60000
	logits := logitsOf(probabilities...)
	for _, seed := range []uint64{0, 1, 2, 1 << 63} {
		s := New(with(func(p *Params) { p.Seed = seed }))
		counts := make([]float64, len(probabilities))
		for pos := range draws {
			choice, err := s.Next(logits, pos, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			counts[choice.ID]++
		}
		if chi := chiSquare(counts, probabilities, draws); chi > 20.5 {
			t.Errorf("seed %d: chi-square %.1f, counts %v", seed, chi, counts)
		}
	}
}

func chiSquare(counts, probabilities []float64, draws float64) (chi float64) {
	for i, p := range probabilities {
		d := counts[i] - p*draws
		chi += d * d / (p * draws)
	}
	return chi
}

// Neither neighbouring positions nor neighbouring seeds go together, and a
// number is always below 1.
func TestUniform(t *testing.T) {
	const n = 20000
	var bySeed, byPos float64
	for i := range n {
		u := uniform(5, i)
		if u < 0 || u >= 1 || u != uniform(5, i) {
			t.Fatalf("uniform(5, %d) = %v", i, u)
		}
		byPos += (u - 0.5) * (uniform(5, i+1) - 0.5)
		bySeed += (uniform(uint64(i), 9) - 0.5) * (uniform(uint64(i)+1, 9) - 0.5)
	}
	// each sum has standard deviation sqrt(n)/12 = 11.8
	if math.Abs(byPos) > 50 || math.Abs(bySeed) > 50 {
		t.Errorf("correlation by position %.1f, by seed %.1f", byPos, bySeed)
	}
	if u := uniform(0, 0); u != 0.6524484863740322 {
		t.Errorf("uniform(0, 0) = %v: answers to seeded requests have changed", u)
	}
}

// logits 1 2 NaN 2 -Inf: log-softmax of the raw values, whatever was picked how.
func TestLogprobs(t *testing.T) {
	logits := []float32{1, 2, nan, 2, none}
	norm := math.Log(math.E + 2*math.E*math.E)
	p := with(func(p *Params) { p.Temperature, p.RepetitionPenalty, p.Logprobs = 0, 10, 4 })
	choice, err := New(p).Next(logits, 0, []token.ID{1, 3}, 2)
	if err != nil {
		t.Fatal(err)
	}
	want := Choice{ID: 0, Logprob: 1 - norm, Top: []Alternative{{1, 2 - norm}, {3, 2 - norm}, {0, 1 - norm}}}
	if !close(choice.Logprob, want.Logprob) || len(choice.Top) != 3 {
		t.Fatalf("choice %v, want %v", choice, want)
	}
	for i, a := range choice.Top {
		if a.ID != want.Top[i].ID || !close(a.Logprob, want.Top[i].Logprob) {
			t.Errorf("alternative %d: %v, want %v", i, a, want.Top[i])
		}
	}
	p.Logprobs = 0
	if choice, _ = New(p).Next(logits, 0, nil, 0); len(choice.Top) != 0 || !close(choice.Logprob, 2-norm) {
		t.Errorf("without alternatives: %v", choice)
	}
}

func close(a, b float64) bool { return math.Abs(a-b) < 1e-12 }

// The top n of many are the first n of all of them sorted.
func TestGreatest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		level := rapid.Map(rapid.IntRange(0, 9), func(i int) float32 { return float32(i) })
		logits := rapid.SliceOfN(level, 1, 50).Draw(r, "logits")
		n := rapid.IntRange(0, 20).Draw(r, "n")
		ids := make([]token.ID, len(logits))
		for i := range ids {
			ids[i] = token.ID(i)
		}
		slices.SortStableFunc(ids, func(a, b token.ID) int { return int(logits[b] - logits[a]) })
		var got []token.ID
		for _, a := range greatest(logits, n) {
			got = append(got, a.ID)
		}
		if want := ids[:min(n, len(ids))]; !slices.Equal(got, want) {
			r.Fatalf("top %d: %v, want %v", n, got, want)
		}
	})
}

// Extremes of logits and temperature: numbers stay numbers.
func TestExtremes(t *testing.T) {
	for _, c := range []struct {
		logits      []float32
		temperature float64
		want        token.ID
	}{
		{[]float32{inf, 0, none}, 1, 0},
		{[]float32{-3e38, 3e38, 0}, 2, 1},
		{[]float32{1, 2, 1}, 5e-324, 1},
		{[]float32{none, nan, -3e38}, 2, 2},
	} {
		p := with(func(p *Params) { p.Temperature, p.Logprobs = c.temperature, 3 })
		choice, err := New(p).Next(c.logits, 3, nil, 0)
		if err != nil || choice.ID != c.want || math.IsNaN(choice.Logprob) || math.IsInf(choice.Logprob, 0) {
			t.Errorf("%v at %v: %v (error %v), want token %d", c.logits, c.temperature, choice, err, c.want)
		}
	}
}

func TestStepsAllocateNothing(t *testing.T) {
	logits := randomLogits(4096)
	history := []token.ID{1, 2, 3, 2}
	for name, p := range map[string]Params{
		"greedy":  with(greedy),
		"sampled": with(func(p *Params) { p.TopP = 0.9 }),
		"penalised": with(func(p *Params) {
			p.RepetitionPenalty, p.PresencePenalty, p.LogitBias = 1.1, 1, map[token.ID]float64{5: 1}
		}),
	} {
		s := New(p)
		pos := 0
		allocs := testing.AllocsPerRun(50, func() {
			pos++
			if _, err := s.Next(logits, pos, history, 2); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations per token", name, allocs)
		}
	}
}

func randomLogits(n int) []float32 {
	random := rand.New(rand.NewPCG(1, 2))
	logits := make([]float32, n)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * 3)
	}
	return logits
}

func TestCheck(t *testing.T) {
	if err := Defaults().Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	all := Params{Temperature: 2, TopP: 0, MinP: 1, RepetitionPenalty: 10, PresencePenalty: -2, FrequencyPenalty: 2,
		TopK: 1 << 40, Seed: math.MaxUint64, Logprobs: 20, LogitBias: map[token.ID]float64{0: -100, 5: 100}}
	if err := all.Check(); err != nil {
		t.Errorf("the ends of the ranges: %v", err)
	}
	for _, c := range []struct {
		change func(*Params)
		want   string
	}{
		{func(p *Params) { p.Temperature = 2.5 }, "temperature: 2.5 is not within 0 to 2"},
		{func(p *Params) { p.Temperature = math.NaN() }, "temperature: NaN is not a finite number"},
		{func(p *Params) { p.Temperature = -0.1 }, "temperature: -0.1 is not within 0 to 2"},
		{func(p *Params) { p.TopP = -0.1 }, "top_p: -0.1 is not within 0 to 1"},
		{func(p *Params) { p.TopP = 1.01 }, "top_p: 1.01 is not within 0 to 1"},
		{func(p *Params) { p.MinP = math.Inf(1) }, "min_p: +Inf is not a finite number"},
		{func(p *Params) { p.RepetitionPenalty = 0 }, "repetition_penalty: 0 is not above 0 and at most 10"},
		{func(p *Params) { p.PresencePenalty = 1e300 }, "presence_penalty: 1e+300 is not within -2 to 2"},
		{func(p *Params) { p.FrequencyPenalty = -2.01 }, "frequency_penalty: -2.01 is not within -2 to 2"},
		{func(p *Params) { p.TopK = -2 }, "top_k: -2 is less than -1, which stands for all"},
		{func(p *Params) { p.Logprobs = 21 }, "top_logprobs: 21 is not within 0 to 20"},
		{func(p *Params) { p.LogitBias = map[token.ID]float64{7: 101} }, "logit_bias[7]: 101 is not within -100 to 100"},
		{func(p *Params) { p.LogitBias = map[token.ID]float64{-7: 1} }, "logit_bias: -7 is no token"},
	} {
		err := with(c.change).Check()
		var param *ParamError
		if !errors.As(err, &param) || err.Error() != c.want {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	logits := randomLogits(49152)
	for name, p := range map[string]Params{
		"greedy":     with(greedy),
		"pure":       Defaults(),
		"top_k=40":   with(func(p *Params) { p.TopK = 40 }),
		"top_p=0.95": with(func(p *Params) { p.TopP = 0.95 }),
	} {
		b.Run(name, func(b *testing.B) {
			s := New(p)
			b.ReportAllocs()
			for pos := 0; b.Loop(); pos++ {
				if _, err := s.Next(logits, pos, nil, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
