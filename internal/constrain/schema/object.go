package schema

import (
	"slices"
	"unicode/utf8"

	g "mneme/internal/constrain"
)

// White space is a line break with an indent, or a blank, or nothing: a model
// may write as it was taught, and cannot go on with it for ever.

func space() *g.Node {
	return g.Any(g.Seq(), g.Text(" "), g.Seq(g.Text("\n"), g.Repeat(g.OneOf(" \t"), 0, 24)))
}

func comma() *g.Node { return g.Seq(space(), g.Text(","), space()) }

func colon() *g.Node { return g.Seq(g.Text(":"), g.Optional(g.Text(" "))) }

func braces(open string, inside *g.Node, end string) *g.Node {
	return g.Seq(g.Text(open), space(), inside, space(), g.Text(end))
}

// listed is n items with commas between, least to most of them (-1: no bound).
func listed(item *g.Node, least, most int) *g.Node {
	if most == 0 {
		return g.Seq()
	}
	more := -1
	if most > 0 {
		more = most - 1
	}
	some := g.Seq(item, g.Repeat(g.Seq(comma(), item), max(least-1, 0), more))
	if least == 0 {
		return g.Any(g.Seq(), some)
	}
	return some
}

// anyValue is any JSON value.
func (c *compiler) anyValue() *g.Node {
	if c.value == nil {
		c.value = g.Rule()
		text := inQuotes(g.Repeat(character(), 0, -1))
		c.value.Define(g.Any(
			text, anyNumber(), g.Text("true"), g.Text("false"), g.Text("null"),
			braces("[", listed(c.value, 0, -1), "]"),
			braces("{", listed(g.Seq(text, colon(), c.value), 0, -1), "}"),
		))
	}
	return c.value
}

func (c *compiler) anyObject() *g.Node {
	text := inQuotes(g.Repeat(character(), 0, -1))
	return braces("{", listed(g.Seq(text, colon(), c.anyValue()), 0, -1), "}")
}

// member is a property as it is written.
type member struct {
	node     *g.Node // key, colon and value
	required bool
}

// object is the grammar of an object schema: the properties in their order, then
// others if there may be any.
func (c *compiler) object(o *object, a at) (*g.Node, error) {
	for _, k := range []string{"patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "dependencies"} {
		if v, ok := o.get(k); ok && v != false {
			if err := c.cannot(a, k); err != nil {
				return nil, err
			}
		}
	}
	members, names, err := c.members(o, a)
	if err != nil {
		return nil, err
	}
	other, err := c.others(o, names, a)
	if err != nil {
		return nil, err
	}
	least, most, err := c.propertyCounts(o, members, other, a)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 && other != nil {
		return braces("{", listed(other, least, most), "}"), nil
	}
	return braces("{", inOrder(members, other), "}"), nil
}

// members are the declared properties, and the required ones that are not.
func (c *compiler) members(o *object, a at) (members []member, names []string, err error) {
	properties, err := o.object("properties", a)
	if err != nil {
		return nil, nil, err
	}
	required, err := o.texts("required", a)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range properties.keys {
		value, err := c.schema(properties.values[name], a.in("properties/%s", name))
		if err != nil {
			return nil, nil, err
		}
		members = append(members, member{g.Seq(quoted(name), colon(), value), slices.Contains(required, name)})
		names = append(names, name)
	}
	for _, name := range required {
		if _, ok := properties.get(name); ok {
			continue
		}
		value, err := c.additional(o, a)
		if err != nil {
			return nil, nil, err
		}
		if value == nil {
			return nil, nil, a.errorf("%q is required and cannot be there", name)
		}
		members = append(members, member{g.Seq(quoted(name), colon(), value), true})
		names = append(names, name)
	}
	return members, names, nil
}

// additional is the value of properties that are not declared; nil if there may
// be none.
func (c *compiler) additional(o *object, a at) (*g.Node, error) {
	v, ok := o.get("additionalProperties")
	switch {
	case !ok, v == true:
		return c.anyValue(), nil
	case v == false:
		return nil, nil
	}
	return c.schema(v, a.in("additionalProperties"))
}

// others is a property that is not declared, nil where there is none: a schema
// that lists properties and is silent about others gets no others.
func (c *compiler) others(o *object, names []string, a at) (*g.Node, error) {
	if _, said := o.get("additionalProperties"); !said && len(names) > 0 {
		return nil, nil
	}
	value, err := c.additional(o, a)
	if err != nil || value == nil {
		return nil, err
	}
	return g.Seq(inQuotes(otherThan(names)), colon(), value), nil
}

// propertyCounts checks minProperties and maxProperties, which are kept where
// all properties are alike.
func (c *compiler) propertyCounts(o *object, members []member, other *g.Node, a at) (least, most int, err error) {
	if least, err = o.count("minProperties", 0, a); err != nil {
		return 0, 0, err
	}
	if most, err = o.count("maxProperties", -1, a); err != nil {
		return 0, 0, err
	}
	required := 0
	for _, m := range members {
		if m.required {
			required++
		}
	}
	alike := len(members) == 0 && other != nil
	if least > required && !alike {
		err = c.cannot(a, "minProperties")
	}
	if err == nil && most >= 0 && !alike && (other != nil || most < len(members)) {
		err = c.cannot(a, "maxProperties")
	}
	return least, most, err
}

// inOrder is the members in their order with commas between those that are
// there, then any number of others. behind[i] is what may follow when something
// was written before member i, first[i] when nothing was.
func inOrder(members []member, other *g.Node) *g.Node {
	first, behind := g.Seq(), g.Seq()
	if other != nil {
		first, behind = listed(other, 0, -1), g.Repeat(g.Seq(comma(), other), 0, -1)
	}
	for i := len(members) - 1; i >= 0; i-- {
		m := members[i]
		here, later := g.Seq(m.node, behind), g.Seq(comma(), m.node, behind)
		if m.required {
			first, behind = here, later
		} else {
			first, behind = g.Any(here, first), g.Any(later, behind)
		}
	}
	return first
}

// otherThan is the content of a string that is none of some names, and has no
// escapes.
func otherThan(names []string) *g.Node {
	rest := make([][]rune, len(names))
	for i, n := range names {
		rest[i] = []rune(n)
	}
	return notIn(rest)
}

// notIn is a text that is none of some, by their first characters.
func notIn(texts [][]rune) *g.Node {
	tails := map[rune][][]rune{}
	var order []rune
	empty := false
	for _, t := range texts {
		if len(t) == 0 {
			empty = true
			continue
		}
		if tails[t[0]] == nil {
			order = append(order, t[0])
		}
		tails[t[0]] = append(tails[t[0]], t[1:])
	}
	slices.Sort(order)
	var ways []*g.Node
	if !empty {
		ways = append(ways, g.Seq())
	}
	anything := g.Repeat(plain(0x20, utf8.MaxRune), 0, -1)
	from := rune(0x20)
	for _, r := range order {
		if from < r {
			ways = append(ways, g.Seq(plain(from, r-1), anything))
		}
		if r >= 0x20 && r != '"' && r != '\\' {
			ways = append(ways, g.Seq(g.Runes(r, r), notIn(tails[r])))
		}
		from = r + 1
	}
	return g.Any(append(ways, g.Seq(plain(from, utf8.MaxRune), anything))...)
}

// array is the grammar of an array schema.
func (c *compiler) array(o *object, a at) (*g.Node, error) {
	for _, k := range []string{"contains", "unevaluatedItems"} {
		if _, ok := o.get(k); ok {
			if err := c.cannot(a, k); err != nil {
				return nil, err
			}
		}
	}
	least, err := o.count("minItems", 0, a)
	if err != nil {
		return nil, err
	}
	most, err := o.count("maxItems", -1, a)
	if err != nil {
		return nil, err
	}
	if u, ok := o.get("uniqueItems"); ok && u == true && most != 1 {
		if err := c.cannot(a, "uniqueItems"); err != nil {
			return nil, err
		}
	}
	if most >= 0 && most < least {
		return nil, a.errorf("maxItems %d is below minItems %d", most, least)
	}
	return c.items(o, least, most, a)
}

func (c *compiler) items(o *object, least, most int, a at) (*g.Node, error) {
	prefix, err := o.list("prefixItems", a)
	if err != nil {
		return nil, err
	}
	item := c.anyValue()
	if v, ok := o.get("items"); ok && v != false {
		if item, err = c.schema(v, a.in("items")); err != nil {
			return nil, err
		}
	} else if ok {
		item = nil
	}
	if len(prefix) == 0 {
		switch {
		case item != nil:
			return braces("[", listed(item, least, most), "]"), nil
		case least > 0:
			return nil, a.errorf("minItems is %d, no items are allowed", least)
		}
		return braces("[", g.Seq(), "]"), nil
	}
	return c.tuple(prefix, item, least, most, a)
}

// tuple is an array whose first items have schemas of their own; all of them are
// written, or as many as maxItems allows.
func (c *compiler) tuple(prefix []any, item *g.Node, least, most int, a at) (*g.Node, error) {
	var parts []*g.Node
	for i, p := range prefix {
		if i == most {
			break
		}
		n, err := c.schema(p, a.in("prefixItems/%d", i))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			parts = append(parts, comma())
		}
		parts = append(parts, n)
	}
	if n := len(prefix); item != nil && (most < 0 || most > n) {
		more := -1
		if most > 0 {
			more = most - n
		}
		parts = append(parts, g.Repeat(g.Seq(comma(), item), max(least-n, 0), more))
	} else if least > n {
		return nil, a.errorf("minItems is %d, %d items are allowed", least, n)
	}
	return braces("[", g.Seq(parts...), "]"), nil
}

// Properties lists the properties that an object's schema declares, in their
// order, and which of them are required.
func Properties(source []byte) (names []string, required map[string]bool, err error) {
	required = map[string]bool{}
	if len(source) == 0 {
		return nil, required, nil
	}
	v, err := parse(source)
	if err != nil {
		return nil, nil, &Error{"#", err.Error()}
	}
	o, ok := v.(*object)
	if !ok {
		return nil, nil, &Error{"#", "is no object"}
	}
	a := at{path: "#"}
	properties, err := o.object("properties", a)
	if err != nil {
		return nil, nil, err
	}
	list, err := o.texts("required", a)
	for _, name := range list {
		required[name] = true
	}
	return properties.keys, required, err
}
