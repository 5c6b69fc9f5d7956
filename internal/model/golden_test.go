package model_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/quant"
	"mneme/internal/team"
	"mneme/internal/tensor"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// bench is a loaded model with a pool, as the engine would have it.
type bench struct {
	model  *model.Model
	pool   *kv.Pool
	runner *model.Runner
}

func openBench(t testing.TB, path string, k *tensor.Kernels, format kv.Format, context int) *bench {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m := loadModel(t, f, k)
	if err := f.Close(); err != nil { // nothing may read the file after Load
		t.Fatal(err)
	}
	return newBench(t, m, format, context)
}

func loadModel(t testing.TB, f *gguf.File, k *tensor.Kernels) *model.Model {
	t.Helper()
	m, err := model.Load(f, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// newBench gives a loaded model a pool of a format; it lasts as long as t.
func newBench(t testing.TB, m *model.Model, format kv.Format, context int) *bench {
	t.Helper()
	b := &bench{model: m}
	var err error
	if b.pool, err = kv.NewPool(m.Spec(format), 512<<20); err != nil {
		t.Fatal(err)
	}
	team := team.New(2)
	if b.runner, err = m.NewRunner(b.pool, team, model.Limits{Rows: 512, Logits: 512, Context: context}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		team.Close()
		_ = b.runner.Close()
		_ = b.pool.Close()
	})
	return b
}

// logits runs ids in chunks and hands out each position's logits.
func (b *bench) logits(t *testing.T, ids []token.ID, chunk int, each func(pos int, logits []float32)) {
	t.Helper()
	stock, ok := b.pool.Allocate(kv.Need{})
	if !ok {
		t.Fatal("nothing asked for, nothing given")
	}
	g := kv.NewGrowing(b.pool, kv.Scope{Fingerprint: t.Name(), Namespace: "default"}, stock)
	for at := 0; at < len(ids); {
		n := min(chunk, len(ids)-at)
		b.stock(t, g, at+n)
		span := model.Span{Tokens: ids[at : at+n], KV: g, Slots: g.Plan(n), Logits: n}
		for i, l := range b.runner.Run([]model.Span{span}) {
			each(at+i, l)
		}
		g.Commit(span.Tokens)
		at += n
	}
	g.Drop()
	if err := b.pool.Check(); err != nil {
		t.Fatal(err)
	}
}

// stock reserves what a sequence needs to grow to n tokens.
func (b *bench) stock(t testing.TB, g *kv.Growing, n int) {
	t.Helper()
	more, ok := b.pool.Allocate(g.Missing(n, 512))
	if !ok {
		t.Fatalf("the pool is too small for %d tokens", n)
	}
	g.Stock(more)
}

// prompt is one record of logits.json.
type prompt struct {
	Name      string
	IDs       []token.ID
	Next      []float64 `json:"next_logprob"`
	Argmax    []int
	Margin    []float64
	MeanNLL   float64 `json:"mean_nll"`
	Positions []struct {
		Pos  int
		Full *struct {
			Dtype  string
			Offset int
		}
	}
}

func readPrompts(t *testing.T, dir string) (vocab int, prompts []prompt) {
	t.Helper()
	var file struct {
		Vocab   int
		Prompts []prompt
	}
	readJSON(t, dir+"/logits.json", &file)
	return file.Vocab, file.Prompts
}

// realModel is a real file with logits made by other software, and what it is
// held to.
type realModel struct {
	dir     string
	path    func(testing.TB) string
	prompts []string
	bounds
}

// bounds of logits against the truth. Those of golden/README.md are for int8
// activations with KV in f16 and q8.
type bounds struct {
	maxKL   float64 // mean, over whole distributions
	minTop1 float64 // percent, of 200 positions and more
	meanDLP float64 // of the next token's |log-probability difference|
	maxDLP  float64
}

var realModels = []realModel{
	{"smollm2-135m", testkit.SmolLM2, []string{"p60", "p200", "p700", "p1500"}, bounds{0.006, 94, 0.10, 1.5}},
	{"qwen2.5-coder-0.5b", testkit.Qwen, []string{"p60", "p200", "p700"}, bounds{0.003, 94, 0.10, 1.5}},
	{"gemma3-270m", testkit.Gemma, []string{"p60", "p200", "p700"}, bounds{0.010, 92, 0.10, 1.5}},
}

// goldenFormats are those held to the truth.
var goldenFormats = []kv.Format{kv.FormatF16, kv.FormatQ8, kv.FormatQ4, kv.FormatQ3}

// under is the bounds of a KV format: q4 adds its own divergence to that of the
// activations, q3 more of it (measured: mean KL to 0.009, top-1 from 92.4,
// mean |dlp| to 0.128, at one position 2.9).
func (m realModel) under(format kv.Format) realModel {
	switch format {
	case kv.FormatQ4:
		m.maxKL = q4KL
	case kv.FormatQ3:
		m.bounds = bounds{0.020, 90, 0.15, 4}
	}
	return m
}

// q4KL is the bound of mean KL with KV in q4, activations included.
const q4KL = 0.010

func readJSON(t *testing.T, rel string, into any) {
	t.Helper()
	data, err := os.ReadFile(testkit.Golden(t, rel))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// logSoftmax in float64.
func logSoftmax(logits []float32) []float64 {
	best := math.Inf(-1)
	for _, v := range logits {
		best = math.Max(best, float64(v))
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - best)
	}
	out := make([]float64, len(logits))
	for i, v := range logits {
		out[i] = float64(v) - best - math.Log(sum)
	}
	return out
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// score collects how far logits are from the truth.
type score struct {
	n, agree         int
	dlp, nll, kl     float64
	klN              int
	maxDLP, worstTop float64
}

// TestGoldenLogits holds the real model to logits made with other software, in
// every KV format, within golden/README.md's tolerance for int8 activations.
func TestGoldenLogits(t *testing.T) {
	best := tensor.Variants()[0]
	for _, m := range modelsFor(best) {
		b := openBench(t, m.path(t), best, kv.FormatF16, 1024)
		for _, format := range goldenFormats {
			t.Run(m.dir+"/"+string(format), func(t *testing.T) {
				m := m.under(format)
				m.prompts = promptsFor(best, m.prompts...)
				checkGolden(t, newBench(t, b.model, format, 3072), m)
			})
		}
	}
}

// modelsFor are those that the kernels get through in minutes.
func modelsFor(k *tensor.Kernels) []realModel {
	if k.Name() == "generic" {
		return realModels[:1]
	}
	return realModels
}

// promptsFor are those that the kernels get through in seconds: of the portable
// ones, which are many times slower, the two shortest.
func promptsFor(k *tensor.Kernels, names ...string) []string {
	if k.Name() == "generic" {
		return names[:2]
	}
	return names
}

// TestGoldenLogitsGeneric holds the portable kernels to the same truth, on a
// prompt they get through in seconds.
func TestGoldenLogitsGeneric(t *testing.T) {
	generic, err := tensor.Pick("generic")
	if err != nil {
		t.Fatal(err)
	}
	m := realModels[0]
	m.maxKL, m.prompts = q4KL, []string{"p60"}
	checkGolden(t, openBench(t, m.path(t), generic, kv.FormatQ4, 512), m)
}

func checkGolden(t *testing.T, b *bench, m realModel) {
	vocab, prompts := readPrompts(t, m.dir)
	full, err := os.ReadFile(testkit.Golden(t, m.dir+"/logits.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var all score
	for _, p := range prompts {
		if slices.Contains(m.prompts, p.Name) {
			s := b.score(t, p, vocab, full)
			all.kl, all.klN = all.kl+s.kl, all.klN+s.klN
			s.check(t, p, m.bounds)
		}
	}
	kl := all.kl / float64(all.klN)
	t.Logf("mean KL %.4f over %d positions, bound %.4f", kl, all.klN, m.maxKL)
	if kl > m.maxKL {
		t.Errorf("mean KL %.4f over %d positions, bound %.4f", kl, all.klN, m.maxKL)
	}
}

func (b *bench) score(t *testing.T, p prompt, vocab int, full []byte) score {
	var s score
	truth := map[int][]float64{}
	for _, at := range p.Positions {
		if at.Full != nil {
			truth[at.Pos] = readFull(full[at.Full.Offset:], at.Full.Dtype, vocab)
		}
	}
	b.logits(t, p.IDs, 256, func(pos int, logits []float32) {
		s.n++
		if argmax(logits) == p.Argmax[pos] {
			s.agree++
		} else {
			s.worstTop = math.Max(s.worstTop, p.Margin[pos])
		}
		lp := logSoftmax(logits)
		if pos+1 < len(p.IDs) {
			d := lp[p.IDs[pos+1]] - p.Next[pos]
			s.dlp += math.Abs(d)
			s.maxDLP = math.Max(s.maxDLP, math.Abs(d))
			s.nll -= d
		}
		if want, ok := truth[pos]; ok {
			s.klN++
			for i, w := range want {
				s.kl += math.Exp(w) * (w - lp[i])
			}
		}
	})
	return s
}

func readFull(data []byte, dtype string, vocab int) []float64 {
	out := make([]float64, vocab)
	for i := range out {
		if dtype == "f32" {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
		} else {
			out[i] = float64(quant.F16Value(binary.LittleEndian.Uint16(data[2*i:])))
		}
	}
	return out
}

func (s score) check(t *testing.T, p prompt, b bounds) {
	t.Helper()
	n := float64(s.n - 1)
	top1 := 100 * float64(s.agree) / float64(s.n)
	t.Logf("%s: mean |dlp| %.4f, max %.3f, NLL %+.5f, top-1 %.2f %%, worst margin %.3f", p.Name, s.dlp/n, s.maxDLP, s.nll/n, top1, s.worstTop)
	if s.dlp/n > b.meanDLP || s.maxDLP > b.maxDLP {
		t.Errorf("%s: mean |dlp| %.4f (bound %.2f), max %.3f (bound %.1f)", p.Name, s.dlp/n, b.meanDLP, s.maxDLP, b.maxDLP)
	}
	if s.n >= 200 && (math.Abs(s.nll/n) > 0.03 || top1 < b.minTop1) {
		t.Errorf("%s: NLL differs by %+.4f (bound 0.03), top-1 %.2f %% (bound %.0f)", p.Name, s.nll/n, top1, b.minTop1)
	}
}

// TestGoldenGreedy continues prompts greedily and compares with the truth until
// the first step whose margin is below 0.5.
func TestGoldenGreedy(t *testing.T) {
	best := tensor.Variants()[0]
	for _, m := range modelsFor(best) {
		b := openBench(t, m.path(t), best, kv.FormatF16, 1024)
		for _, format := range goldenFormats {
			t.Run(m.dir+"/"+string(format), func(t *testing.T) { checkGreedy(t, newBench(t, b.model, format, 1024), m) })
		}
	}
}

func checkGreedy(t *testing.T, b *bench, m realModel) {
	var file struct {
		Prompts []struct {
			Name         string
			IDs          []token.ID
			Continuation []token.ID
			Margin       []float64
		}
	}
	readJSON(t, m.dir+"/greedy.json", &file)
	for _, p := range file.Prompts {
		if len(p.IDs) > 200 && b.model.Kernels().Name() == "generic" {
			continue // minutes
		}
		sure := 0 // steps before the first doubtful one
		for sure < len(p.Margin) && p.Margin[sure] >= 0.5 {
			sure++
		}
		ids := append(append([]token.ID(nil), p.IDs...), p.Continuation[:sure]...)
		b.logits(t, ids, 128, func(pos int, logits []float32) {
			step := pos - (len(p.IDs) - 1)
			if step >= 0 && step < sure && token.ID(argmax(logits)) != p.Continuation[step] {
				t.Errorf("%s: step %d of %d sure ones is %d, truth %d (margin %.2f)", p.Name, step, sure, argmax(logits), p.Continuation[step], p.Margin[step])
			}
		})
		t.Logf("%s: %d steps compared", p.Name, sure)
	}
}

// TestTinyModels holds small f32 models of every family to the truth's f32
// bounds: rope scaling and an untied head (llama), norms of q and k (qwen3),
// windows of half a block, two rope bases, GELU (gemma3).
func TestTinyModels(t *testing.T) {
	for _, arch := range []string{"llama", "qwen3", "gemma3"} {
		t.Run(arch, func(t *testing.T) { checkTiny(t, "tiny/"+arch) })
	}
}

func checkTiny(t *testing.T, dir string) {
	var truth struct {
		Cases []struct {
			IDs    []token.ID
			Greedy []token.ID
			Margin []float64 `json:"greedy_margin"`
		}
	}
	readJSON(t, dir+"/truth.json", &truth)
	raw, err := os.ReadFile(testkit.Golden(t, dir+"/logits.bin"))
	if err != nil {
		t.Fatal(err)
	}
	// With KV in f16 the bound is wider: f16 rounds keys and values.
	for _, c := range []struct {
		k      *tensor.Kernels
		format kv.Format
		bound  float64
	}{{tensor.Exact(), kv.FormatF32, 1e-3}, {tensor.Variants()[0], kv.FormatF16, 2e-2}} {
		b := openBench(t, testkit.Golden(t, dir+"/model.gguf"), c.k, c.format, 512)
		var worst float64
		b.logits(t, truth.Cases[0].IDs, 64, func(pos int, logits []float32) {
			for i, v := range logits {
				want := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(pos*len(logits)+i):]))
				worst = math.Max(worst, math.Abs(float64(v-want)))
			}
		})
		t.Logf("%s, %s: max |logit diff| %.2e, bound %.0e", c.k.Name(), c.format, worst, c.bound)
		if worst > c.bound {
			t.Errorf("%s, %s: max |logit diff| %.2e, bound %.0e", c.k.Name(), c.format, worst, c.bound)
		}
		b.greedyEquals(t, truth.Cases[0].IDs, truth.Cases[0].Greedy, truth.Cases[0].Margin)
	}
}

// greedyEquals teacher-forces a continuation and wants every step of a margin
// above 0.005 to agree.
func (b *bench) greedyEquals(t *testing.T, ids, continuation []token.ID, margin []float64) {
	t.Helper()
	all := append(append([]token.ID(nil), ids...), continuation...)
	b.logits(t, all[:len(all)-1], 64, func(pos int, logits []float32) {
		if step := pos - (len(ids) - 1); step >= 0 && margin[step] > 0.005 && token.ID(argmax(logits)) != continuation[step] {
			t.Errorf("greedy step %d is %d, truth %d (margin %.3f)", step, argmax(logits), continuation[step], margin[step])
		}
	})
}
