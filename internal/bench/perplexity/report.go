package perplexity

import (
	"fmt"
	"io"
	"math"
	"strings"

	"mneme/internal/bench/figures"
	"mneme/internal/kv"
)

// point is one position of one side.
type point struct {
	foretold bool // there is a next token
	nll      float64
	sealed   bool // the position reads a sealed block; those before it hardly differ
	kl       float64
	agrees   bool
}

// tally sums a window of one side.
type tally struct {
	targets, positions, sealed, agree int
	nll, kl, sealedKL, maxKL          float64
}

func (t *tally) add(p point) {
	if p.foretold {
		t.targets, t.nll = t.targets+1, t.nll+p.nll
	}
	t.positions, t.kl, t.maxKL = t.positions+1, t.kl+p.kl, math.Max(t.maxKL, p.kl)
	if p.agrees {
		t.agree++
	}
	if p.sealed {
		t.sealed, t.sealedKL = t.sealed+1, t.sealedKL+p.kl
	}
}

// Report is everything that was measured.
type Report struct {
	Model   string         `json:"model"`
	Kernel  string         `json:"kernel"` // numerics class
	Weights Weights        `json:"weights"`
	Threads int            `json:"threads"`
	Seconds float64        `json:"seconds"`
	Load    figures.Load   `json:"load_average"`
	Streams []StreamReport `json:"streams"`
}

// StreamReport is one stream's part.
type StreamReport struct {
	Name     string         `json:"name"`
	Windows  int            `json:"windows"`
	Window   int            `json:"window"` // tokens
	TruthNLL *float64       `json:"truth_nll,omitempty"`
	Formats  []FormatReport `json:"formats"` // f16 first
}

// FormatReport is what one KV format did to a stream: the mean over its windows,
// and how they spread.
type FormatReport struct {
	Format        kv.Format    `json:"format"`
	BytesPerToken int          `json:"kv_bytes_per_token"`
	NLL           figures.Mean `json:"nll"` // nats per token
	Perplexity    float64      `json:"perplexity"`
	KL            figures.Mean `json:"kl_to_f16"`        // nats per position, over all of them
	SealedKL      figures.Mean `json:"kl_to_f16_sealed"` // over those that read a sealed block
	MaxKL         float64      `json:"kl_to_f16_largest"`
	Top1          figures.Mean `json:"top1_agreement_percent"`
	TruthDiff     *float64     `json:"nll_less_truth,omitempty"`
}

// add puts a stream's tallies, [side][window], into the report.
func (r *Report) add(s Stream, sides []*side, sums [][]tally) {
	out := StreamReport{Name: s.Name, Windows: len(s.Windows), Window: len(s.Windows[0])}
	if len(s.Truth) > 0 {
		truth := figures.MeanOf(s.Truth).Mean
		out.TruthNLL = &truth
	}
	for i, side := range sides {
		f := formatReport(sums[i])
		f.Format, f.BytesPerToken = side.format, side.pool.Spec().BytesPerToken()
		if out.TruthNLL != nil {
			diff := f.NLL.Mean - *out.TruthNLL
			f.TruthDiff = &diff
		}
		out.Formats = append(out.Formats, f)
	}
	r.Streams = append(r.Streams, out)
}

func formatReport(windows []tally) FormatReport {
	var nll, kl, sealed, top1 []float64
	var f FormatReport
	for _, t := range windows {
		nll = append(nll, t.nll/float64(t.targets))
		kl, sealed = append(kl, t.kl/float64(t.positions)), append(sealed, t.sealedKL/float64(t.sealed))
		top1 = append(top1, 100*float64(t.agree)/float64(t.positions))
		f.MaxKL = math.Max(f.MaxKL, t.maxKL)
	}
	f.NLL, f.KL, f.SealedKL, f.Top1 = figures.MeanOf(nll), figures.MeanOf(kl), figures.MeanOf(sealed), figures.MeanOf(top1)
	f.Perplexity = math.Exp(f.NLL.Mean)
	return f
}

// JSON writes the report for programs.
func (r Report) JSON(w io.Writer) error { return figures.JSON(w, r) }

// Table writes the report for people, as Markdown tables.
func (r Report) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, kernel %s, weights %s, %d threads, %.0f s, %s.\n", r.Model, r.Kernel, r.Weights, r.Threads, r.Seconds, r.Load.Text())
	fmt.Fprintf(&b, "Mean (least to most of the windows); KL in nats over the whole vocabulary, at all positions and at those that read a sealed block.\n\n")
	for _, s := range r.Streams {
		figures.Table(&b, s.rows())
		if s.TruthNLL != nil {
			fmt.Fprintf(&b, "Truth: %.4f nats per token, perplexity %.4f; f16 differs by %+.4f nats.\n\n", *s.TruthNLL, math.Exp(*s.TruthNLL), *s.Formats[0].TruthDiff)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s StreamReport) rows() [][]string {
	head := fmt.Sprintf("%s, %d x %d tokens", s.Name, s.Windows, s.Window)
	rows := [][]string{{head, "bytes per token", "nats per token", "perplexity", "KL to f16", "where sealed", "largest", "same first choice %"}}
	for _, f := range s.Formats {
		row := []string{string(f.Format), fmt.Sprint(f.BytesPerToken), f.NLL.Text(4), f.change(s.Formats[0].Perplexity)}
		if f.Format == kv.FormatF16 {
			row = append(row, "", "", "", "")
		} else {
			row = append(row, f.KL.Text(5), f.SealedKL.Text(5), fmt.Sprintf("%.3f", f.MaxKL), f.Top1.Text(2))
		}
		rows = append(rows, row)
	}
	return rows
}

// change is the perplexity and what the format adds to f16's.
func (f FormatReport) change(f16 float64) string {
	if f.Format == kv.FormatF16 {
		return fmt.Sprintf("%.4f", f.Perplexity)
	}
	return fmt.Sprintf("%.4f (%+.2f %%)", f.Perplexity, 100*(f.Perplexity/f16-1))
}
