// Package model knows declared architectures and the order of norm, attention
// and MLP: it loads a family's weights into the kernels' form and runs a batch
// over block tables. It leaves the arithmetic of a layer to tensor, blocks to
// kv, text to token and chat, and who is in a batch to engine.
package model

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"mneme/internal/gguf"
)

// Config is the shape of a model, as its file declares it.
type Config struct {
	Arch     string
	Name     string // general.name, or ""
	Layers   int
	Dim      int // of the residual stream
	Heads    int
	KVHeads  int
	HeadDim  int
	FF       int // of the MLP's hidden layer
	Vocab    int
	Context  int // trained positions
	RopeBase float64
	// RopeFactors divide the frequency of each rotated pair; nil for none.
	RopeFactors []float32
	NormEps     float32

	// Window is how far local layers look back, themselves included; 0 if all
	// layers see everything. Every FullEvery-th layer is full all the same.
	Window        int
	FullEvery     int
	RopeBaseLocal float64
}

// local says whether a layer looks back Window positions only.
func (c Config) local(layer int) bool { return c.Window > 0 && (layer+1)%c.FullEvery != 0 }

// family is what one architecture does differently; the shared layers read it.
type family struct {
	// ropeAdjacent: the file's q and k rows pair neighbours (2i, 2i+1); the
	// kernels pair halves (i, i+dim/2), so rows are permuted at load.
	ropeAdjacent bool
	qkvBias      bool // q, k and v have biases
	qkNorm       bool // q and k are normed per head before they are rotated
	postNorms    bool // attention's and the MLP's outputs are normed before they are added
	embedScale   bool // embeddings are multiplied by sqrt(Dim)
	gelu         bool // the MLP's gate is GELU (tanh form) instead of SiLU
	// windows reads the keys of local layers; nil where there are none.
	windows func(c *Config, r *configReader)
}

// families are the architectures that run, by general.architecture; each is
// declared in a file of its own.
var families = map[string]family{
	"llama":  llama,
	"qwen2":  qwen2,
	"qwen3":  qwen3,
	"gemma3": gemma3,
}

// Families lists the supported architectures.
func Families() []string { return slices.Sorted(maps.Keys(families)) }

// maxContext bounds what a file may claim, so that tables stay affordable.
const maxContext = 1 << 22

// ReadConfig reads and checks a file's shape. Errors name the key.
func ReadConfig(f *gguf.File) (Config, error) {
	arch, ok := f.String("general.architecture")
	if !ok {
		return Config{}, fmt.Errorf("model: no general.architecture in the file")
	}
	if _, ok := families[arch]; !ok {
		return Config{}, fmt.Errorf("model: architecture %q is not supported; supported: %s", arch, strings.Join(Families(), ", "))
	}
	r := configReader{file: f, arch: arch}
	c := Config{
		Arch:     arch,
		Layers:   r.int("block_count", 1, 1024),
		Dim:      r.int("embedding_length", 1, 1<<20),
		Heads:    r.int("attention.head_count", 1, 4096),
		FF:       r.int("feed_forward_length", 1, 1<<22),
		Context:  r.int("context_length", 1, maxContext),
		RopeBase: r.float("rope.freq_base", 10000),
		NormEps:  float32(r.float("attention.layer_norm_rms_epsilon", 1e-5)),
	}
	c.Name, _ = f.String("general.name")
	c.KVHeads = r.intOr("attention.head_count_kv", c.Heads, 1, 4096)
	if r.err == nil {
		c.HeadDim = r.intOr("attention.key_length", c.Dim/c.Heads, 1, 4096)
		c.Vocab = r.vocab()
		c.RopeFactors = r.factors(c.HeadDim)
		if windows := families[arch].windows; windows != nil {
			windows(&c, &r)
		}
	}
	if r.err != nil {
		return Config{}, fmt.Errorf("model: %w", r.err)
	}
	if err := refuseIgnored(f, c); err != nil {
		return Config{}, fmt.Errorf("model: %w", err)
	}
	return c, c.check()
}

// refuseIgnored names a key that would change what the model computes and that
// nothing here reads: a wrong answer without a word is worse than none.
func refuseIgnored(f *gguf.File, c Config) error {
	for key, harmless := range map[string]uint64{
		"rope.dimension_count": uint64(c.HeadDim), "attention.value_length": uint64(c.HeadDim), "attention.sliding_window": uint64(c.Window), "expert_count": 0,
		"vocab_size": uint64(c.Vocab),
	} {
		if v, ok := f.Uint(c.Arch + "." + key); ok && v != harmless {
			return fmt.Errorf("key %s.%s = %d is not supported; only %d is", c.Arch, key, v, harmless)
		}
	}
	if v, ok := f.String(c.Arch + ".rope.scaling.type"); ok && v != "none" {
		return fmt.Errorf("key %s.rope.scaling.type = %q is not supported", c.Arch, v)
	}
	if v, ok := f.Float(c.Arch + ".rope.scaling.factor"); ok && v != 1 {
		return fmt.Errorf("key %s.rope.scaling.factor = %g is not supported", c.Arch, v)
	}
	return nil
}

func (c Config) check() error {
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("model: %d attention heads over %d KV heads", c.Heads, c.KVHeads)
	case c.HeadDim%16 != 0:
		return fmt.Errorf("model: head dim %d is no multiple of 16", c.HeadDim)
	case c.FF%16 != 0:
		return fmt.Errorf("model: feed_forward_length %d is no multiple of 16", c.FF)
	case c.RopeBase <= 0 || math.IsNaN(c.RopeBase) || math.IsInf(c.RopeBase, 0):
		return fmt.Errorf("model: rope.freq_base %g", c.RopeBase)
	case !(c.NormEps >= 0 && c.NormEps < 1):
		return fmt.Errorf("model: layer_norm_rms_epsilon %g", c.NormEps)
	}
	return nil
}

// qRows and kvRows are the widths of the joint projection's parts.
func (c Config) qRows() int  { return c.Heads * c.HeadDim }
func (c Config) kvRows() int { return c.KVHeads * c.HeadDim }

// configReader reads "<arch>.key" values and keeps the first error.
type configReader struct {
	file *gguf.File
	arch string
	err  error
}

func (r *configReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *configReader) int(key string, lo, hi int) int {
	v, ok := r.file.Uint(r.arch + "." + key)
	switch {
	case !ok:
		r.fail("key %s.%s is missing or no number", r.arch, key)
	case v < uint64(lo) || v > uint64(hi):
		r.fail("key %s.%s is %d, allowed are %d to %d", r.arch, key, v, lo, hi)
		v = uint64(lo)
	}
	return int(v)
}

func (r *configReader) intOr(key string, def, lo, hi int) int {
	if _, ok := r.file.Uint(r.arch + "." + key); !ok {
		return def
	}
	return r.int(key, lo, hi)
}

func (r *configReader) float(key string, def float64) float64 {
	if v, ok := r.file.Float(r.arch + "." + key); ok {
		return v
	}
	return def
}

func (r *configReader) vocab() int {
	t, ok := r.file.Tensor("token_embd.weight")
	if !ok {
		r.fail("tensor token_embd.weight is missing")
		return 0
	}
	return t.Rows()
}

// factors reads rope_freqs.weight, the divisors of llama 3's long context.
func (r *configReader) factors(headDim int) []float32 {
	t, ok := r.file.Tensor("rope_freqs.weight")
	if !ok {
		return nil
	}
	x, err := floats(t)
	if err != nil || len(x) != headDim/2 {
		r.fail("tensor rope_freqs.weight has %d values for head dim %d (%v)", len(x), headDim, err)
	}
	return x
}
