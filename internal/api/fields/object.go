package fields

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Object is a decoded JSON object that is read member by member.
//   - A member that is absent or null gives the default.
//   - A member of the wrong type or out of range gives the default too, and an
//     error that names its path. The first such error stays; read it with Err
//     when done.
//   - Objects inside share the error of the one they came from.
type Object struct {
	path   string
	fields map[string]any
	raw    []byte // its JSON; nil where that is not known
	first  *firstError
}

type firstError struct{ err *Error }

// Err is the first problem any reader found, or nil.
func (o *Object) Err() error {
	if o.first.err == nil {
		return nil
	}
	return o.first.err
}

// At is the path of member key.
func (o *Object) At(key string) string { return join(o.path, key) }

// Has says whether key is there and not null.
func (o *Object) Has(key string) bool { return o.fields[key] != nil }

// Refuse notes a problem with the field at path, which starts the message.
func (o *Object) Refuse(path, problem string) {
	if o.first.err == nil {
		o.first.err = Invalid(path, "%s %s", path, problem)
	}
}

// Only refuses every member that is not among known.
func (o *Object) Only(known ...string) {
	for _, key := range o.Keys() {
		if !slices.Contains(known, key) {
			o.Refuse(o.At(key), "is not a known field")
		}
	}
}

// Require refuses a missing or null member.
func (o *Object) Require(key string) {
	if !o.Has(key) {
		o.Refuse(o.At(key), "is required")
	}
}

// Text reads a string.
func (o *Object) Text(key, fallback string) string {
	if !o.Has(key) {
		return fallback
	}
	s, ok := o.fields[key].(string)
	if !ok {
		o.Refuse(o.At(key), "must be a string, not "+KindOf(o.fields[key]))
		return fallback
	}
	return s
}

// Bool reads true or false.
func (o *Object) Bool(key string, fallback bool) bool {
	if !o.Has(key) {
		return fallback
	}
	b, ok := o.fields[key].(bool)
	if !ok {
		o.Refuse(o.At(key), "must be true or false, not "+KindOf(o.fields[key]))
		return fallback
	}
	return b
}

// Number reads a number in [lo, hi].
func (o *Object) Number(key string, fallback, lo, hi float64) float64 {
	if !o.Has(key) {
		return fallback
	}
	return o.number(o.At(key), o.fields[key], lo, hi)
}

func (o *Object) number(path string, v any, lo, hi float64) float64 {
	digits, ok := v.(json.Number)
	if !ok {
		o.Refuse(path, "must be a number, not "+KindOf(v))
		return lo
	}
	f, err := digits.Float64()
	if err != nil || math.IsNaN(f) || f < lo || f > hi {
		o.Refuse(path, "must be a number from "+short(lo)+" to "+short(hi)+", not "+Clip(string(digits)))
		return lo
	}
	return f
}

// Int reads a whole number in [lo, hi]; 16.0 is one.
func (o *Object) Int(key string, fallback, lo, hi int64) int64 {
	if !o.Has(key) {
		return fallback
	}
	return o.integer(o.At(key), o.fields[key], lo, hi)
}

func (o *Object) integer(path string, v any, lo, hi int64) int64 {
	digits, ok := v.(json.Number)
	if !ok {
		o.Refuse(path, "must be a whole number, not "+KindOf(v))
		return lo
	}
	n, ok := whole(digits)
	if !ok || n < lo || n > hi {
		o.Refuse(path, "must be a whole number from "+strconv.FormatInt(lo, 10)+" to "+strconv.FormatInt(hi, 10)+", not "+Clip(string(digits)))
		return lo
	}
	return n
}

// whole is the integer that digits spell, if they spell one within int64.
func whole(digits json.Number) (int64, bool) {
	if n, err := digits.Int64(); err == nil {
		return n, true
	}
	f, err := digits.Float64()
	exact := err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
	if !exact {
		return 0, false
	}
	return int64(f), true
}

// Value is a member as decoded: nil, bool, json.Number, string, []any or
// map[string]any. For members that may be of several types.
func (o *Object) Value(key string) any { return o.fields[key] }

// Keys are the names of the members, sorted.
func (o *Object) Keys() []string { return slices.Sorted(maps.Keys(o.fields)) }

// List reads a list; each element's path is At(key)[i].
func (o *Object) List(key string) []any {
	if !o.Has(key) {
		return nil
	}
	l, ok := o.fields[key].([]any)
	if !ok {
		o.Refuse(o.At(key), "must be a list, not "+KindOf(o.fields[key]))
	}
	return l
}

// Ints reads a list of whole numbers, each in [lo, hi].
func (o *Object) Ints(key string, lo, hi int64) []int64 {
	return o.IntsOf(o.At(key), o.List(key), lo, hi)
}

// IntsOf reads a decoded list that was found at path as whole numbers, each in
// [lo, hi].
func (o *Object) IntsOf(path string, list []any, lo, hi int64) []int64 {
	numbers := make([]int64, len(list))
	for i, v := range list {
		numbers[i] = o.integer(Element(path, i), v, lo, hi)
	}
	return numbers
}

// Sub reads an object inside; nil when absent.
func (o *Object) Sub(key string) *Object {
	if !o.Has(key) {
		return nil
	}
	sub := o.Object(o.At(key), o.fields[key])
	sub.raw = o.Raw(key)
	return sub
}

// Objects reads a list of objects.
func (o *Object) Objects(key string) []*Object {
	list := o.List(key)
	var raw []json.RawMessage
	if len(list) > 0 {
		_ = json.Unmarshal(o.Raw(key), &raw) // it has been read before
	}
	objects := make([]*Object, len(list))
	for i, v := range list {
		objects[i] = o.Object(Element(o.At(key), i), v)
		if len(raw) == len(list) {
			objects[i].raw = raw[i]
		}
	}
	return objects
}

// Raw is a member as it was written, its own members in their order; nil when
// absent, and in an object that was not reached by Sub and Objects.
func (o *Object) Raw(key string) json.RawMessage {
	if !o.Has(key) || o.raw == nil {
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(o.raw, &members); err != nil {
		return nil
	}
	return members[key]
}

// RawObject is Raw of a member that must be an object.
func (o *Object) RawObject(key string) json.RawMessage {
	if o.Sub(key) == nil {
		return nil
	}
	return o.Raw(key)
}

// Object makes v, found at path, an Object; an empty one when it is none.
func (o *Object) Object(path string, v any) *Object {
	fields, ok := v.(map[string]any)
	if !ok {
		o.Refuse(path, "must be an object, not "+KindOf(v))
	}
	return &Object{path: path, fields: fields, first: o.first}
}

// Element is the path of element i of the list at path.
func Element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func short(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Clip keeps a message short when a value is long.
func Clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// Texts takes the strings of a list at a path: at most most of them, none empty
// or of more than maxBytes bytes.
func (o *Object) Texts(path string, list []any, most, maxBytes int) (texts []string) {
	if len(list) > most {
		o.Refuse(path, "may hold at most "+strconv.Itoa(most)+" strings, not "+strconv.Itoa(len(list)))
	}
	for i, v := range list {
		texts = append(texts, o.ShortText(Element(path, i), v, maxBytes))
	}
	return texts
}

// ShortText takes a string that is not empty and has at most maxBytes bytes.
func (o *Object) ShortText(path string, v any, maxBytes int) string {
	s, ok := v.(string)
	switch {
	case !ok:
		o.Refuse(path, "must be a string, not "+KindOf(v))
	case s == "":
		o.Refuse(path, "must not be empty")
	case len(s) > maxBytes:
		o.Refuse(path, "must have at most "+strconv.Itoa(maxBytes)+" bytes, not "+strconv.Itoa(len(s)))
	}
	return s
}
