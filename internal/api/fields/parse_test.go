package fields_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"mneme/internal/api/fields"
)

// What does not read is located: the byte, and the field it stands in.
func TestBrokenJSON(t *testing.T) {
	for _, c := range []struct{ body, message, param string }{
		{`{"a":NaN}`, "the body is not valid JSON at byte 6, in a: invalid character 'N' looking for beginning of value", "a"},
		{`{"a":1,"b":[1,{"c":-Infinity}]}`, "the body is not valid JSON at byte 21, in b[1].c: invalid character 'I' in numeric literal", "b[1].c"},
		{`{"a":{"x":1},"b":[[1],[2,?]]}`, "the body is not valid JSON at byte 26, in b[1][1]: invalid character '?' looking for beginning of value", "b[1][1]"},
		{`{"a":"x","b":tru}`, "the body is not valid JSON at byte 17, in b: invalid character '}' in literal true (expecting 'e')", "b"},
		{`{"a":[1,2`, "the body is not valid JSON: it ends too early, in a[2]", "a[2]"},
		{`{"a":1 "b":2}`, "the body is not valid JSON at byte 8: invalid character '\"' after object key:value pair", ""},
		{`?`, "the body is not valid JSON at byte 1: invalid character '?' looking for beginning of value", ""},
		{"{\"a\":\"\xe2\x82\"}", "the body is not valid UTF-8 at byte 6", ""},
		{`{"a":1}{"b":2}`, "the body has something after the JSON object, at byte 8", ""},
		{`"a"`, "the body must be a JSON object, not a string", ""},
		{`null`, "the body must be a JSON object, not null", ""},
	} {
		_, err := fields.Parse([]byte(c.body))
		var e *fields.Error
		if !errors.As(err, &e) || e.Message != c.message || e.Param != c.param {
			t.Errorf("%s\ngot  %#v\nwant %s (param %q)", c.body, err, c.message, c.param)
		}
	}
}

// A hostile nest is refused without a path as long as itself.
func TestDeepJSON(t *testing.T) {
	_, err := fields.Parse([]byte(`{"a":` + strings.Repeat("[", 1<<20)))
	if err == nil || !strings.Contains(err.Error(), "exceeded max depth") || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
}

// Numbers keep all their digits; 16.0 and 1e3 are whole, null is absent.
func TestNumbers(t *testing.T) {
	o, err := fields.Parse([]byte(`{"a":9223372036854775807,"b":16.0,"c":1e3,"d":null,"e":-9223372036854775808,"f":0.1}`))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int64{"a": math.MaxInt64, "b": 16, "c": 1000, "d": 5, "e": math.MinInt64, "missing": 5} {
		if got := o.Int(key, 5, math.MinInt64, math.MaxInt64); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	if got := o.Number("f", 0, 0, 1); got != 0.1 || o.Err() != nil {
		t.Errorf("f: %v, %v", got, o.Err())
	}
	o.Int("f", 0, 0, 9)
	o.Int("a", 0, 0, 9)
	if got, want := o.Err().Error(), "f must be a whole number from 0 to 9, not 0.1"; got != want {
		t.Errorf("the first problem: %s, want %s", got, want)
	}
}

// What is handed on keeps the order of its members.
func TestRaw(t *testing.T) {
	o, err := fields.Parse([]byte(`{"tools":[{"z":1,"schema":{"b":1,"a":[{"d":1,"c":2}]}},{"schema":null},7],"v":{"k":"\u00e9"}}`))
	if err != nil {
		t.Fatal(err)
	}
	tools := o.Objects("tools")
	if got, want := string(tools[0].RawObject("schema")), `{"b":1,"a":[{"d":1,"c":2}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := tools[1].RawObject("schema"); got != nil {
		t.Errorf("null is %s", got)
	}
	if got, want := string(o.Sub("v").Raw("k")), `"\u00e9"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := o.Err().Error(), "tools[2] must be an object, not a number"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
