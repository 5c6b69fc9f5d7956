package bench

import (
	"fmt"
	"io"
	"strings"

	"mneme/internal/bench/durable"
	"mneme/internal/bench/figures"
	"mneme/internal/bench/probe"
)

// Report is everything that was measured. Every ratio was taken within one
// round, on one machine.
type Report struct {
	Server     probe.Server    `json:"server"`
	Seed       uint64          `json:"seed"`
	Rounds     int             `json:"rounds"`
	Load       figures.Load    `json:"load_average"`
	FirstToken []FirstToken    `json:"first_token"`
	Decode     Decode          `json:"decode_tokens_per_second"`
	Shared     Shared          `json:"common_beginning"`
	Durable    *durable.Report `json:"durable,omitempty"` // of a spawned server
	Notes      []string        `json:"notes,omitempty"`
}

// Check fails when a restored turn said something else than a hot one, or an
// encrypted one than a plain one: the times of a wrong answer are worth nothing.
func (r Report) Check() error {
	for _, f := range r.FirstToken {
		if !f.SameTokens {
			return fmt.Errorf("at %d tokens a restored turn answered otherwise than a hot one", f.Tokens)
		}
	}
	if r.Durable != nil {
		return r.Durable.Check()
	}
	return nil
}

// JSON writes the report for programs.
func (r Report) JSON(w io.Writer) error { return figures.JSON(w, r) }

// Table writes the report for people, as Markdown tables.
func (r Report) Table(w io.Writer) error {
	var b strings.Builder
	s := r.Server
	fmt.Fprintf(&b, "%s, KV %s (%d bytes per token), kernel %s, version %s.\nMedian (least to most) of %d rounds, seed %d, %s.\n\n",
		s.Model, s.KVFormat, s.KVBytes, s.Kernel, s.Version, r.Rounds, r.Seed, r.Load.Text())
	figures.Table(&b, r.firstTokenRows())
	figures.Table(&b, r.decodeRows())
	figures.Table(&b, r.sharedRows())
	if r.Durable != nil {
		r.Durable.Table(&b)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "Note: %s.\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) firstTokenRows() [][]string {
	rows := [][]string{{"first token after", "new", "uncached ms", "hot ms", "restored ms", "hot / uncached", "restored / uncached", "restored says the same"}}
	for _, f := range r.FirstToken {
		rows = append(rows, []string{
			fmt.Sprintf("%d tokens", f.Tokens), fmt.Sprint(f.NewTokens), f.Uncached.Text(0), f.Hot.Text(1), f.Restored.Text(1),
			f.HotRatio.Inverse(), f.RestoredRatio.Inverse(), figures.YesNo(f.SameTokens),
		})
	}
	return rows
}

func (r Report) decodeRows() [][]string {
	d := r.Decode
	return [][]string{
		{"tokens per second", "", "against one after another"},
		{"1 agent, decoding", d.One.Text(0), ""},
		{"3 agents, one after another", d.Three.InTurn.Text(0), "1"},
		{"3 agents together", d.Three.AtOnce.Text(0), d.Three.Ratio.Text(2) + " x"},
		{"8 agents, one after another", d.Eight.InTurn.Text(0), "1"},
		{"8 agents together", d.Eight.AtOnce.Text(0), d.Eight.Ratio.Text(2) + " x"},
	}
}

func (r Report) sharedRows() [][]string {
	s := r.Shared
	return [][]string{
		{fmt.Sprintf("new prompt of %d tokens", s.Prompt), "tokens computed", "against one agent"},
		{"1 agent", s.Alone.Text(0), "1"},
		{"8 agents that start at once with it", s.AllOf.Text(0), s.Ratio.Text(3) + " x"},
	}
}
