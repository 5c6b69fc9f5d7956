package doctor

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/model/modeltest"
	"mneme/internal/tensor"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// gemma has the shape of Gemma 3 270M: 3 layers look back all the way, 15 over
// 512 tokens.
var gemma = head{
	path: "gemma.gguf", fileBytes: 240 * mib, weightBytes: 300 * mib,
	config: model.Config{Arch: "gemma3", Layers: 18, KVHeads: 1, HeadDim: 256, Context: 32768, Window: 512, FullEvery: 6},
}

// asked are the settings of a server that is told nothing but a KV format.
func asked(format kv.Format) wire.Settings { return wire.Settings{KVFormat: format, StepSize: 512} }

// The whole page on a model with windows. In q4 a token costs 18 layers x 512
// numbers x 4.5 bits; a long agent has only 3 layers of it and 15 windows.
func TestPage(t *testing.T) {
	d := Doctor{Settings: asked(kv.FormatQ4)}
	f := d.weigh(gemma, wire.Memory{Total: 8 * gib, Free: 4*gib + 450*mib})
	r := &report{Model: f}
	f.into(r)
	var out bytes.Buffer
	d.Out = &out
	if err := d.print(r); err != nil {
		t.Fatal(err)
	}
	const want = `
ok  weights   300.0 MiB in memory, 240.0 MiB as a file
ok  KV group  3 layers of 1 KV head of 256, over the whole context
ok  KV group  15 layers of 1 KV head of 256, over a window of 512 tokens, and no more of it is in memory
ok  fits      yes: weights 300.0 MiB, q4 KV 1.0 GiB and 150.0 MiB for the rest, of 4.4 GiB free

KV FORMAT       BYTES PER TOKEN             KV MEMORY  AGENTS OF 4096  OF 8192  OF 32768
q3              4032, beyond windows 672    1.0 GiB    187             126      42
q4 (asked for)  5184, beyond windows 864    1.0 GiB    153             102      33
q8              9792, beyond windows 1632   1.0 GiB    89              57       18
f16             18432, beyond windows 3072  1.0 GiB    49              31       9
`
	if out.String() != want[1:] {
		t.Errorf("got\n%s\nwant\n%s", &out, want[1:])
	}
}

// What is weighed without loading is what loading takes, but for vectors, which
// lie elsewhere: 5 of 128 numbers.
func TestWeightsAreWhatLoadingTakes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(path, modeltest.File(1), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	kernels, err := tensor.Pick("generic")
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Load(file, kernels)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, err := weightBytes(file); err != nil || got != int64(m.WeightBytes())+5*128*4 {
		t.Errorf("weighed %d bytes (%v), loading took %d", got, err, m.WeightBytes())
	}
}

// What does not fit says why, and what would: formats of fewer bits, a context
// that is a multiple of 256, less memory for KV, another model.
func TestFits(t *testing.T) {
	long := gemma
	long.config.Window = 0 // a context in f16 takes 18 layers x 1 KiB x 32768 tokens: 576 MiB
	set := func(change func(*wire.Settings)) wire.Settings {
		s := asked(kv.FormatF16)
		change(&s)
		return s
	}
	for _, c := range []struct {
		says     string
		head     head
		settings wire.Settings
		free     int64 // beyond weights and the rest
		want     string
	}{
		{"all of it", long, asked(kv.FormatF16), 600 * mib, "ok yes: weights 300.0 MiB, f16 KV 578.2 MiB and 150.0 MiB for the rest, of 1.0 GiB free"},
		{"fewer bits", long, asked(kv.FormatF16), 200 * mib, "FAIL no: one context of 32768 tokens takes 578.2 MiB of KV (weights 300.0 MiB, f16 KV 578.2 MiB and 150.0 MiB for the rest, of 650.0 MiB free); what would fit: --kv-format q3, or --kv-format q4, or --context 11008"},
		{"only fewer tokens", long, asked(kv.FormatQ3), 100 * mib, "what would fit: --context 25088"},
		{"windows are small", gemma, asked(kv.FormatF16), 150 * mib, "ok yes: "},
		{"a context that was asked for", long, set(func(s *wire.Settings) { s.Context = 4096 }), 100 * mib, "ok yes: "},
		{"beyond the model's", long, set(func(s *wire.Settings) { s.Context = 40000 }), 9 * gib, "FAIL no: --context 40000: must be from 16 to 32768"},
		{"weights that are too large", long, asked(kv.FormatF16), 0, "FAIL no: the weights alone are too large (weights 300.0 MiB, f16 KV 578.2 MiB and 150.0 MiB for the rest, of 450.0 MiB free); what would fit: a model of fewer or smaller weights"},
		{"too much asked for", long, set(func(s *wire.Settings) { s.KVMemory = value.Size{Bytes: gib} }), 900 * mib, "FAIL no: the memory for KV is too large (weights 300.0 MiB, f16 KV 1.0 GiB and 150.0 MiB for the rest, of 1.3 GiB free); what would fit: --kv-memory of 900.0 MiB or less"},
		{"more than there is", long, set(func(s *wire.Settings) { s.KVMemory = value.Size{Bytes: 65 * gib} }), 9 * gib, "FAIL no: --kv-memory 65GiB: must be at most 64.0 GiB"},
		{"too little asked for", long, set(func(s *wire.Settings) { s.KVMemory = value.Size{Bytes: 64 * mib} }), 9 * gib, "warn --kv-memory: 64.0 MiB are less than the 578.2 MiB of one context of 32768 tokens"},
		{"unknown memory", long, asked(kv.FormatF16), -450 * mib, "FAIL no: free memory is unknown here: give --kv-memory in bytes"},
		{"bytes in unknown memory", long, set(func(s *wire.Settings) { s.KVMemory = value.Size{Bytes: gib} }), -450 * mib, "ok yes: weights 300.0 MiB, f16 KV 1.0 GiB and 150.0 MiB for the rest; how much is free is unknown"},
	} {
		v := Doctor{Settings: c.settings}.weigh(c.head, wire.Memory{Total: 64 * gib, Free: c.free + 450*mib}).verdict()
		if got := string(v.level) + " " + v.text; !strings.Contains(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.says, got, c.want)
		}
	}
}

// A model that was asked for is looked into. As JSON the numbers are bytes and
// tokens. Less than a block of an agent is one block in f16: K and V of 2 layers.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(path, modeltest.File(1), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := asked(kv.FormatQ8)
	s.Model, s.DataDir, s.ModelsDir, s.Context, s.KVMemory = path, t.TempDir(), t.TempDir(), 32, value.Size{Bytes: 64 * mib}
	d := Doctor{Settings: s, Out: &out, AsJSON: true, LooksInside: true}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Checks []Check
		Model  *Fit
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, c := range got.Checks {
		what = append(what, c.What)
	}
	if want := "processor kernels memory data models model weights KV group fits"; strings.Join(what, " ") != want {
		t.Errorf("looked at %q, want %s", what, want)
	}
	f := got.Model
	if f == nil || f.Architecture != "llama" || f.Context != 32 || f.TrainedContext != modeltest.Context || !f.Fits || f.KVFormat != kv.FormatQ8 || len(f.KV) != 4 ||
		f.KV[2].PoolBytes != 64*mib || len(f.KV[2].Agents) != 1 || f.KV[2].Agents[0].Tokens != 32 || f.KV[2].Agents[0].Agents != 64*mib/(2*2*64*64*2) {
		t.Errorf("it says of the model %+v", f)
	}
}

// A model that is not here is nothing to fail for where it can be fetched.
func TestNotHere(t *testing.T) {
	for canFetch, want := range map[bool]level{true: good, false: bad} {
		if v := notHere("smollm2", canFetch); v.level != want || !strings.HasPrefix(v.text, "smollm2 is not here") {
			t.Errorf("%v: %+v, want %s", canFetch, v, want)
		}
	}
}
