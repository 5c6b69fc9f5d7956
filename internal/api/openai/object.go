package openai

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
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
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
		o.Refuse(o.At(key), "must be a string, not "+kindOf(o.fields[key]))
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
		o.Refuse(o.At(key), "must be true or false, not "+kindOf(o.fields[key]))
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
		o.Refuse(path, "must be a number, not "+kindOf(v))
		return lo
	}
	f, err := digits.Float64()
	if err != nil || math.IsNaN(f) || f < lo || f > hi {
		o.Refuse(path, "must be a number from "+short(lo)+" to "+short(hi)+", not "+clip(string(digits)))
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
		o.Refuse(path, "must be a whole number, not "+kindOf(v))
		return lo
	}
	n, ok := whole(digits)
	if !ok || n < lo || n > hi {
		o.Refuse(path, "must be a whole number from "+strconv.FormatInt(lo, 10)+" to "+strconv.FormatInt(hi, 10)+", not "+clip(string(digits)))
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

// List reads a list; each element's path is At(key)[i].
func (o *Object) List(key string) []any {
	if !o.Has(key) {
		return nil
	}
	l, ok := o.fields[key].([]any)
	if !ok {
		o.Refuse(o.At(key), "must be a list, not "+kindOf(o.fields[key]))
	}
	return l
}

// Ints reads a list of whole numbers, each in [lo, hi].
func (o *Object) Ints(key string, lo, hi int64) []int64 {
	list := o.List(key)
	numbers := make([]int64, len(list))
	for i, v := range list {
		numbers[i] = o.integer(o.element(key, i), v, lo, hi)
	}
	return numbers
}

// Sub reads an object inside; nil when absent.
func (o *Object) Sub(key string) *Object {
	if !o.Has(key) {
		return nil
	}
	return o.object(o.At(key), o.fields[key])
}

// object makes v, found at path, an Object; an empty one when it is none.
func (o *Object) object(path string, v any) *Object {
	fields, ok := v.(map[string]any)
	if !ok {
		o.Refuse(path, "must be an object, not "+kindOf(v))
	}
	return &Object{path: path, fields: fields, first: o.first}
}

func (o *Object) element(key string, i int) string {
	return o.At(key) + "[" + strconv.Itoa(i) + "]"
}

func short(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// clip keeps a message short when a value is long.
func clip(s string) string {
	const most = 32
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
