// Package figures is what measured numbers are written with: how they spread,
// what share one is of another, Markdown tables, and how busy the machine was.
// What was measured, and how, is for its users to know.
package figures

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Spread is a measured quantity over all rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf summarises samples; none gives zeros.
func SpreadOf(samples []float64) Spread {
	if len(samples) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// Ratios divides sample by sample: both were taken in the same round.
func Ratios(over, under []float64) []float64 {
	out := make([]float64, len(over))
	for i := range over {
		out[i] = over[i] / under[i]
	}
	return out
}

// Text is the median and, where there is one, the spread.
func (s Spread) Text(digits int) string {
	if s.Min == s.Max {
		return fmt.Sprintf("%.*f", digits, s.Median)
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// Inverse writes a small ratio as 1 / n.
func (s Spread) Inverse() string {
	if s.Median <= 0 {
		return ""
	}
	return fmt.Sprintf("1 / %.0f", 1/s.Median)
}

// Mean is a quantity averaged over equal parts, and how the parts spread.
type Mean struct {
	Mean float64 `json:"mean"`
	Min  float64 `json:"min"`
	Max  float64 `json:"max"`
}

// MeanOf averages samples; none gives zeros.
func MeanOf(samples []float64) Mean {
	if len(samples) == 0 {
		return Mean{}
	}
	sum := 0.0
	for _, x := range samples {
		sum += x
	}
	return Mean{Mean: sum / float64(len(samples)), Min: slices.Min(samples), Max: slices.Max(samples)}
}

// Text is the mean and, where there is one, the spread.
func (m Mean) Text(digits int) string {
	return Spread{Median: m.Mean, Min: m.Min, Max: m.Max}.Text(digits)
}

// JSON writes a report for programs.
func JSON(w io.Writer, report any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(report)
}

// YesNo writes a bool so that the bad one is seen.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

// Table writes aligned Markdown and an empty line; the first row is the head.
func Table(b *strings.Builder, rows [][]string) {
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

// Load is how many threads wanted a CPU over the last minute, before a
// measurement and after it; negative where the system does not say.
type Load struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

// Text is both numbers.
func (l Load) Text() string {
	if l.Before < 0 || l.After < 0 {
		return "load average unknown"
	}
	return fmt.Sprintf("load average %.2f before, %.2f after", l.Before, l.After)
}

// LoadNow is the load average of the last minute, or -1.
func LoadNow() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	var one float64
	if _, err := fmt.Sscan(string(data), &one); err != nil {
		return -1
	}
	return one
}
