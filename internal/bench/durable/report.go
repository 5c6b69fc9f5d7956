package durable

import (
	"errors"
	"fmt"
	"strings"

	"mneme/internal/bench/figures"
)

// Report is everything that was measured.
type Report struct {
	Rows    []Row `json:"rows"`
	Differs bool  `json:"encrypted_answers_differ"`
}

// Row is one figure and what it is to be.
type Row struct {
	Name  string         `json:"name"`
	Unit  string         `json:"unit"`
	Value figures.Spread `json:"value"`
	Bar   *Bar           `json:"bar,omitempty"`
	Holds *bool          `json:"holds,omitempty"` // the median does
	About string         `json:"about,omitempty"`

	digits int
}

// Bar is what a median may be.
type Bar struct {
	Kind  string  `json:"kind"` // "at most", "at least"
	Value float64 `json:"value"`
}

// none is the bar of figures that only explain others.
var none *Bar

func atMost(x float64) *Bar  { return &Bar{"at most", x} }
func atLeast(x float64) *Bar { return &Bar{"at least", x} }

func (b *Bar) holds(x float64) *bool {
	if b == nil {
		return nil
	}
	ok := x <= b.Value
	if b.Kind == "at least" {
		ok = x >= b.Value
	}
	return &ok
}

func (r *Report) row(name, unit string, digits int, samples []float64, bar *Bar, about string) {
	v := figures.SpreadOf(samples)
	r.Rows = append(r.Rows, Row{Name: name, Unit: unit, Value: v, Bar: bar, Holds: bar.holds(v.Median), About: about, digits: digits})
}

// compare adds two figures and, sample by sample, the second over the first.
func (r *Report) compare(name, unit string, digits int, one string, under []float64, other string, over []float64, bar *Bar) {
	r.row(name, unit, digits, under, none, one)
	r.row(name, unit, digits, over, none, other)
	r.row(name, "x", 2, figures.Ratios(over, under), bar, other+" against "+one)
}

// Check fails when an answer was not what it had to be: its times are worth nothing.
func (r Report) Check() error {
	if r.Differs {
		return errors.New("a server with keys answered otherwise than one without")
	}
	return nil
}

// Table writes the rows for people, as a Markdown table.
func (r Report) Table(b *strings.Builder) {
	rows := [][]string{{"what lasts", "", "measured", "is to be", "holds"}}
	for _, row := range r.Rows {
		line := []string{row.Name, row.About, row.Value.Text(row.digits) + " " + row.Unit, "", ""}
		if row.Bar != nil {
			line[3], line[4] = fmt.Sprintf("%s %g", row.Bar.Kind, row.Bar.Value), figures.YesNo(*row.Holds)
		}
		rows = append(rows, line)
	}
	figures.Table(b, rows)
}
