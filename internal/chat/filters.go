package chat

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// The methods and filters of this file stand for those of the engine that could
// make too much of small things. The first argument is what they are called on.

// spelled is v as it is printed.
func spelled(v jinja.Value) string {
	switch {
	case v.IsString():
		return v.AsString()
	case v.IsUndefined(), v.IsNone(), v.IsCallable():
		return ""
	}
	return v.String()
}

// option is an argument by its name or its place; otherwise, if neither is there.
func option(args []jinja.Value, named map[string]jinja.Value, at int, key string, otherwise jinja.Value) jinja.Value {
	if v, ok := named[key]; ok {
		return v
	}
	if at >= 0 && at < len(args) {
		return args[at]
	}
	return otherwise
}

// made is a text of n bytes, if it may be so long.
func (r *run) made(n int, write func() string) (jinja.Value, error) {
	if n < 0 || n > r.valueBytes {
		return jinja.Undefined(), r.fail(errHeavy)
	}
	return jinja.NewString(write()), nil
}

// mul multiplies numbers, and repeats texts.
func (r *run) mul(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) != 2 {
		return jinja.Undefined(), r.failf("template multiplies nothing")
	}
	a, b := args[0], args[1]
	if b.IsString() {
		a, b = b, a
	}
	switch {
	case a.IsString() && b.IsInt():
		return r.repeated(a.AsString(), b.AsInt())
	case a.IsInt() && b.IsInt():
		return jinja.NewInt(a.AsInt() * b.AsInt()), nil
	case a.IsNumber() && b.IsNumber():
		return jinja.NewFloat(float(a) * float(b)), nil
	}
	return jinja.Undefined(), r.failf("template multiplies %s and %s", kindOf(a), kindOf(b))
}

func (r *run) repeated(text string, n int64) (jinja.Value, error) {
	if n = max(n, 0); n > int64(r.valueBytes) {
		return jinja.Undefined(), r.fail(errHeavy)
	}
	return r.made(len(text)*int(n), func() string { return strings.Repeat(text, int(n)) })
}

func float(v jinja.Value) float64 {
	if v.IsInt() {
		return float64(v.AsInt())
	}
	return v.AsFloat()
}

func kindOf(v jinja.Value) string {
	switch {
	case v.IsString():
		return "a text"
	case v.IsNumber():
		return "a number"
	case v.IsList():
		return "a list"
	case v.IsDict():
		return "a dict"
	}
	return v.String()
}

func (r *run) append(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) != 2 || !args[0].IsList() {
		return jinja.Undefined(), r.failf("template appends to %s", kindOf(args[0]))
	}
	l := args[0].AsList()
	if err := r.lasting(args[1], l); err != nil {
		return jinja.Undefined(), err
	}
	l.Append(args[1])
	return jinja.None(), nil
}

func (r *run) insert(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) != 3 || !args[0].IsList() || !args[1].IsInt() {
		return jinja.Undefined(), r.failf("template inserts into %s", kindOf(args[0]))
	}
	l := args[0].AsList()
	if err := r.lasting(args[2], l); err != nil {
		return jinja.Undefined(), err
	}
	at := args[1].AsInt()
	if at < 0 {
		at += int64(l.Len())
	}
	l.Items = slices.Insert(l.Items, int(min(max(at, 0), int64(l.Len()))), args[2])
	return jinja.None(), nil
}

func (r *run) update(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	if !args[0].IsDict() {
		return jinja.Undefined(), r.failf("template updates %s", kindOf(args[0]))
	}
	from, err := r.dict(args[1:], named)
	if err == nil {
		err = r.lasting(from, args[0].AsDict())
	}
	if err != nil {
		return jinja.Undefined(), err
	}
	for _, key := range from.AsDict().Keys {
		args[0].AsDict().Set(key, from.AsDict().Data[key])
	}
	return jinja.None(), nil
}

func (r *run) replace(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	if len(args) < 3 {
		return jinja.Undefined(), r.failf("template replaces nothing")
	}
	text, old, new := spelled(args[0]), spelled(args[1]), spelled(args[2])
	n := strings.Count(text, old)
	if limit := option(args, named, 3, "count", jinja.None()); limit.IsInt() && limit.AsInt() >= 0 {
		n = int(min(int64(n), limit.AsInt()))
	}
	return r.made(len(text)+n*(len(new)-len(old)), func() string { return strings.Replace(text, old, new, n) })
}

// format puts texts for {} and {0}, one argument after the other.
func (r *run) format(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	text := args[0]
	for i, v := range args[1:] {
		var err error
		if text, err = r.replace([]jinja.Value{text, jinja.NewString(fmt.Sprintf("{%d}", i)), v}, nil); err != nil {
			return text, err
		}
		if text, err = r.replace([]jinja.Value{text, jinja.NewString("{}"), v, jinja.NewInt(1)}, nil); err != nil {
			return text, err
		}
	}
	return text, nil
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

func (r *run) escape(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	return jinja.NewString(escapes.Replace(spelled(args[0]))), nil
}

// itemsOf is what a loop over v would see.
func itemsOf(v jinja.Value) (items []jinja.Value) {
	switch {
	case v.IsList():
		return v.AsList().Items
	case v.IsDict():
		for _, key := range v.AsDict().Keys {
			items = append(items, jinja.NewString(key))
		}
	case v.IsString():
		for _, c := range v.AsString() {
			items = append(items, jinja.NewString(string(c)))
		}
	}
	return items
}

func (r *run) join(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	between := spelled(option(args, named, 1, "d", jinja.NewString("")))
	attribute := option(args, named, 2, "attribute", jinja.None())
	var parts []string
	total := 0
	for _, v := range itemsOf(args[0]) {
		if attribute.IsString() {
			v = attributeOf(v, attribute.AsString(), v)
		}
		n, err := r.weigh(v)
		if err != nil {
			return jinja.Undefined(), err
		}
		if total += n + len(between); total > r.valueBytes {
			return jinja.Undefined(), r.fail(errHeavy)
		}
		parts = append(parts, spelled(v))
	}
	return jinja.NewString(strings.Join(parts, between)), nil
}

// joining is join the other way round: ", ".join(list).
func (r *run) joining(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) != 2 {
		return jinja.Undefined(), r.failf("template joins nothing")
	}
	return r.join([]jinja.Value{args[1], args[0]}, nil)
}

func attributeOf(v jinja.Value, key string, otherwise jinja.Value) jinja.Value {
	if v.IsDict() {
		if member, ok := v.AsDict().Get(key); ok {
			return member
		}
	}
	return otherwise
}

// indent puts blanks in front of all lines but the first, and empty ones, unless asked for.
func (r *run) indent(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	width := option(args, named, 1, "width", jinja.NewInt(4))
	pad, err := width, error(nil)
	if width.IsInt() {
		pad, err = r.repeated(" ", width.AsInt())
	}
	if err != nil {
		return pad, err
	}
	first := option(args, named, 2, "first", jinja.NewBool(false)).IsTruthy()
	blank := option(args, named, 3, "blank", jinja.NewBool(false)).IsTruthy()
	lines := strings.Split(spelled(args[0]), "\n")
	before := spelled(pad)
	return r.made(len(spelled(args[0]))+len(lines)*len(before), func() string {
		for i, line := range lines {
			if i == 0 && first || i > 0 && (line != "" || blank) {
				lines[i] = before + line
			}
		}
		return strings.Join(lines, "\n")
	})
}

// mapped is map, by an attribute or one of the filters that it knows.
func (r *run) mapped(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	items := slices.Clone(itemsOf(args[0]))
	if key, ok := named["attribute"]; ok {
		otherwise := option(nil, named, -1, "default", jinja.Undefined())
		for i, v := range items {
			items[i] = attributeOf(v, spelled(key), otherwise)
		}
		return jinja.NewList(items), nil
	}
	filter, ok := plainFilters[spelled(option(args, nil, 1, "", jinja.None()))]
	if !ok {
		return jinja.Undefined(), r.failf("template maps by %q, which is not supported", spelled(option(args, nil, 1, "", jinja.None())))
	}
	for i, v := range items {
		if _, err := r.weigh(v); err != nil {
			return jinja.Undefined(), err
		}
		items[i] = filter(v)
	}
	return jinja.NewList(items), nil
}

var plainFilters = map[string]func(jinja.Value) jinja.Value{
	"string": func(v jinja.Value) jinja.Value { return jinja.NewString(spelled(v)) },
	"trim":   func(v jinja.Value) jinja.Value { return jinja.NewString(strings.TrimSpace(spelled(v))) },
	"upper":  func(v jinja.Value) jinja.Value { return jinja.NewString(strings.ToUpper(spelled(v))) },
	"lower":  func(v jinja.Value) jinja.Value { return jinja.NewString(strings.ToLower(spelled(v))) },
	"length": func(v jinja.Value) jinja.Value { return jinja.NewInt(int64(lengthOf(v))) },
	"tojson": func(v jinja.Value) jinja.Value { return jinja.NewString(jsonStyle{item: ", ", key: ": "}.text(v)) },
}

func lengthOf(v jinja.Value) int {
	if v.IsString() {
		return utf8.RuneCountInString(v.AsString())
	}
	return len(itemsOf(v))
}
