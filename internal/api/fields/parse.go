package fields

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parse reads body as exactly one JSON object.
//   - Text that is no UTF-8, no JSON, no object, or has something after the
//     object is refused with the byte and, inside the object, the field.
//   - Numbers keep their digits until a field's reader asks for them.
func Parse(body []byte) (*Object, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, Invalid("", "the body is empty; send a JSON object")
	}
	if at := badUTF8(body); at >= 0 {
		return nil, Invalid("", "the body is not valid UTF-8 at byte %d", at)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, syntaxError(body, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, Invalid("", "the body has something after the JSON object, at byte %d", d.InputOffset())
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, Invalid("", "the body must be a JSON object, not %s", KindOf(value))
	}
	return &Object{fields: fields, raw: body, first: new(firstError)}, nil
}

// badUTF8 is the offset of the first byte that is no UTF-8, or -1.
func badUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// syntaxError says where in the text and in which field the JSON breaks.
func syntaxError(body []byte, err error) *Error {
	path := brokenField(body)
	where := ""
	if path != "" {
		where = ", in " + path
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return Invalid(path, "the body is not valid JSON: it ends too early%s", where)
	}
	at := int64(0)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = syntax.Offset
	}
	return Invalid(path, "the body is not valid JSON at byte %d%s: %v", at, where, err)
}

// maxDepth bounds the path that an error names.
const maxDepth = 32

// brokenField walks the tokens of body up to the first one that does not read
// and gives the path of the field it stands in.
func brokenField(body []byte) string {
	d := json.NewDecoder(bytes.NewReader(body))
	var w walk
	for {
		t, err := d.Token()
		if err != nil || len(w.levels) == maxDepth {
			return w.path()
		}
		w.step(t)
	}
}

// walk follows a token stream and knows the path of the next value.
type walk struct{ levels []level }

// level is one open object or array.
type level struct {
	array bool
	key   string // of the member being read; "" between members
	index int    // of the element being read
}

func (w *walk) step(t json.Token) {
	switch t {
	case json.Delim('{'), json.Delim('['):
		w.levels = append(w.levels, level{array: t == json.Delim('[')})
		return
	case json.Delim('}'), json.Delim(']'):
		w.levels = w.levels[:len(w.levels)-1]
	}
	w.value(t)
}

// value notes that a member's name, a member or an element has been read.
func (w *walk) value(t json.Token) {
	if len(w.levels) == 0 {
		return
	}
	top := &w.levels[len(w.levels)-1]
	name, isText := t.(string)
	switch {
	case top.array:
		top.index++
	case top.key == "" && isText:
		top.key = name
	default:
		top.key = ""
	}
}

func (w *walk) path() string {
	var b strings.Builder
	for _, l := range w.levels {
		switch {
		case l.array:
			b.WriteString("[" + strconv.Itoa(l.index) + "]")
		case l.key != "":
			b.WriteString(join(b.String(), l.key)[b.Len():])
		}
	}
	return b.String()
}

// join is the path of member key of the object at path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// KindOf names a decoded JSON value for a message.
func KindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
