// Package schema turns a JSON schema into a grammar whose every text is a JSON
// value that the schema accepts. Not every such value is in it: keys come in the
// schema's order, white space is bounded, an object that lists its properties
// and says nothing of others has no others.
//
// It follows JSON Schema 2020-12 (json-schema.org/draft/2020-12). What it cannot
// hold an output to is an error that says where, or, on request, left unheld.
package schema

import (
	"fmt"

	g "mneme/internal/constrain"
)

// Fidelity says what becomes of keywords that a grammar cannot express.
type Fidelity uint8

const (
	// Strict refuses them.
	Strict Fidelity = iota
	// Loose ignores them: the output is JSON of about that shape.
	Loose
)

// Error says which part of a schema cannot be used.
type Error struct{ Where, Problem string }

func (e *Error) Error() string { return fmt.Sprintf("schema %s: %s", e.Where, e.Problem) }

// Limits of what is compiled: a schema comes from outside.
const (
	maxBytes  = 1 << 20
	maxDepth  = 64
	maxNodes  = 200_000 // of the grammar, about
	maxRepeat = 100_000 // of minLength, maxItems and the like
)

// Compile makes the grammar of a schema, given as JSON.
func Compile(source []byte, f Fidelity) (*g.Node, error) {
	root, err := parse(source)
	if err != nil {
		return nil, &Error{"#", err.Error()}
	}
	c := &compiler{fidelity: f, root: root, rules: map[string]*g.Node{}}
	n, err := c.schema(root, at{path: "#"})
	if err != nil {
		return nil, err
	}
	if !g.Possible(n) {
		return nil, &Error{"#", "no value is allowed"}
	}
	return n, nil
}

// Object is the grammar of any JSON object.
func Object() *g.Node {
	c := &compiler{rules: map[string]*g.Node{}}
	return c.anyObject()
}

// compiler is one compilation.
type compiler struct {
	fidelity Fidelity
	root     any
	rules    map[string]*g.Node // by reference
	value    *g.Node            // any JSON value, once asked for
	nodes    int
}

// at is a place in the schema.
type at struct {
	path  string
	depth int
}

func (a at) in(format string, args ...any) at {
	return at{a.path + "/" + fmt.Sprintf(format, args...), a.depth + 1}
}

func (a at) errorf(format string, args ...any) error {
	return &Error{a.path, fmt.Sprintf(format, args...)}
}

// cannot is an error under Strict, nothing under Loose.
func (c *compiler) cannot(a at, keyword string) error {
	if c.fidelity == Loose {
		return nil
	}
	return a.errorf("%q is not supported", keyword)
}
