package schema

import (
	"encoding/json"
	"slices"
	"strings"

	g "mneme/internal/constrain"
)

var allTypes = []string{"object", "array", "string", "number", "integer", "boolean", "null"}

// schema is the grammar of a schema at a place.
func (c *compiler) schema(v any, a at) (*g.Node, error) {
	if c.nodes++; c.nodes > maxNodes {
		return nil, a.errorf("the schema is too large")
	}
	if a.depth > maxDepth {
		return nil, a.errorf("nested too deeply")
	}
	switch o := v.(type) {
	case bool:
		if o {
			return c.anyValue(), nil
		}
		return nil, a.errorf("false allows no value")
	case *object:
		return c.keywords(o, a)
	}
	return nil, a.errorf("is neither an object nor true")
}

// keywords picks the one that decides what a value looks like.
func (c *compiler) keywords(o *object, a at) (*g.Node, error) {
	for _, k := range []string{"not", "if", "$dynamicRef"} {
		if _, ok := o.get(k); ok {
			if err := c.cannot(a, k); err != nil {
				return nil, err
			}
		}
	}
	if v, ok := o.get("const"); ok {
		return c.literals([]any{v}, o, a)
	}
	if list, err := o.list("enum", a); err != nil || list != nil {
		if err != nil {
			return nil, err
		}
		return c.literals(list, o, a)
	}
	if merged, err := c.merged(o, a); err != nil || merged != nil {
		if err != nil {
			return nil, err
		}
		return c.schema(merged, at{a.path, a.depth + 1})
	}
	if ref, ok := o.get("$ref"); ok {
		return c.reference(ref, a)
	}
	for _, k := range []string{"anyOf", "oneOf"} {
		if _, ok := o.get(k); ok {
			return c.branches(o, k, a)
		}
	}
	return c.typed(o, a)
}

// typed is a choice between the types a schema allows.
func (c *compiler) typed(o *object, a at) (*g.Node, error) {
	types, err := typesOf(o, a)
	if err != nil {
		return nil, err
	}
	if types == nil {
		if len(o.keys) == 0 || !slices.ContainsFunc(o.keys, restricts) {
			return c.anyValue(), nil
		}
		types = implied(o)
	}
	var ways []*g.Node
	for _, t := range types {
		n, err := c.ofType(t, o, a)
		if err != nil {
			return nil, err
		}
		ways = append(ways, n)
	}
	return g.Any(ways...), nil
}

// restricts tells whether a keyword says something of values.
func restricts(key string) bool {
	switch key {
	case "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$id", "$schema", "$defs", "definitions", "$anchor":
		return false
	}
	return true
}

// implied are the types that a schema without "type" speaks of. Values of other
// types would be accepted too; nobody means them.
func implied(o *object) []string {
	for _, k := range o.keys {
		switch k {
		case "properties", "required", "additionalProperties", "minProperties", "maxProperties", "patternProperties":
			return []string{"object"}
		case "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains":
			return []string{"array"}
		case "minLength", "maxLength", "pattern", "format":
			return []string{"string"}
		case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf":
			return []string{"number"}
		}
	}
	return []string{"object", "array", "string", "number", "boolean", "null"}
}

func typesOf(o *object, a at) ([]string, error) {
	v, ok := o.get("type")
	if !ok {
		return nil, nil
	}
	if s, ok := v.(string); ok {
		v = []any{s}
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, a.errorf("type is neither a name nor a list of names")
	}
	var types []string
	for _, t := range list {
		s, _ := t.(string)
		if !slices.Contains(allTypes, s) {
			return nil, a.errorf("type %v is none of %s", t, strings.Join(allTypes, ", "))
		}
		types = append(types, s)
	}
	return types, nil
}

func (c *compiler) ofType(t string, o *object, a at) (*g.Node, error) {
	switch t {
	case "object":
		return c.object(o, a)
	case "array":
		return c.array(o, a)
	case "string":
		return c.text(o, a)
	case "number":
		return c.number(o, a)
	case "integer":
		return c.integer(o, a)
	case "boolean":
		return g.Any(g.Text("true"), g.Text("false")), nil
	}
	return g.Text("null"), nil
}

// literals are the values of enum or const, as far as the type beside allows them.
func (c *compiler) literals(list []any, o *object, a at) (*g.Node, error) {
	types, err := typesOf(o, a)
	if err != nil {
		return nil, err
	}
	var ways []*g.Node
	for _, v := range list {
		if types == nil || slices.Contains(types, typeName(v)) || isWhole(v) && slices.Contains(types, "integer") {
			ways = append(ways, written(v))
		}
	}
	if len(ways) == 0 {
		return nil, a.errorf("no value is allowed")
	}
	return g.Any(ways...), nil
}

func typeName(v any) string {
	switch v.(type) {
	case *object:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case json.Number:
		return "number"
	case bool:
		return "boolean"
	}
	return "null"
}

func isWhole(v any) bool {
	n, ok := v.(json.Number)
	return ok && !strings.ContainsAny(n.String(), ".eE")
}

// written is a value as JSON.
func written(v any) *g.Node {
	switch x := v.(type) {
	case *object:
		var parts []*g.Node
		for i, k := range x.keys {
			if i > 0 {
				parts = append(parts, comma())
			}
			parts = append(parts, quoted(k), colon(), written(x.values[k]))
		}
		return braces("{", g.Seq(parts...), "}")
	case []any:
		var parts []*g.Node
		for i, e := range x {
			if i > 0 {
				parts = append(parts, comma())
			}
			parts = append(parts, written(e))
		}
		return braces("[", g.Seq(parts...), "]")
	case string:
		return quoted(x)
	case json.Number:
		return g.Text(x.String())
	case bool:
		if x {
			return g.Text("true")
		}
		return g.Text("false")
	}
	return g.Text("null")
}

// reference is what a $ref points at: a rule, so that it may hold itself.
func (c *compiler) reference(ref any, a at) (*g.Node, error) {
	s, ok := ref.(string)
	if !ok {
		return nil, a.errorf("$ref is no string")
	}
	if r := c.rules[s]; r != nil {
		return r, nil
	}
	target, err := c.find(s, a)
	if err != nil {
		return nil, err
	}
	r := g.Rule()
	c.rules[s] = r
	n, err := c.schema(target, at{s, 0})
	if err != nil {
		return nil, err
	}
	r.Define(n)
	return r, nil
}

// find follows a JSON pointer in this document.
func (c *compiler) find(ref string, a at) (any, error) {
	if ref != "#" && !strings.HasPrefix(ref, "#/") {
		return nil, a.errorf("$ref %q leads out of this document", ref)
	}
	v := c.root
	for _, part := range strings.Split(ref, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		o, ok := v.(*object)
		if ok {
			v, ok = o.get(part)
		}
		if !ok {
			return nil, a.errorf("$ref %q points at nothing", ref)
		}
	}
	return v, nil
}
