package api

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// document is what the test reads of docs/openapi.yaml: operations by path and
// method, and everything once more for its references.
type document struct {
	Paths map[string]map[string]yaml.Node `yaml:"paths"`
	whole yaml.Node
}

func readOpenAPI(t *testing.T) (d document) {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &d)
	}
	if err == nil {
		err = yaml.Unmarshal(text, &d.whole)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// operations are METHOD /path, sorted.
func (d document) operations() (all []string) {
	for path, methods := range d.Paths {
		for method := range methods {
			if method != "parameters" {
				all = append(all, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(all)
	return all
}

// operations of the server, with paths as OpenAPI writes them.
func (s *Server) operations() (all []string) {
	spelled := strings.NewReplacer("{$}", "", "...}", "}")
	for _, r := range slices.Concat(s.dialects(), s.ours(), s.life()) {
		for method := range r.methods {
			all = append(all, method+" "+spelled.Replace(r.path))
		}
	}
	slices.Sort(all)
	return all
}

// What docs/openapi.yaml describes is what there is.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	s := New(nil, Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	got, want := readOpenAPI(t).operations(), s.operations()
	for _, operation := range want {
		if !slices.Contains(got, operation) {
			t.Errorf("docs/openapi.yaml lacks %s", operation)
		}
	}
	for _, operation := range got {
		if !slices.Contains(want, operation) {
			t.Errorf("docs/openapi.yaml has %s, which the server has not", operation)
		}
	}
}

// Every reference and link leads somewhere; each operation has a name of its own;
// no mapping has a value of null, which an unquoted comma makes.
func TestOpenAPIHoldsTogether(t *testing.T) {
	d := readOpenAPI(t)
	names := map[string]int{}
	for _, methods := range d.Paths {
		for method, operation := range methods {
			if method != "parameters" {
				names[member(&operation, "operationId").Value]++
			}
		}
	}
	if len(names) != len(d.operations()) {
		t.Errorf("%d names of %d operations: %v", len(names), len(d.operations()), names)
	}
	each(&d.whole, func(key string, value *yaml.Node) {
		switch {
		case value.Tag == "!!null":
			t.Errorf("line %d: %s is null", value.Line, key)
		case key == "operationId" && names[value.Value] == 0:
			t.Errorf("line %d: there is no %s", value.Line, value.Value)
		case key == "$ref" && !leads(d.whole.Content[0], value.Value):
			t.Errorf("line %d: %s leads nowhere", value.Line, value.Value)
		}
	})
}

// each calls f for all members of mappings inside n; aliases are not followed.
func each(n *yaml.Node, f func(key string, value *yaml.Node)) {
	for i, inner := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			f(n.Content[i-1].Value, inner)
		}
		each(inner, f)
	}
}

// leads follows a reference, #/a/b, from the root.
func leads(root *yaml.Node, ref string) bool {
	n := root
	for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		if n = member(n, part); n == nil {
			return false
		}
	}
	return true
}

// member is a value of a mapping, nil where it has none of that key.
func member(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
