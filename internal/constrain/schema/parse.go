package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// object is a JSON object that keeps the order of its keys; of equal keys the
// last counts.
type object struct {
	keys   []string
	values map[string]any
}

func (o *object) get(key string) (any, bool) {
	v, ok := o.values[key]
	return v, ok
}

func (o *object) set(key string, v any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

func newObject() *object { return &object{values: map[string]any{}} }

// parse reads one JSON value into *object, []any, string, json.Number, bool, nil.
func parse(source []byte) (any, error) {
	if len(source) > maxBytes {
		return nil, fmt.Errorf("%d bytes are too many, %d are allowed", len(source), maxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(source))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	case depth > maxDepth*2:
		return nil, errors.New("nested too deeply")
	case t == json.Delim('{'):
		return parseObject(d, depth+1)
	case t == json.Delim('['):
		return parseArray(d, depth+1)
	}
	return t, nil
}

func parseObject(d *json.Decoder, depth int) (any, error) {
	o := newObject()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := parseValue(d, depth)
		if err != nil {
			return nil, err
		}
		o.set(key.(string), v)
	}
	_, err := d.Token()
	return o, err
}

func parseArray(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := parseValue(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

// count reads a keyword that is a whole number from 0 to maxRepeat; missing
// gives def.
func (o *object) count(key string, def int, a at) (int, error) {
	v, ok := o.get(key)
	if !ok {
		return def, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, a.errorf("%s is no number", key)
	}
	r, ok := new(big.Rat).SetString(n.String())
	if !ok || !r.IsInt() || r.Sign() < 0 || !r.Num().IsInt64() || r.Num().Int64() > maxRepeat {
		return 0, a.errorf("%s is %s, it must be a whole number from 0 to %d", key, n, maxRepeat)
	}
	return int(r.Num().Int64()), nil
}

// list reads a keyword that is a list.
func (o *object) list(key string, a at) ([]any, error) {
	v, ok := o.get(key)
	if !ok {
		return nil, nil
	}
	l, ok := v.([]any)
	if !ok {
		return nil, a.errorf("%s is no list", key)
	}
	return l, nil
}

// texts reads a keyword that is a list of strings.
func (o *object) texts(key string, a at) ([]string, error) {
	l, err := o.list(key, a)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(l))
	for i, v := range l {
		s, ok := v.(string)
		if !ok {
			return nil, a.errorf("%s/%d is no string", key, i)
		}
		out[i] = s
	}
	return out, nil
}

// object reads a keyword that is an object.
func (o *object) object(key string, a at) (*object, error) {
	v, ok := o.get(key)
	if !ok {
		return newObject(), nil
	}
	m, ok := v.(*object)
	if !ok {
		return nil, a.errorf("%s is no object", key)
	}
	return m, nil
}
