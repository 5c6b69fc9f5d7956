package perplexity

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"mneme/internal/bench/figures"
	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
	"mneme/internal/tensor"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// naive is the textbook's KL(a || b) and -log b[target].
func naive(a, b []float32, target int) (kl, nll float64) {
	softmax := func(x []float32) []float64 {
		sum, out := 0.0, make([]float64, len(x))
		for _, v := range x {
			sum += math.Exp(float64(v))
		}
		for i, v := range x {
			out[i] = math.Exp(float64(v)) / sum
		}
		return out
	}
	p, q := softmax(a), softmax(b)
	for i := range p {
		kl += p[i] * math.Log(p[i]/q[i])
	}
	return kl, -math.Log(q[target])
}

// A position's figures are the textbook's, also where logits are so large that
// their exponentials are not finite; the last position foretells nothing, and
// the first block is not compared.
func TestComparePosition(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, shift := range []float32{0, 3000} {
		a, b := make([]float32, 300), make([]float32, 300)
		for i := range a {
			a[i] = float32(rng.NormFloat64()) * 3
			b[i] = a[i] + float32(rng.NormFloat64())*0.1
		}
		wantKL, wantNLL := naive(a, b, 7)
		for i := range a { // which changes neither
			a[i], b[i] = a[i]+shift, b[i]+shift
		}
		ids := make([]token.ID, 80)
		ids[71] = 7
		got := comparePosition(ids, 70, 0, [][][]float32{{a}, {b}}, make([]float64, 300))[1]
		if tolerance := 1e-5 * (1 + float64(shift)); math.Abs(got.kl-wantKL) > tolerance || math.Abs(got.nll-wantNLL) > tolerance || !got.foretold || !got.sealed {
			t.Errorf("seed %d, shift %g: %+v, want KL %g, NLL %g", seed, shift, got, wantKL, wantNLL)
		}
	}
	logits := [][][]float32{{{1, 9, 2}}, {{9, 1, 2}}}
	for pos, want := range map[int][2]bool{0: {true, false}, 63: {true, false}, 64: {true, true}, 79: {false, true}} { // foretold, sealed
		p := comparePosition(make([]token.ID, 80), pos, 0, logits, make([]float64, 3))
		if got := [2]bool{p[1].foretold, p[1].sealed}; got != want || p[1].agrees || !p[0].agrees {
			t.Errorf("position %d: %+v, want foretold and sealed %v, and the first choices to differ", pos, p, want)
		}
	}
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// numbers are the ids from 0 to n-1, over and over modulo 256.
func numbers(n int) []token.ID {
	ids := make([]token.ID, n)
	for i := range ids {
		ids[i] = token.ID(i % 256)
	}
	return ids
}

func tinyOptions(t *testing.T) Options {
	o := DefaultOptions()
	o.Model, o.Window, o.Windows, o.Threads = write(t, "tiny.gguf", modeltest.File(3)), 128, 2, 1
	text := "the thin cat in a theatre and the rain in the inn. "
	o.File = write(t, "story.txt", []byte(strings.Repeat(text, 17)))
	return o
}

// Every form of file becomes the windows it says.
func TestReadStreams(t *testing.T) {
	o := tinyOptions(t)
	m, tokens, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ids := numbers(300)
	list, _ := json.Marshal(ids)
	raw := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
	}
	two := [][]token.ID{ids[:128], ids[100:228]}
	golden, _ := json.Marshal(map[string]any{"streams": map[string]any{
		"prose": map[string]any{"windows": two, "mean_nll_per_window": []float64{2, 4}},
		"code":  map[string]any{"windows": two},
	}})
	cut := []Stream{{"ids", [][]token.ID{ids[:128], ids[128:256]}, nil}}
	for _, c := range []struct {
		path       string
		size, most int
		want       []Stream
	}{
		{write(t, "ids.json", list), 128, 4, cut},
		{write(t, "ids.bin", raw), 128, 4, cut},
		{write(t, "ids.bin", raw), 128, 1, []Stream{{"ids", cut[0].Windows[:1], nil}}},
		{write(t, "g.json", golden), 128, 4, []Stream{{"code", two, nil}, {"prose", two, []float64{2, 4}}}},
		{write(t, "g.json", golden), 128, 1, []Stream{{"code", two[:1], nil}, {"prose", two[:1], []float64{2}}}},
		{write(t, "g.json", golden), 65, 1, []Stream{{"code", [][]token.ID{ids[:65]}, nil}, {"prose", [][]token.ID{ids[:65]}, nil}}},
	} {
		got, err := ReadStreams(c.path, tokens, c.size, c.most)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s, %d of %d tokens: %v, %v\nwant %v", filepath.Base(c.path), c.most, c.size, got, err, c.want)
		}
	}
	for says, path := range map[string]string{
		"300 tokens do not fill a window of 640":            write(t, "ids.json", list),
		"13 bytes are no whole number":                      write(t, "ids.bin", make([]byte, 13)),
		"neither token ids nor streams":                     write(t, "x.json", []byte(`{"streams": 3}`)),
		"no stream":                                         write(t, "x.json", []byte(`{"streams": {}}`)),
		"stream prose has no window":                        write(t, "x.json", []byte(`{"streams": {"prose": {}}}`)),
		"window 1 has 128 tokens, asked for are 640":        write(t, "g.json", golden),
		"token 7 is 9999, the vocabulary has 264":           write(t, "ids.bin", bytes.Repeat([]byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 0x0f, 0x27, 0, 0}, 80)),
		"no such file":                                      filepath.Join(t.TempDir(), "nothing.txt"),
		"tokens do not fill a window of 640":                write(t, "short.txt", []byte("a short text")),
		"story.txt: 528 tokens do not fill a window of 640": "",
	} {
		if path == "" {
			path = o.File
		}
		if _, err := ReadStreams(path, tokens, 640, 4); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// Where the vocabulary asks for it every window begins with its BOS.
func TestCutWithBOS(t *testing.T) {
	got, err := cut("s", numbers(10), []token.ID{99}, 4, 2)
	want := []Stream{{"s", [][]token.ID{{99, 0, 1, 2}, {99, 3, 4, 5}}, nil}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// measured is a report without what differs from run to run.
func measured(t *testing.T, o Options) Report {
	t.Helper()
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.Seconds, r.Load, r.Threads = 0, figures.Load{}, 0
	return r
}

// The tiny model: a report is the same whatever the threads; f16 does not differ
// from itself; fewer bits differ more; widened weights hardly change perplexity.
func TestRunOnTheTinyModel(t *testing.T) {
	o := tinyOptions(t)
	o.Window = 256
	o.Formats = []kv.Format{kv.FormatF16, kv.FormatQ8, kv.FormatQ4, kv.FormatQ3}
	one := measured(t, o)
	o.Threads = 3
	if three := measured(t, o); !reflect.DeepEqual(one, three) {
		t.Errorf("one thread found %+v,\nthree found %+v", one, three)
	}
	s := one.Streams[0]
	if s.Name != "story" || s.Windows != 2 || s.Window != 256 || len(s.Formats) != 5 {
		t.Fatalf("stream %+v, want story of 2 windows of 256, and 5 formats", s)
	}
	f16, again, q8, q4, q3 := s.Formats[0], s.Formats[1], s.Formats[2], s.Formats[3], s.Formats[4]
	if again.KL != (figures.Mean{}) || again.Top1 != (figures.Mean{Mean: 100, Min: 100, Max: 100}) || again.NLL != f16.NLL {
		t.Errorf("f16 against itself: %+v", again)
	}
	if all, sealed := q8.KL.Mean, q8.SealedKL.Mean*192/256; math.Abs(all-sealed) > 1e-12 { // under q8 the first block is f16's own
		t.Errorf("KL of q8: %g over all positions, %g of it where sealed blocks are read", all, sealed)
	}
	if !(0 < q8.KL.Mean && q8.KL.Mean < q4.KL.Mean && q4.KL.Mean < q3.KL.Mean && q3.KL.Mean < 1) {
		t.Errorf("KL of q8, q4, q3: %g, %g, %g: want them to grow", q8.KL.Mean, q4.KL.Mean, q3.KL.Mean)
	}
	o.Weights = WeightsF32
	if wide := measured(t, o).Streams[0].Formats[0]; math.Abs(wide.NLL.Mean-f16.NLL.Mean) > 0.05 || wide.NLL == f16.NLL {
		t.Errorf("widened weights: NLL %+v, stored %+v: want a small difference", wide.NLL, f16.NLL)
	}
	checkOutput(t, one)
}

func checkOutput(t *testing.T, r Report) {
	t.Helper()
	var table, data bytes.Buffer
	if err := errors.Join(r.Table(&table), r.JSON(&data)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tiny-3, kernel ", "weights stored", "| story, 2 x 256 tokens |", "\n| q4 "} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	var back Report
	if err := json.Unmarshal(data.Bytes(), &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("JSON does not read back (%v): %s", err, &data)
	}
}

// A person who waits sees how far it is, in one line that is gone at the end.
func TestProgress(t *testing.T) {
	o := tinyOptions(t)
	var seen bytes.Buffer
	o.Windows, o.Formats, o.Progress = 1, nil, &seen
	measured(t, o)
	const line = "\r\x1b[K"
	if want := line + "story: window 1 of 1, token 0 of 128" + line + "story: window 1 of 1, token 64 of 128" + line; seen.String() != want {
		t.Errorf("progress %q, want %q", &seen, want)
	}
}

func TestRefusals(t *testing.T) {
	for says, change := range map[string]func(*Options){
		"a window of 127 tokens: give 128 to 131072": func(o *Options) { o.Window = 127 },
		"0 windows: give 1 to 1024":                  func(o *Options) { o.Windows = 0 },
		"0 threads":                                  func(o *Options) { o.Threads = 0 },
		`kv format "q5"`:                             func(o *Options) { o.Formats = []kv.Format{"q5"} },
		`weights "f8": stored or f32`:                func(o *Options) { o.Weights = "f8" },
		`no kernels "abacus"`:                        func(o *Options) { o.Kernel = "abacus" },
		"a window of 8192 tokens does not fit the model's context of 4096": func(o *Options) { o.Window, o.File = 8192, write(t, "long.json", long()) },
		"context canceled": nil,
	} {
		o, ctx := tinyOptions(t), context.Background()
		if change == nil {
			canceled, cancel := context.WithCancel(ctx)
			cancel()
			ctx, change = canceled, func(*Options) {}
		}
		change(&o)
		if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if err := DefaultOptions().Check(); err != nil {
		t.Error(err)
	}
}

func long() []byte {
	data, _ := json.Marshal(numbers(8192))
	return data
}

// TestGoldenPerplexity foretells the golden prose as other software does, within
// the bound for int8 activations on a prompt, and q4 stays near f16.
func TestGoldenPerplexity(t *testing.T) {
	o := DefaultOptions()
	o.Model, o.File = testkit.SmolLM2(t), testkit.Golden(t, "smollm2-135m/ppl.json")
	o.Window, o.Windows, o.Formats = 512, 1, []kv.Format{kv.FormatQ4}
	if tensor.Variants()[0].Name() == "generic" {
		o.Window = 192 // many times slower
	}
	truth, err := os.ReadFile(testkit.Golden(t, "smollm2-135m/ppl_prose.f32"))
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for i := range o.Window - 1 {
		want -= float64(math.Float32frombits(binary.LittleEndian.Uint32(truth[4*i:]))) / float64(o.Window-1)
	}
	prose := measured(t, o).Streams[1]
	got, q4 := prose.Formats[0], prose.Formats[1]
	t.Logf("f16: %.4f nats per token, truth %.4f; q4: %.4f, KL %.4f", got.NLL.Mean, want, q4.NLL.Mean, q4.KL.Mean)
	if prose.Name != "prose" || math.Abs(got.NLL.Mean-want) > 0.03 || q4.KL.Mean > 0.010 {
		t.Errorf("%s: NLL %.4f, truth %.4f (bound 0.03); KL of q4 %.4f (bound 0.010)", prose.Name, got.NLL.Mean, want, q4.KL.Mean)
	}
}

// bounds of mean KL to f16 KV, by format and stream.
var bounds = map[kv.Format]map[string]float64{
	kv.FormatQ8: {"prose": 0.0006, "code": 0.0006},
	kv.FormatQ4: {"prose": 0.005, "code": 0.010},
	kv.FormatQ3: {"prose": 0.02, "code": math.Inf(1)},
}

// TestGoldenStreams holds three models to the truth of whole streams, and the KV
// formats to their bounds on them. It takes about an hour of one CPU.
func TestGoldenStreams(t *testing.T) {
	if !soak {
		return
	}
	for dir, path := range map[string]string{
		"smollm2-135m": testkit.SmolLM2(t), "gemma3-270m": testkit.Gemma(t), "qwen2.5-coder-0.5b": testkit.Qwen(t),
	} {
		for _, w := range []Weights{WeightsStored, WeightsF32} {
			t.Run(fmt.Sprintf("%s/%s", dir, w), func(t *testing.T) {
				o := DefaultOptions()
				o.Model, o.File, o.Weights, o.Threads = path, testkit.Golden(t, dir+"/ppl.json"), w, runtime.NumCPU()
				r, err := Run(context.Background(), o)
				if err := errors.Join(err, r.Table(os.Stdout)); err != nil {
					t.Fatal(err)
				}
				checkStreams(t, r)
			})
		}
	}
}

func checkStreams(t *testing.T, r Report) {
	t.Helper()
	for _, s := range r.Streams {
		if d := *s.Formats[0].TruthDiff; math.Abs(d) > 0.02 {
			t.Errorf("%s: f16 differs by %+.4f nats from the truth, bound 0.02", s.Name, d)
		}
		if r.Weights == WeightsStored {
			continue // rounding of activations differs by more
		}
		for _, f := range s.Formats[1:] {
			if most := bounds[f.Format][s.Name]; !(f.KL.Mean <= most) {
				t.Errorf("%s, %s: mean KL %.5f, bound %g", s.Name, f.Format, f.KL.Mean, most)
			}
		}
	}
}
