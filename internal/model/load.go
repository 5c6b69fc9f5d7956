package model

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"mneme/internal/arena"
	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/tensor"
)

// Model is a loaded model: weights in the kernels' form, in memory of its own.
// The file may be closed after Load. It is read-only and safe for any number
// of Runners.
type Model struct {
	Config
	Fingerprint string // digest of weights and tokenizer

	kernels *tensor.Kernels
	family  family
	memory  arena.Bump
	embed   embedding
	layers  []layer
	norm    []float32 // [Dim]
	head    *tensor.Weights
}

// layer is one block of the residual stream, in the order it is used.
type layer struct {
	group, inGroup int // of its KV
	local          bool

	attnNorm []float32       // [Dim]
	qkv      *tensor.Weights // [q rows | k rows | v rows] x Dim
	qkvBias  []float32       // [q rows | k rows | v rows], or nil
	qNorm    []float32       // [HeadDim], or nil
	kNorm    []float32       // [HeadDim], or nil
	out      *tensor.Weights // Dim x q rows
	postAttn []float32       // [Dim], or nil
	ffNorm   []float32       // [Dim]
	gateUp   *tensor.Weights // 2*FF x Dim, panels of 16 rows alternate gate, up
	down     *tensor.Weights // Dim x FF
	postFF   []float32       // [Dim], or nil
}

// panel is the height of a weight tile: gate and up alternate by it.
const panel = 16

// Load reads a model's weights from its file.
func Load(f *gguf.File, k *tensor.Kernels) (*Model, error) {
	c, err := ReadConfig(f)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: c, Fingerprint: f.Digest(), kernels: k, family: families[c.Arch]}
	l := loader{file: f, model: m}
	if err := l.load(); err != nil {
		m.Close()
		return nil, fmt.Errorf("model: %w", err)
	}
	return m, nil
}

// Close gives the weights' memory back.
func (m *Model) Close() error { return m.memory.Free() }

// Kernels are those the weights were packed for.
func (m *Model) Kernels() *tensor.Kernels { return m.kernels }

// WeightBytes is the memory the weights take.
func (m *Model) WeightBytes() int { return m.memory.Used() }

// Spec is the geometry of the model's KV in a format: full layers are group 0,
// local ones group 1, where there are both.
func (m *Model) Spec(format kv.Format) kv.Spec {
	full := kv.Group{KVHeads: m.KVHeads, KDim: m.HeadDim, VDim: m.HeadDim}
	local := full
	local.Window = m.Window
	for i := range m.Layers {
		if m.local(i) {
			local.Layers = append(local.Layers, i)
		} else {
			full.Layers = append(full.Layers, i)
		}
	}
	spec := kv.Spec{Format: format}
	for _, g := range []kv.Group{full, local} {
		if len(g.Layers) > 0 {
			spec.Groups = append(spec.Groups, g)
		}
	}
	return spec
}

// KVFingerprint names everything the bytes of a sealed block follow from
// besides its tokens: KV is never used under another one.
func (m *Model) KVFingerprint(format kv.Format) string {
	h := sha256.New()
	fmt.Fprintf(h, "mneme kv 1\nmodel %s\narch %s\nrope %g %g window %d %d", m.Fingerprint, m.Arch, m.RopeBase, m.RopeBaseLocal, m.Window, m.FullEvery)
	_ = binary.Write(h, binary.LittleEndian, m.RopeFactors)
	fmt.Fprintf(h, "\nformat %s\nblock %d\nclass %s\n", format, kv.BlockTokens, m.kernels.Class())
	return hex.EncodeToString(h.Sum(nil))
}

// embedding gives a token's row: the output head's when they are tied, else
// the file's own bytes.
type embedding struct {
	head   *tensor.Weights
	format quant.Format
	rows   []byte
	stride int
}

func (e *embedding) row(id int, dst []float32) {
	if e.head != nil {
		e.head.Row(id, dst)
		return
	}
	if err := quant.Dequantize(e.format, e.rows[id*e.stride:][:e.stride], dst); err != nil {
		panic(fmt.Sprintf("model: embedding row %d: %v", id, err)) // sizes were checked at load
	}
}

type loader struct {
	file  *gguf.File
	model *Model
}

func (l *loader) load() error {
	m := l.model
	for i := range m.Layers {
		if err := l.layer(i); err != nil {
			return err
		}
	}
	var err error
	if m.norm, err = l.vector("output_norm.weight", m.Dim); err != nil {
		return err
	}
	return l.ends()
}

// ends loads the embedding and the output head, which may be one tensor.
func (l *loader) ends() (err error) {
	m := l.model
	embd, err := l.matrix("token_embd.weight", m.Vocab, m.Dim)
	if err != nil {
		return err
	}
	if _, ok := l.file.Tensor("output.weight"); !ok {
		if m.head, err = l.pack("token_embd.weight", m.Vocab, m.Dim, plain(embd)); err == nil {
			m.embed.head = m.head
		}
		return err
	}
	out, err := l.matrix("output.weight", m.Vocab, m.Dim)
	if err != nil {
		return err
	}
	m.embed.format, m.embed.stride = embd.Format, len(embd.Data)/m.Vocab
	if m.embed.rows, err = m.memory.Take(len(embd.Data)); err != nil {
		return err
	}
	copy(m.embed.rows, embd.Data)
	m.head, err = l.pack("output.weight", m.Vocab, m.Dim, plain(out))
	return err
}

func (l *loader) layer(i int) error {
	m := l.model
	name := func(s string) string { return fmt.Sprintf("blk.%d.%s.weight", i, s) }
	ly := layer{local: m.local(i)}
	ly.group, ly.inGroup = l.place(i)
	err := l.vectors(&ly, name)
	if err != nil {
		return err
	}
	if ly.qkv, err = l.joint(name); err != nil {
		return err
	}
	if ly.gateUp, err = l.gateUp(name); err != nil {
		return err
	}
	if ly.out, err = l.single(name("attn_output"), m.Dim, m.qRows()); err != nil {
		return err
	}
	if ly.down, err = l.single(name("ffn_down"), m.Dim, m.FF); err != nil {
		return err
	}
	m.layers = append(m.layers, ly)
	return nil
}

// place is a layer's group of KV and its number there.
func (l *loader) place(layer int) (group, inGroup int) {
	for g, group := range l.model.Spec(kv.FormatQ4).Groups {
		if i := slices.Index(group.Layers, layer); i >= 0 {
			return g, i
		}
	}
	panic(fmt.Sprintf("model: layer %d is in no group", layer))
}

// vectors loads a layer's norms and biases.
func (l *loader) vectors(ly *layer, name func(string) string) (err error) {
	m := l.model
	want := []struct {
		into *[]float32
		name string
		n    int
		has  bool
	}{
		{&ly.attnNorm, "attn_norm", m.Dim, true},
		{&ly.ffNorm, "ffn_norm", m.Dim, true},
		{&ly.qNorm, "attn_q_norm", m.HeadDim, m.family.qkNorm},
		{&ly.kNorm, "attn_k_norm", m.HeadDim, m.family.qkNorm},
		{&ly.postAttn, "post_attention_norm", m.Dim, m.family.postNorms},
		{&ly.postFF, "post_ffw_norm", m.Dim, m.family.postNorms},
	}
	for _, v := range want {
		if v.has {
			if *v.into, err = l.vector(name(v.name), v.n); err != nil {
				return err
			}
		}
	}
	if m.family.qkvBias {
		ly.qkvBias, err = l.bias(name)
	}
	return err
}

// bias joins the biases of q, k and v in the order of their rows.
func (l *loader) bias(name func(string) string) ([]float32, error) {
	m := l.model
	var out []float32
	for i, part := range []string{"attn_q", "attn_k", "attn_v"} {
		n := m.kvRows()
		if i == 0 {
			n = m.qRows()
		}
		v, err := l.vector(strings.TrimSuffix(name(part), ".weight")+".bias", n)
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

// joint packs q, k and v as one matrix, with rotated pairs in halves.
func (l *loader) joint(name func(string) string) (*tensor.Weights, error) {
	m := l.model
	q, err := l.matrix(name("attn_q"), m.qRows(), m.Dim)
	if err != nil {
		return nil, err
	}
	k, err := l.matrix(name("attn_k"), m.kvRows(), m.Dim)
	if err != nil {
		return nil, err
	}
	v, err := l.matrix(name("attn_v"), m.kvRows(), m.Dim)
	if err != nil {
		return nil, err
	}
	rows := func(i int) (quant.Format, []byte) {
		switch {
		case i < m.qRows():
			return q.Format, q.Row(l.ropeRow(i))
		case i < m.qRows()+m.kvRows():
			return k.Format, k.Row(l.ropeRow(i - m.qRows()))
		}
		return v.Format, v.Row(i - m.qRows() - m.kvRows())
	}
	return l.pack(name("attn_q, k, v"), m.qRows()+2*m.kvRows(), m.Dim, rows)
}

// ropeRow is the file's row that holds output i of a rotated projection.
func (l *loader) ropeRow(i int) int {
	if !l.model.family.ropeAdjacent {
		return i
	}
	dim := l.model.HeadDim
	j := i % dim
	return i - j + j%(dim/2)*2 + j/(dim/2)
}

func (l *loader) gateUp(name func(string) string) (*tensor.Weights, error) {
	m := l.model
	gate, err := l.matrix(name("ffn_gate"), m.FF, m.Dim)
	if err != nil {
		return nil, err
	}
	up, err := l.matrix(name("ffn_up"), m.FF, m.Dim)
	if err != nil {
		return nil, err
	}
	rows := func(i int) (quant.Format, []byte) {
		j := i/(2*panel)*panel + i%panel
		if i/panel%2 == 0 {
			return gate.Format, gate.Row(j)
		}
		return up.Format, up.Row(j)
	}
	return l.pack(name("ffn_gate, up"), 2*m.FF, m.Dim, rows)
}

func (l *loader) single(name string, rows, cols int) (*tensor.Weights, error) {
	t, err := l.matrix(name, rows, cols)
	if err != nil {
		return nil, err
	}
	return l.pack(name, rows, cols, plain(t))
}

func plain(t gguf.Tensor) tensor.RowSource {
	return func(i int) (quant.Format, []byte) { return t.Format, t.Row(i) }
}

func (l *loader) pack(name string, rows, cols int, src tensor.RowSource) (*tensor.Weights, error) {
	w, err := l.model.kernels.Pack(rows, cols, src, l.model.memory.Take)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", name, err)
	}
	return w, nil
}

// matrix finds a tensor and checks its shape: rows x cols, rows outermost.
func (l *loader) matrix(name string, rows, cols int) (gguf.Tensor, error) {
	t, ok := l.file.Tensor(name)
	if !ok {
		return t, fmt.Errorf("tensor %s is missing", name)
	}
	if !t.Format.Supported() {
		return t, fmt.Errorf("tensor %s has number format %s, which is not supported yet", name, t.Format)
	}
	if t.RowLen() != cols || t.Rows() != rows {
		return t, fmt.Errorf("tensor %s is %d x %d, the model's shape asks for %d x %d", name, t.Rows(), t.RowLen(), rows, cols)
	}
	return t, nil
}

func (l *loader) vector(name string, n int) ([]float32, error) {
	t, err := l.matrix(name, 1, n)
	if err != nil {
		return nil, err
	}
	return floats(t)
}

// floats reads a whole tensor as f32.
func floats(t gguf.Tensor) ([]float32, error) {
	x := make([]float32, t.RowLen()*t.Rows())
	return x, quant.Dequantize(t.Format, t.Data, x)
}
