package openai_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"mneme/internal/api/openai"
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
		_, err := openai.Parse([]byte(c.body))
		var e *openai.Error
		if !errors.As(err, &e) || e.Message != c.message || e.Param != c.param || e.Status != 400 {
			t.Errorf("%s\ngot  %#v\nwant %s (param %q)", c.body, err, c.message, c.param)
		}
	}
}

// A hostile nest is refused without a path as long as itself.
func TestDeepJSON(t *testing.T) {
	_, err := openai.Parse([]byte(`{"a":` + strings.Repeat("[", 1<<20)))
	if err == nil || !strings.Contains(err.Error(), "exceeded max depth") || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
}

// Numbers keep all their digits; 16.0 and 1e3 are whole, null is absent.
func TestNumbers(t *testing.T) {
	o, err := openai.Parse([]byte(`{"a":9223372036854775807,"b":16.0,"c":1e3,"d":null,"e":-9223372036854775808,"f":0.1}`))
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

// Whatever comes, decoding ends with a request or with a 400 that says why.
func FuzzDecodeChat(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":"hi"}],"temperature":0.5,"stop":["a"],"logit_bias":{"3":1}}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"messages":[{"role":"user","content":"hi"}],"logprobs":true,"top_logprobs":5,"n":1,"max_tokens":1e1}`,
		`{"a":[{"b":[}]}`, `{"messages":NaN}`, `[[[`, "\xff", `{}x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := openai.DecodeChat(body, 100)
		var e *openai.Error
		switch {
		case err == nil:
			if len(c.Messages) == 0 || c.Sampling.Check() != nil || c.MaxTokens < 0 {
				t.Errorf("accepted %q as %+v", body, c)
			}
		case !errors.As(err, &e) || e.Status != 400 || e.Message == "":
			t.Errorf("refused %q with %#v", body, err)
		}
	})
}
