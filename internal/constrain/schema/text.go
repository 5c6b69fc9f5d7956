package schema

import (
	"encoding/json"
	"fmt"
	"regexp/syntax"
	"unicode/utf8"

	g "mneme/internal/constrain"
)

// Strings are written as RFC 8259 has them; a character is one code point, be it
// written as itself or as an escape.

// character is any one character of a string.
func character() *g.Node {
	return g.Any(plain(0x20, utf8.MaxRune), escaped())
}

// plain is any character of a range that may stand in a string as itself.
func plain(from, to rune) *g.Node {
	var ways []*g.Node
	for _, band := range [][2]rune{{0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, utf8.MaxRune}} {
		if low, high := max(from, band[0]), min(to, band[1]); low <= high {
			ways = append(ways, g.Runes(low, high))
		}
	}
	return g.Any(ways...)
}

// escaped is an escape; of \u those that stand for one code point by itself.
func escaped() *g.Node {
	digit := g.OneOf("0123456789abcdefABCDEF")
	return g.Seq(g.Text(`\`), g.Any(
		g.OneOf(`"\/bfnrt`),
		g.Seq(g.Text("u"), g.OneOf("0123456789abcefABCEF"), digit, digit, digit),
		g.Seq(g.Text("u"), g.OneOf("dD"), g.OneOf("01234567"), digit, digit),
	))
}

// quoted is a string literal as JSON.
func quoted(s string) *g.Node {
	b, _ := json.Marshal(s) // strings always can be
	return g.Text(string(unescapeHTML(b)))
}

// unescapeHTML takes back what Marshal does to <, > and &.
func unescapeHTML(b []byte) []byte {
	for _, c := range []byte("<>&") {
		code := []byte(fmt.Sprintf(`\u%04x`, c))
		out := b[:0:0]
		for i := 0; i < len(b); i++ {
			switch {
			case b[i] == '\\' && len(b)-i >= len(code) && string(b[i:i+len(code)]) == string(code):
				out = append(out, c)
				i += len(code) - 1
			case b[i] == '\\' && i+1 < len(b):
				out = append(out, b[i], b[i+1])
				i++
			default:
				out = append(out, b[i])
			}
		}
		b = out
	}
	return b
}

func inQuotes(n *g.Node) *g.Node { return g.Seq(g.Text(`"`), n, g.Text(`"`)) }

// text is the grammar of a string schema.
func (c *compiler) text(o *object, a at) (*g.Node, error) {
	least, err := o.count("minLength", 0, a)
	if err != nil {
		return nil, err
	}
	most, err := o.count("maxLength", -1, a)
	if err != nil {
		return nil, err
	}
	bounded := least > 0 || most >= 0
	if most >= 0 && most < least {
		return nil, a.errorf("maxLength %d is below minLength %d", most, least)
	}
	if p, ok := o.get("pattern"); ok {
		return c.pattern(p, bounded, a)
	}
	if f, ok := o.get("format"); ok && !bounded {
		if name, ok := f.(string); ok && formats[name] != "" {
			return patternNode(formats[name])
		}
	}
	return inQuotes(g.Repeat(character(), least, most)), nil
}

func (c *compiler) pattern(p any, bounded bool, a at) (*g.Node, error) {
	s, ok := p.(string)
	if !ok {
		return nil, a.errorf("pattern is no string")
	}
	if bounded {
		if err := c.cannot(a, "pattern with minLength or maxLength"); err != nil {
			return nil, err
		}
	}
	n, err := patternNode(s)
	if err == nil {
		return n, nil
	}
	if c.fidelity == Strict {
		return nil, a.errorf("pattern %q: %v", s, err)
	}
	return inQuotes(g.Repeat(character(), 0, -1)), nil
}

// formats are those that outputs are held to; the others are notes to readers.
// Days end with the 28th, so that every date exists.
var formats = map[string]string{
	"date":      `^(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$`,
	"time":      `^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`,
	"date-time": `^(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`,
	"email":     `^[a-z0-9]{1,16}([._+-][a-z0-9]{1,8}){0,4}@[a-z0-9]{1,16}([.-][a-z0-9]{1,16}){0,2}\.[a-z]{2,12}$`,
	"uuid":      `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`,
	"ipv4":      `^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$`,
}

// patternNode is a string whose content a regular expression finds.
func patternNode(pattern string) (*g.Node, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	n, begins, ends, err := anchored(re)
	if err != nil {
		return nil, err
	}
	anything := g.Repeat(character(), 0, -1)
	parts := []*g.Node{n}
	if !begins {
		parts = append([]*g.Node{anything}, parts...)
	}
	if !ends {
		parts = append(parts, anything)
	}
	return inQuotes(g.Seq(parts...)), nil
}

// anchored takes the anchors off an expression's ends.
func anchored(re *syntax.Regexp) (n *g.Node, begins, ends bool, err error) {
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	if len(parts) > 0 && (parts[0].Op == syntax.OpBeginText || parts[0].Op == syntax.OpBeginLine) {
		begins, parts = true, parts[1:]
	}
	if k := len(parts) - 1; k >= 0 && (parts[k].Op == syntax.OpEndText || parts[k].Op == syntax.OpEndLine) {
		ends, parts = true, parts[:k]
	}
	n, err = expressions(parts)
	return n, begins, ends, err
}

func expressions(list []*syntax.Regexp) (*g.Node, error) {
	nodes := make([]*g.Node, len(list))
	for i, re := range list {
		var err error
		if nodes[i], err = expression(re); err != nil {
			return nil, err
		}
	}
	return g.Seq(nodes...), nil
}

func expression(re *syntax.Regexp) (*g.Node, error) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return g.Seq(), nil
	case syntax.OpLiteral:
		return literal(re), nil
	case syntax.OpCharClass:
		return class(re.Rune), nil
	case syntax.OpAnyChar:
		return character(), nil
	case syntax.OpAnyCharNotNL:
		return plain(0x20, utf8.MaxRune), nil
	case syntax.OpCapture:
		return expression(re.Sub[0])
	case syntax.OpConcat:
		return expressions(re.Sub)
	case syntax.OpAlternate:
		return alternatives(re.Sub)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		return repeated(re)
	}
	return nil, fmt.Errorf("%s is not supported inside", re)
}

func repeated(re *syntax.Regexp) (*g.Node, error) {
	n, err := expression(re.Sub[0])
	if err != nil {
		return nil, err
	}
	switch re.Op {
	case syntax.OpStar:
		return g.Repeat(n, 0, -1), nil
	case syntax.OpPlus:
		return g.Repeat(n, 1, -1), nil
	case syntax.OpQuest:
		return g.Optional(n), nil
	}
	return g.Repeat(n, re.Min, re.Max), nil
}

func alternatives(list []*syntax.Regexp) (*g.Node, error) {
	nodes := make([]*g.Node, len(list))
	for i, re := range list {
		var err error
		if nodes[i], err = expression(re); err != nil {
			return nil, err
		}
	}
	return g.Any(nodes...), nil
}

func literal(re *syntax.Regexp) *g.Node {
	nodes := make([]*g.Node, len(re.Rune))
	for i, r := range re.Rune {
		nodes[i] = class(fold(r, re.Flags&syntax.FoldCase != 0))
	}
	return g.Seq(nodes...)
}

// fold lists a character, and its other case, as ranges.
func fold(r rune, both bool) []rune {
	ranges := []rune{r, r}
	switch {
	case both && 'a' <= r && r <= 'z':
		ranges = append(ranges, r-32, r-32)
	case both && 'A' <= r && r <= 'Z':
		ranges = append(ranges, r+32, r+32)
	}
	return ranges
}

// class is any character of some ranges, [low, high, low, high ...], as it may
// stand in a string.
func class(ranges []rune) *g.Node {
	var ways []*g.Node
	for i := 0; i < len(ranges); i += 2 {
		low, high := ranges[i], ranges[i+1]
		ways = append(ways, plain(low, high))
		for _, e := range escapes {
			if low <= e.r && e.r <= high {
				ways = append(ways, g.Text(e.as))
			}
		}
	}
	return g.Any(ways...)
}

// escapes are the characters that cannot stand in a string as themselves and
// have a short escape.
var escapes = []struct {
	r  rune
	as string
}{{'"', `\"`}, {'\\', `\\`}, {'\n', `\n`}, {'\t', `\t`}, {'\r', `\r`}, {'\f', `\f`}, {'\b', `\b`}}
