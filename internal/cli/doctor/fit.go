package doctor

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strings"

	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/kv"
)

// workBytes is what a server takes beside weights and KV: the program, the
// tables, a step's activations.
const workBytes = 150 << 20

// Fit is what a model would take of this machine, and what fits then.
type Fit struct {
	Path           string      `json:"path"`
	Architecture   string      `json:"architecture"`
	Layers         int         `json:"layers"`
	TrainedContext int         `json:"trained_context"` // tokens
	Context        int         `json:"context"`         // that a server would give
	Groups         []Group     `json:"layer_groups"`
	FileBytes      int64       `json:"file_bytes"`
	WeightBytes    int64       `json:"weight_bytes"` // in memory
	WorkBytes      int64       `json:"work_bytes"`
	FreeBytes      int64       `json:"free_bytes"` // 0 is unknown
	KVFormat       kv.Format   `json:"kv_format"`  // that was asked for
	Fits           bool        `json:"fits"`
	Advice         []string    `json:"advice,omitempty"` // what would fit
	KV             []FormatFit `json:"kv"`

	why string // it does not fit, or nearly
}

// Group is one of the model's layer groups.
type Group struct {
	Layers  int `json:"layers"`
	KVHeads int `json:"kv_heads"`
	HeadDim int `json:"head_dim"`
	Window  int `json:"window,omitempty"` // tokens that its queries look back; 0: all
}

// FormatFit is a KV format on this machine.
type FormatFit struct {
	Format        kv.Format `json:"kv_format"`
	BytesPerToken int       `json:"bytes_per_token"`
	// BeyondWindow is what a token costs once the windows are full.
	BeyondWindow int        `json:"bytes_per_token_beyond_window"`
	ContextBytes int64      `json:"context_bytes"` // of a turn over the whole context
	PoolBytes    int64      `json:"kv_memory_bytes"`
	Fits         bool       `json:"fits"`
	Agents       []Capacity `json:"agents"`

	err     error  // why there is no pool
	warning string // about the pool
}

// Capacity is how many agents of so many tokens fit in memory at once.
type Capacity struct {
	Tokens int   `json:"tokens"`
	Agents int64 `json:"agents"`
}

// weigh holds a model against a machine's memory.
func (d Doctor) weigh(h head, m wire.Memory) *Fit {
	c := h.config
	f := &Fit{
		Path: h.path, Architecture: c.Arch, Layers: c.Layers, TrainedContext: c.Context, Context: min(cmp.Or(d.Settings.Context, c.Context), c.Context),
		FileBytes: h.fileBytes, WeightBytes: h.weightBytes, WorkBytes: workBytes, FreeBytes: m.Free, KVFormat: d.Settings.KVFormat,
	}
	for _, g := range h.spec(f.KVFormat).Groups {
		f.Groups = append(f.Groups, Group{Layers: len(g.Layers), KVHeads: g.KVHeads, HeadDim: g.KDim, Window: g.Window})
	}
	for _, format := range formats {
		f.KV = append(f.KV, d.inFormat(h.spec(format), f, m.Total))
	}
	f.judge(d.Settings, h)
	return f
}

// room is what is left for KV; without bounds where that is unknown.
func (f *Fit) room() int64 {
	if f.FreeBytes <= 0 {
		return math.MaxInt64
	}
	return max(0, f.FreeBytes-f.WeightBytes-f.WorkBytes)
}

// inFormat is what a server would do with a KV format.
func (d Doctor) inFormat(spec kv.Spec, f *Fit, totalBytes int64) FormatFit {
	free := f.room()
	if f.FreeBytes <= 0 {
		free = 0
	}
	x := FormatFit{Format: spec.Format, BytesPerToken: spec.BytesPerToken(), BeyondWindow: beyondWindow(spec), ContextBytes: wire.TurnBytes(spec, f.Context, d.Settings.StepSize)}
	b, err := wire.PoolBudget(d.Settings, spec, f.TrainedContext, wire.Memory{Total: totalBytes, Free: free})
	if x.err = err; err != nil {
		return x
	}
	x.PoolBytes, x.Fits, x.warning = b.Bytes, b.Bytes <= f.room(), b.Warning()
	for _, tokens := range f.sizes() {
		x.Agents = append(x.Agents, Capacity{Tokens: tokens, Agents: b.Bytes / spec.TableBytes(tokens)})
	}
	return x
}

// beyondWindow is what a token costs in the groups that look back all the way.
func beyondWindow(spec kv.Spec) (n int) {
	for g, group := range spec.Groups {
		if group.Window == 0 {
			n += spec.BlockBytes(g, spec.Format.Form(1))
		}
	}
	return n / kv.BlockTokens
}

// sizes are the conversations to count: three usual ones and the longest.
func (f *Fit) sizes() []int {
	sizes := slices.DeleteFunc([]int{4 << 10, 8 << 10, 32 << 10}, func(n int) bool { return n >= f.Context })
	return append(sizes, f.Context)
}

// asked is the row of the format that a server would use.
func (f *Fit) asked() FormatFit {
	return f.KV[slices.IndexFunc(f.KV, func(x FormatFit) bool { return x.Format == f.KVFormat })]
}

// judge says whether it fits, and what would if it does not.
func (f *Fit) judge(s wire.Settings, h head) {
	x := f.asked()
	f.Fits, f.why = x.Fits, x.warning
	switch {
	case f.Fits:
	case f.room() == 0:
		f.why = "the weights alone are too large"
		f.Advice = []string{"a model of fewer or smaller weights"}
	case s.KVMemory.Given() && x.err == nil:
		f.why = "the memory for KV is too large"
		f.Advice = []string{fmt.Sprintf("--kv-memory of %s or less", value.Bytes(f.room()))}
	case x.ContextBytes <= f.room() || s.Context > f.TrainedContext:
		f.why = x.err.Error()
	default:
		f.why = fmt.Sprintf("one context of %d tokens takes %s of KV", f.Context, value.Bytes(x.ContextBytes))
		f.Advice = f.smaller(h.spec(f.KVFormat), s.StepSize)
	}
}

// smaller are the formats of fewer bits and the longest context that would fit.
func (f *Fit) smaller(spec kv.Spec, step int) (advice []string) {
	for _, x := range f.KV {
		if x.Fits && x.BytesPerToken < spec.BytesPerToken() {
			advice = append(advice, "--kv-format "+string(x.Format))
		}
	}
	const grain = 4 * kv.BlockTokens
	longest := grain * (sort.Search(f.Context/grain, func(i int) bool {
		return wire.TurnBytes(spec, grain*(i+1), step) > f.room()
	}))
	if longest > 0 {
		advice = append(advice, fmt.Sprintf("--context %d", longest))
	}
	return advice
}

// into adds what matters as checks.
func (f *Fit) into(r *report) {
	r.say("weights", verdict{good, fmt.Sprintf("%s in memory, %s as a file", value.Bytes(f.WeightBytes), value.Bytes(f.FileBytes))})
	for _, g := range f.Groups {
		r.say("KV group", verdict{good, g.describe()})
	}
	r.say("fits", f.verdict())
}

func (g Group) describe() string {
	back := "the whole context"
	if g.Window > 0 {
		back = fmt.Sprintf("a window of %d tokens, and no more of it is in memory", g.Window)
	}
	return fmt.Sprintf("%s of %s of %d, over %s", count(g.Layers, "layer"), count(g.KVHeads, "KV head"), g.HeadDim, back)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (f *Fit) verdict() verdict {
	x := f.asked()
	free := fmt.Sprintf(", of %s free", value.Bytes(f.FreeBytes))
	if f.FreeBytes <= 0 {
		free = "; how much is free is unknown"
	}
	sum := fmt.Sprintf("weights %s, %s KV %s and %s for the rest%s", value.Bytes(f.WeightBytes), f.KVFormat, value.Bytes(cmp.Or(x.PoolBytes, x.ContextBytes)), value.Bytes(f.WorkBytes), free)
	switch {
	case f.Fits && f.why == "":
		return verdict{good, "yes: " + sum}
	case f.Fits:
		return verdict{warn, f.why}
	case len(f.Advice) == 0:
		return verdict{bad, "no: " + f.why}
	}
	return verdict{bad, fmt.Sprintf("no: %s (%s); what would fit: %s", f.why, sum, strings.Join(f.Advice, ", or "))}
}

// table says how many agents each KV format has room for.
func (f *Fit) table(w io.Writer) {
	fmt.Fprint(w, "\nKV FORMAT\tBYTES PER TOKEN\tKV MEMORY\tAGENTS")
	before := " "
	for _, tokens := range f.sizes() {
		fmt.Fprintf(w, "%sOF %d", before, tokens)
		before = "\t"
	}
	fmt.Fprintln(w)
	for _, x := range f.KV {
		fmt.Fprintf(w, "%s\t%s\t%s\n", x.name(f.KVFormat), x.perToken(), x.capacities(len(f.sizes())))
	}
}

func (x FormatFit) name(asked kv.Format) string {
	if x.Format == asked {
		return string(x.Format) + " (asked for)"
	}
	return string(x.Format)
}

// perToken names both costs where there are windows.
func (x FormatFit) perToken() string {
	if x.BeyondWindow == x.BytesPerToken {
		return fmt.Sprint(x.BytesPerToken)
	}
	return fmt.Sprintf("%d, beyond windows %d", x.BytesPerToken, x.BeyondWindow)
}

func (x FormatFit) capacities(columns int) string {
	if !x.Fits {
		return "does not fit" + strings.Repeat("\t-", columns)
	}
	cells := []string{value.Bytes(x.PoolBytes)}
	for _, c := range x.Agents {
		cells = append(cells, fmt.Sprint(c.Agents))
	}
	return strings.Join(cells, "\t")
}
