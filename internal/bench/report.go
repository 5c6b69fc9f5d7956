package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Report is everything that was measured. Every ratio was taken within one
// round, on one machine.
type Report struct {
	Server     Server       `json:"server"`
	Seed       uint64       `json:"seed"`
	Rounds     int          `json:"rounds"`
	FirstToken []FirstToken `json:"first_token"`
	Decode     Decode       `json:"decode_tokens_per_second"`
	Shared     Shared       `json:"common_beginning"`
	Notes      []string     `json:"notes,omitempty"`
}

// Check fails when a restored turn said something else than a hot one: the
// times of a wrong answer are worth nothing.
func (r Report) Check() error {
	for _, f := range r.FirstToken {
		if !f.SameTokens {
			return fmt.Errorf("at %d tokens a restored turn answered otherwise than a hot one", f.Tokens)
		}
	}
	return nil
}

// JSON writes the report for programs.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Table writes the report for people, as Markdown tables.
func (r Report) Table(w io.Writer) error {
	var b strings.Builder
	s := r.Server
	fmt.Fprintf(&b, "%s, KV %s (%d bytes per token), kernel %s, version %s.\nMedian (least to most) of %d rounds, seed %d.\n\n",
		s.Model, s.KVFormat, s.KVBytes, s.Kernel, s.Version, r.Rounds, r.Seed)
	table(&b, r.firstTokenRows())
	table(&b, r.decodeRows())
	table(&b, r.sharedRows())
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
			fmt.Sprintf("%d tokens", f.Tokens), fmt.Sprint(f.NewTokens), f.Uncached.text(0), f.Hot.text(1), f.Restored.text(1),
			f.HotRatio.inverse(), f.RestoredRatio.inverse(), yesNo(f.SameTokens),
		})
	}
	return rows
}

func (r Report) decodeRows() [][]string {
	d := r.Decode
	return [][]string{
		{"tokens per second", "", "against one after another"},
		{"1 agent, decoding", d.One.text(0), ""},
		{"3 agents, one after another", d.Three.InTurn.text(0), "1"},
		{"3 agents together", d.Three.AtOnce.text(0), d.Three.Ratio.text(2) + " x"},
		{"8 agents, one after another", d.Eight.InTurn.text(0), "1"},
		{"8 agents together", d.Eight.AtOnce.text(0), d.Eight.Ratio.text(2) + " x"},
	}
}

func (r Report) sharedRows() [][]string {
	s := r.Shared
	return [][]string{
		{fmt.Sprintf("new prompt of %d tokens", s.Prompt), "tokens computed", "against one agent"},
		{"1 agent", s.Alone.text(0), "1"},
		{"8 agents that start at once with it", s.AllOf.text(0), s.Ratio.text(3) + " x"},
	}
}

// text is the median and, where there is one, the spread.
func (s Spread) text(digits int) string {
	if s.Min == s.Max {
		return fmt.Sprintf("%.*f", digits, s.Median)
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// inverse writes a small ratio as 1 / n.
func (s Spread) inverse() string {
	if s.Median <= 0 {
		return ""
	}
	return fmt.Sprintf("1 / %.0f", 1/s.Median)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

// table writes aligned Markdown; the first row is the head.
func table(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		line(b, row, widths)
		if i == 0 {
			rule := make([]string, len(widths))
			for j, width := range widths {
				rule[j] = strings.Repeat("-", width)
			}
			line(b, rule, widths)
		}
	}
	b.WriteString("\n")
}

func line(b *strings.Builder, cells []string, widths []int) {
	b.WriteString("|")
	for i, cell := range cells {
		fmt.Fprintf(b, " %s%s |", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
	}
	b.WriteString("\n")
}
