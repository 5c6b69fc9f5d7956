package schema

import (
	"encoding/json"
	"math/big"
	"slices"

	g "mneme/internal/constrain"
)

// merged is a schema with what must hold besides it, allOf and the neighbours of
// $ref, made one; nil where there is nothing of the kind.
func (c *compiler) merged(o *object, a at) (*object, error) {
	all, err := o.list("allOf", a)
	if err != nil {
		return nil, err
	}
	ref, hasRef := o.get("$ref")
	rest := o.without("allOf", "$ref")
	if all == nil && (!hasRef || !slices.ContainsFunc(rest.keys, restricts)) {
		return nil, nil
	}
	if hasRef {
		r := newObject()
		r.set("$ref", ref)
		all = append(all, r)
	}
	for i, v := range all {
		part, err := c.resolved(v, a.in("allOf/%d", i))
		if err == nil && part != nil {
			rest, err = c.both(rest, part, a)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (o *object) without(keys ...string) *object {
	out := newObject()
	for _, k := range o.keys {
		if !slices.Contains(keys, k) {
			out.set(k, o.values[k])
		}
	}
	return out
}

// resolved is a schema as an object, references followed and allOf merged; nil
// for one that allows everything.
func (c *compiler) resolved(v any, a at) (*object, error) {
	for range maxDepth {
		o, ok := v.(*object)
		if !ok {
			if v == true {
				return nil, nil
			}
			return nil, a.errorf("is neither an object nor true")
		}
		m, err := c.merged(o, at{a.path, a.depth + 1})
		switch {
		case err != nil:
			return nil, err
		case m != nil:
			v = m
			continue
		}
		ref, ok := o.values["$ref"].(string)
		if !ok {
			return o, nil
		}
		if v, err = c.find(ref, a); err != nil {
			return nil, err
		}
	}
	return nil, a.errorf("references are nested too deeply, or in a circle")
}

// both is a schema for values that two schemas accept.
func (c *compiler) both(x, y *object, a at) (*object, error) {
	if c.nodes++; c.nodes > maxNodes || a.depth > maxDepth {
		return nil, a.errorf("the schema is too large")
	}
	x, y = closeTo(x, y), closeTo(y, x)
	out := newObject()
	for _, k := range x.keys {
		out.set(k, x.values[k])
	}
	for _, k := range y.keys {
		v := y.values[k]
		if old, ok := out.get(k); ok && restricts(k) {
			var err error
			if v, err = c.bothOf(k, old, v, a); err != nil {
				return nil, err
			}
		}
		out.set(k, v)
	}
	return out, nil
}

// closeTo leaves out the properties that another schema does not allow.
func closeTo(x, other *object) *object {
	mine, ok := x.values["properties"].(*object)
	theirs, closed := other.values["properties"].(*object)
	if !ok || !closed || other.values["additionalProperties"] != false {
		return x
	}
	kept := newObject()
	for _, k := range mine.keys {
		if _, ok := theirs.get(k); ok {
			kept.set(k, mine.values[k])
		}
	}
	out := x.without()
	out.set("properties", kept)
	return out
}

// bothOf is the value of a keyword that two schemas have.
func (c *compiler) bothOf(k string, x, y any, a at) (any, error) {
	if same(x, y) {
		return x, nil
	}
	switch k {
	case "type":
		return commonTypes(x, y, a)
	case "required":
		return union(x, y), nil
	case "enum":
		return common(x, y), nil
	case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties":
		return larger(x, y, 1), nil
	case "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
		return larger(x, y, -1), nil
	case "properties":
		return c.bothProperties(x, y, a)
	case "items", "additionalProperties":
		return c.bothSchemas(x, y, a.in("%s", k))
	case "const":
		return nil, a.errorf("two different constants")
	}
	return x, c.cannot(a, k+" in two schemas that must both hold")
}

func same(x, y any) bool { return canonical(x) == canonical(y) }

// canonical is a value as text, keys in order of their names.
func canonical(v any) string {
	b, _ := json.Marshal(plainValue(v))
	return string(b)
}

func plainValue(v any) any {
	switch x := v.(type) {
	case *object:
		m := map[string]any{}
		for k, e := range x.values {
			m[k] = plainValue(e)
		}
		return m
	case []any:
		list := make([]any, len(x))
		for i, e := range x {
			list[i] = plainValue(e)
		}
		return list
	case json.Number:
		if r, ok := new(big.Rat).SetString(x.String()); ok && len(x) < 40 {
			return r.RatString() + "#"
		}
	}
	return v
}

func asList(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

func common(x, y any) []any {
	out := []any{}
	for _, v := range asList(x) {
		if slices.ContainsFunc(asList(y), func(w any) bool { return same(v, w) }) {
			out = append(out, v)
		}
	}
	return out
}

func union(x, y any) []any {
	out := slices.Clone(asList(x))
	for _, v := range asList(y) {
		if !slices.ContainsFunc(out, func(w any) bool { return same(v, w) }) {
			out = append(out, v)
		}
	}
	return out
}

func commonTypes(x, y any, a at) (any, error) {
	out := common(x, y)
	for _, pair := range [][2]any{{x, y}, {y, x}} {
		if slices.Contains(asList(pair[0]), any("number")) && slices.Contains(asList(pair[1]), any("integer")) && !slices.Contains(out, any("integer")) {
			out = append(out, "integer")
		}
	}
	if len(out) == 0 {
		return nil, a.errorf("no type is allowed by both of two schemas")
	}
	return out, nil
}

// larger is the larger of two numbers, or the smaller with sign -1.
func larger(x, y any, sign int) any {
	p, pok := rational(x)
	q, qok := rational(y)
	if pok && qok && sign*q.Cmp(p) > 0 {
		return y
	}
	return x
}

func rational(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok || len(n) > 40 {
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
}

func (c *compiler) bothProperties(x, y any, a at) (any, error) {
	p, pok := x.(*object)
	q, qok := y.(*object)
	if !pok || !qok {
		return nil, a.errorf("properties is no object")
	}
	out := p.without()
	for _, k := range q.keys {
		v := q.values[k]
		if old, ok := out.get(k); ok {
			var err error
			if v, err = c.bothSchemas(old, v, a.in("properties/%s", k)); err != nil {
				return nil, err
			}
		}
		out.set(k, v)
	}
	return out, nil
}

func (c *compiler) bothSchemas(x, y any, a at) (any, error) {
	if x == false || y == false {
		return false, nil
	}
	p, err := c.resolved(x, a)
	if err != nil || p == nil {
		return y, err
	}
	q, err := c.resolved(y, a)
	if err != nil || q == nil {
		return x, err
	}
	return c.both(p, q, a)
}

// branches is a choice of schemas, each together with what stands beside it. Of
// oneOf only one may hold: under Strict no value may fit two.
func (c *compiler) branches(o *object, k string, a at) (*g.Node, error) {
	list, err := o.list(k, a)
	if err != nil {
		return nil, err
	}
	rest := o.without(k)
	var ways []*g.Node
	var parts []*object
	for i, v := range list {
		here := a.in("%s/%d", k, i)
		part, err := c.branch(rest, v, here)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		n, err := c.branchNode(rest, v, part, here)
		if err != nil {
			return nil, err
		}
		ways = append(ways, n)
	}
	if k == "oneOf" {
		if err := c.exclusive(parts, a); err != nil {
			return nil, err
		}
	}
	if len(ways) == 0 {
		return nil, a.errorf("%s is empty", k)
	}
	return g.Any(ways...), nil
}

// branch is a schema together with its neighbours.
func (c *compiler) branch(rest *object, v any, a at) (*object, error) {
	part, err := c.resolved(v, a)
	if err != nil || part == nil {
		return rest, err
	}
	return c.both(rest, part, a)
}

// branchNode keeps a plain reference one, so that it may hold itself.
func (c *compiler) branchNode(rest *object, v any, part *object, a at) (*g.Node, error) {
	if !slices.ContainsFunc(rest.keys, restricts) {
		return c.schema(v, a)
	}
	return c.schema(part, a)
}

func (c *compiler) exclusive(parts []*object, a at) error {
	for i := range parts {
		for j := range i {
			if !c.disjoint(parts[i], parts[j], a, 0) {
				return c.cannot(a, "oneOf with branches that may hold both")
			}
		}
	}
	return nil
}

// disjoint tells whether it is plain that no value fits two schemas.
func (c *compiler) disjoint(x, y *object, a at, depth int) bool {
	if depth > 8 {
		return false
	}
	xs, xok := values(x)
	ys, yok := values(y)
	if xok && yok {
		return len(common(xs, ys)) == 0
	}
	if noCommonType(x, y) {
		return true
	}
	return c.keyed(x, y, a, depth)
}

// values are all that a schema allows, if it lists them.
func values(o *object) ([]any, bool) {
	if v, ok := o.get("const"); ok {
		return []any{v}, true
	}
	v, ok := o.get("enum")
	return asList(v), ok
}

func noCommonType(x, y *object) bool {
	p, pok := x.get("type")
	q, qok := y.get("type")
	if vs, ok := values(x); ok && !pok {
		p, pok = typeNames(vs), true
	}
	if vs, ok := values(y); ok && !qok {
		q, qok = typeNames(vs), true
	}
	if !pok || !qok {
		return false
	}
	_, err := commonTypes(p, q, at{})
	return err != nil
}

func typeNames(vs []any) []any {
	var out []any
	for _, v := range vs {
		out = append(out, typeName(v))
	}
	return out
}

// keyed tells whether both require a property that tells them apart.
func (c *compiler) keyed(x, y *object, a at, depth int) bool {
	p, _ := x.values["properties"].(*object)
	q, _ := y.values["properties"].(*object)
	if p == nil || q == nil || x.values["type"] != "object" || y.values["type"] != "object" {
		return false
	}
	for _, name := range common(x.values["required"], y.values["required"]) {
		k, _ := name.(string)
		v, err := c.resolved(p.values[k], a)
		w, err2 := c.resolved(q.values[k], a)
		if err == nil && err2 == nil && v != nil && w != nil && c.disjoint(v, w, a, depth+1) {
			return true
		}
	}
	return false
}
