package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/ardanlabs/jinja"
)

// maxJSONNesting is how deep JSON of a request may be.
const maxJSONNesting = maxNesting / 2

// maxIndent is the most that tojson(indent) takes.
const maxIndent = 16

// parseJSON reads one JSON text; dicts keep the order of their keys, which is the
// order that a template prints.
func parseJSON(text []byte) (jinja.Value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readJSON(d, 0)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("JSON ends too early")
	}
	if err != nil {
		return jinja.Undefined(), err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return jinja.Undefined(), errors.New("more than one JSON value")
	}
	return v, nil
}

func readJSON(d *json.Decoder, depth int) (jinja.Value, error) {
	if depth > maxJSONNesting {
		return jinja.Undefined(), fmt.Errorf("JSON is nested deeper than %d", maxJSONNesting)
	}
	t, err := d.Token()
	if err != nil {
		return jinja.Undefined(), err
	}
	switch t {
	case json.Delim('{'):
		return readDict(d, depth)
	case json.Delim('['):
		return readList(d, depth)
	}
	return jinja.FromGoValue(t), nil
}

func readDict(d *json.Decoder, depth int) (jinja.Value, error) {
	v := jinja.NewDict()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return v, err
		}
		member, err := readJSON(d, depth+1)
		if err != nil {
			return v, err
		}
		v.AsDict().Set(key.(string), member) // the decoder takes no other
	}
	_, err := d.Token()
	return v, err
}

func readList(d *json.Decoder, depth int) (jinja.Value, error) {
	v := jinja.NewList(nil)
	for d.More() {
		item, err := readJSON(d, depth+1)
		if err != nil {
			return v, err
		}
		v.AsList().Append(item)
	}
	_, err := d.Token()
	return v, err
}

// jsonStyle is how Python's json.dumps is told to write.
type jsonStyle struct {
	item, key string // what stands behind an item and a key
	indent    string // one step of it; with newlines between items if broken
	broken    bool
	sorted    bool
	ascii     bool
}

// tojson is the filter as transformers has it: characters stay what they are.
func (r *run) tojson(args []jinja.Value, named map[string]jinja.Value) (jinja.Value, error) {
	style := jsonStyle{item: ", ", key: ": "}
	style.ascii = option(nil, named, -1, "ensure_ascii", jinja.NewBool(false)).IsTruthy()
	style.sorted = option(nil, named, -1, "sort_keys", jinja.NewBool(false)).IsTruthy()
	if indent := option(args, named, 1, "indent", jinja.None()); indent.IsInt() {
		style.broken, style.indent, style.item = true, strings.Repeat(" ", int(max(min(indent.AsInt(), maxIndent), 0))), ","
	}
	if pair := itemsOf(option(nil, named, -1, "separators", jinja.None())); len(pair) == 2 {
		style.item, style.key = spelled(pair[0]), spelled(pair[1])
	}
	if _, err := r.weigh(args[0]); err != nil {
		return jinja.Undefined(), err
	}
	return jinja.NewString(style.text(args[0])), nil
}

func (s jsonStyle) text(v jinja.Value) string {
	var b strings.Builder
	s.write(&b, v, 1)
	return b.String()
}

func (s jsonStyle) write(b *strings.Builder, v jinja.Value, depth int) {
	switch {
	case v.IsBool():
		b.WriteString(strconv.FormatBool(v.AsBool()))
	case v.IsInt():
		b.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		b.WriteString(pythonFloat(v.AsFloat()))
	case v.IsString():
		s.quote(b, v.AsString())
	case v.IsList():
		s.list(b, v.AsList(), depth)
	case v.IsDict():
		s.dict(b, v.AsDict(), depth)
	default:
		b.WriteString("null")
	}
}

func (s jsonStyle) list(b *strings.Builder, l *jinja.List, depth int) {
	b.WriteByte('[')
	for i, item := range l.Items {
		s.between(b, i, depth)
		s.write(b, item, depth+1)
	}
	s.end(b, len(l.Items), depth)
	b.WriteByte(']')
}

func (s jsonStyle) dict(b *strings.Builder, d *jinja.Dict, depth int) {
	keys := d.Keys
	if s.sorted {
		keys = slices.Sorted(slices.Values(keys))
	}
	b.WriteByte('{')
	for i, key := range keys {
		s.between(b, i, depth)
		s.quote(b, key)
		b.WriteString(s.key)
		s.write(b, d.Data[key], depth+1)
	}
	s.end(b, len(keys), depth)
	b.WriteByte('}')
}

// between writes what stands in front of item i.
func (s jsonStyle) between(b *strings.Builder, i, depth int) {
	if i > 0 {
		b.WriteString(s.item)
	}
	s.newline(b, depth)
}

func (s jsonStyle) end(b *strings.Builder, items, depth int) {
	if items > 0 {
		s.newline(b, depth-1)
	}
}

func (s jsonStyle) newline(b *strings.Builder, depth int) {
	if s.broken {
		b.WriteByte('\n')
		b.WriteString(strings.Repeat(s.indent, depth))
	}
}

var jsonEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`}

func (s jsonStyle) quote(b *strings.Builder, text string) {
	b.WriteByte('"')
	for _, c := range text {
		escape, ok := jsonEscapes[c]
		switch {
		case ok:
			b.WriteString(escape)
		case c < ' ' || s.ascii && c > '~' && c < 0x10000:
			fmt.Fprintf(b, `\u%04x`, c)
		case s.ascii && c > '~':
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
}

// pythonFloat writes a number as Python's repr does: 21.5, 5.0, 1e-05, 1e+16.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strings.Replace(strconv.FormatFloat(f, 'g', -1, 64), "Inf", "Infinity", 1), "+")
	case f != 0 && (math.Abs(f) < 1e-4 || math.Abs(f) >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
