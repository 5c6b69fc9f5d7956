package api_test

import (
	"bytes"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// exported are the names of our metrics, each with its labels, as a server has them
// that was asked, by somebody with a key, well and badly.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	b := newGuarded(t)
	b.do("POST", "/v1/chat/completions", `{`+hi+`}`, "X-Api-Key: mk_ada")
	b.do("POST", "/v1/chat/completions", `{`, "X-Api-Key: mk_ada")
	text := b.do("GET", "/metrics", "", "X-Api-Key: mk_root").body
	names := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (mneme_\w+) `).FindAllStringSubmatch(text, -1) {
		labels := map[string]bool{}
		for _, sample := range regexp.MustCompile(`(?m)^`+m[1]+`(?:_bucket)?\{(.*)\} `).FindAllStringSubmatch(text, -1) {
			for _, pair := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
				labels[pair[1]] = pair[1] != "le"
			}
		}
		maps.DeleteFunc(labels, func(_ string, ours bool) bool { return !ours })
		names[m[1]] = slices.Sorted(maps.Keys(labels))
	}
	return names
}

// The runbook's table has every metric with its labels, and none that is not there.
func TestRunbookNamesEveryMetric(t *testing.T) {
	listed := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(mneme_\\w+)` \\| (.*?) ?\\| (.+) \\|$").FindAllStringSubmatch(runbook(t), -1) {
		if _, twice := listed[row[1]]; twice {
			t.Errorf("%s is there twice", row[1])
		}
		labels, _, _ := strings.Cut(row[2], ":") // its values stand behind it
		listed[row[1]] = strings.FieldsFunc(labels, func(r rune) bool { return strings.ContainsRune("`, ", r) })
	}
	there := exported(t)
	for name, labels := range there {
		if got, ok := listed[name]; !ok {
			t.Errorf("%s is exported and not in the table of docs/RUNBOOK.md", name)
		} else if !slices.Equal(got, labels) {
			t.Errorf("%s has the labels %q, in docs/RUNBOOK.md %q", name, labels, got)
		}
	}
	for name := range listed {
		if _, ok := there[name]; !ok {
			t.Errorf("%s is in the table of docs/RUNBOOK.md and not exported", name)
		}
	}
	if len(there) < 30 {
		t.Errorf("only %d metrics", len(there))
	}
}

func runbook(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// alertRules is the file as Prometheus reads it.
type alertRules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      struct{ Severity string }
			Annotations struct{ Summary, Runbook string }
		}
	}
}

// Every rule is whole: its metrics and their labels are exported, its section is in
// the runbook.
func TestAlertRules(t *testing.T) {
	text, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules alertRules
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	there, sections, names := exported(t), anchors(runbook(t)), map[string]bool{}
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			if names[r.Alert] || !strings.HasPrefix(r.Alert, "Mneme") || r.Annotations.Summary == "" || r.Labels.Severity != "page" && r.Labels.Severity != "ticket" {
				t.Errorf("%+v", r)
			}
			names[r.Alert] = true
			if _, err := time.ParseDuration(r.For); r.For != "" && err != nil {
				t.Errorf("%s: for %s", r.Alert, r.For)
			}
			if section, ok := strings.CutPrefix(r.Annotations.Runbook, "RUNBOOK.md#"); !ok || !sections[section] {
				t.Errorf("%s: the runbook has no section %q", r.Alert, r.Annotations.Runbook)
			}
			if problem := wrongWith(r.Expr, there); problem != "" {
				t.Errorf("%s: %s: %s", r.Alert, r.Expr, problem)
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("only %d rules", len(names))
	}
}

// wrongWith says what an expression lacks: a metric, a label, a bracket.
func wrongWith(expr string, there map[string][]string) string {
	used := regexp.MustCompile(`(mneme_\w+)(?:\{(.*?)\})?`).FindAllStringSubmatch(expr, -1)
	if len(used) == 0 {
		return "no metric"
	}
	for _, m := range used {
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		labels, ok := there[name]
		if !ok {
			return m[1] + " is not exported"
		}
		for _, pair := range regexp.MustCompile(`(\w+)=`).FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, pair[1]) {
				return m[1] + " has no label " + pair[1]
			}
		}
	}
	for _, pair := range []string{"()", "[]", "{}"} {
		if strings.Count(expr, pair[:1]) != strings.Count(expr, pair[1:]) {
			return "brackets " + pair
		}
	}
	return ""
}

// What is wrong with an expression is found.
func TestWrongWith(t *testing.T) {
	there := map[string][]string{"mneme_a_seconds": {"phase"}}
	for expr, want := range map[string]string{
		`rate(mneme_a_seconds_sum{phase="x"}[5m]) > 1`: "",
		`rate(mneme_b[5m]) > 1`:                        "mneme_b is not exported",
		`mneme_a_seconds_count{faze="x"}`:              "mneme_a_seconds_count has no label faze",
		`rate(mneme_a_seconds_sum[5m] > 1`:             "brackets ()",
		`up == 0`:                                      "no metric",
	} {
		if got := wrongWith(expr, there); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// anchors are the names that headings have in links.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		found[strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")] = true
	}
	return found
}

// Links inside the runbook lead somewhere.
func TestRunbookLinks(t *testing.T) {
	text := runbook(t)
	there := anchors(text)
	links := regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(text, -1)
	for _, m := range links {
		if !there[m[1]] {
			t.Errorf("no section %s", m[1])
		}
	}
	if len(links) < 5 {
		t.Errorf("only %d links", len(links))
	}
}
