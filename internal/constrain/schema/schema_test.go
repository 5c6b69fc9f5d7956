package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"mneme/internal/constrain"
	"mneme/internal/constrain/schema"
	"mneme/internal/token"
)

// byteLevel is how a byte is written in a byte-level vocabulary (GPT-2).
func byteLevel(b byte) string {
	if b > ' ' && b < 0x7f || b > 0xa0 && b != 0xad {
		return string(rune(b))
	}
	n := rune(0)
	for c := range int(b) {
		if c := byte(c); !(c > ' ' && c < 0x7f || c > 0xa0 && c != 0xad) {
			n++
		}
	}
	return string(0x100 + n)
}

const endToken = 0

// small is a vocabulary of an end token, all bytes, and some pieces that a model
// would have.
func small(t testing.TB) *constrain.Vocabulary {
	t.Helper()
	texts := []string{`":`, `": `, `",`, `", "`, `{"`, `"}`, `":"`, `[]`, `{}`, `true`, `false`, `null`, `12`, `0.5`, ` }`, `]}`, "\n  ", `é`, `the`, `\u00e9`, `1e5`, `-`}
	v := token.Vocab{Tokens: []string{"<end>"}, Types: []int32{3}, Model: "gpt2", Pre: "gpt-2", BOS: token.None, EOS: endToken, EOT: token.None}
	for b := range 256 {
		v.Tokens, v.Types = append(v.Tokens, byteLevel(byte(b))), append(v.Types, 1)
	}
	for _, s := range texts {
		var w strings.Builder
		for i := range len(s) {
			w.WriteString(byteLevel(s[i]))
		}
		if len(s) > 1 {
			v.Tokens, v.Types = append(v.Tokens, w.String()), append(v.Types, 1)
		}
	}
	tok, err := token.New(v)
	if err != nil {
		t.Fatal(err)
	}
	tokenizer = tok
	return constrain.NewVocabulary(tok)
}

var tokenizer *token.Tokenizer

// babble writes what a model without any sense would write under a grammar, at
// most n tokens; done says that it came to an end.
func babble(t testing.TB, gr *constrain.Grammar, rng *rand.Rand, n int) (out []byte, done bool) {
	t.Helper()
	c := gr.Begin()
	for range n {
		id := choose(c, rng)
		if id < 0 {
			t.Fatalf("nothing may follow %q", out)
		}
		for _, id := range []token.ID{id, token.ID(rng.IntN(tokenizer.Size()))} {
			if got, masked := c.Allows(id), c.Mask()[id>>6]>>(id&63)&1 != 0; got != masked {
				t.Fatalf("after %q: Allows(%q) is %v, the mask says %v", out, tokenizer.Bytes(id), got, masked)
			}
		}
		c.Take(id)
		if id == endToken {
			return out, true
		}
		out = append(out, tokenizer.Bytes(id)...)
	}
	return out, false
}

// choose picks a token that the mask has, those that end something more often.
func choose(c *constrain.Constraint, rng *rand.Rand) token.ID {
	var all, ends []token.ID
	mask := c.Mask()
	for id := range token.ID(tokenizer.Size()) {
		if mask[id>>6]>>(id&63)&1 == 0 {
			continue
		}
		all = append(all, id)
		if b := tokenizer.Bytes(id); id == endToken || strings.ContainsAny(string(b), `"}]`) {
			ends = append(ends, id)
		}
	}
	switch {
	case len(all) == 0:
		return -1
	case len(ends) > 0 && rng.IntN(3) == 0:
		return ends[rng.IntN(len(ends))]
	}
	return all[rng.IntN(len(all))]
}

// compiled is a schema both ways.
func compiled(t testing.TB, v *constrain.Vocabulary, source string) (*constrain.Grammar, *jsonschema.Schema) {
	t.Helper()
	n, err := schema.Compile([]byte(source), schema.Strict)
	if err != nil {
		t.Fatalf("%s\n%v", source, err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("s.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("s.json")
	if err != nil {
		t.Fatalf("%s\n%v", source, err)
	}
	return constrain.NewGrammar(v, n), s
}

// Whatever is written to its end validates; what is cut is the beginning of
// something that could.
func TestFinishedOutputsValidate(t *testing.T) {
	v := small(t)
	sources := append([]string{}, examples...)
	rng := rand.New(rand.NewPCG(7, 1))
	for len(sources) < 300 {
		b, err := json.Marshal(invent(rng, 3))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, string(b))
	}
	finished, cut := 0, 0
	for i, source := range sources {
		gr, s := compiled(t, v, source)
		for range 4 {
			out, done := babble(t, gr, rng, 600)
			if !done {
				cut++
				continue
			}
			finished++
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
			if err == nil {
				err = s.Validate(value)
			}
			if err != nil {
				t.Errorf("schema %d %s\nwrote %s\n%v", i, source, out, err)
			}
		}
	}
	t.Logf("%d schemas: %d outputs finished, all validated; %d were cut", len(sources), finished, cut)
	if finished < 3*cut {
		t.Errorf("only %d finished of %d", finished, finished+cut)
	}
}

// examples have every keyword.
var examples = []string{
	`{}`, `true`, `{"type":"string"}`, `{"type":"integer"}`, `{"type":"number"}`, `{"type":"boolean"}`, `{"type":"null"}`,
	`{"type":["string","null"]}`, `{"type":"object"}`, `{"type":"array"}`,
	`{"type":"string","minLength":3,"maxLength":5}`, `{"type":"string","maxLength":0}`, `{"type":"string","minLength":20}`,
	`{"type":"string","pattern":"^[a-z]{2,4}-\\d+$"}`, `{"type":"string","pattern":"ab+c"}`, `{"type":"string","pattern":"^(foo|bar\\.baz)?x"}`,
	`{"type":"string","pattern":"^\"[^\"\\\\]*\"$"}`, `{"type":"string","pattern":"^[äöü]\\s[^a-z]$"}`, `{"type":"string","pattern":"(?i)^yes$"}`,
	`{"type":"string","format":"date"}`, `{"type":"string","format":"time"}`, `{"type":"string","format":"date-time"}`, `{"type":"string","format":"uuid"}`, `{"type":"string","format":"ipv4"}`, `{"type":"string","format":"email"}`,
	`{"type":"integer","minimum":0}`, `{"type":"integer","minimum":-5,"maximum":12}`, `{"type":"integer","exclusiveMinimum":99,"exclusiveMaximum":102}`, `{"type":"integer","maximum":-1000}`, `{"type":"integer","minimum":17,"maximum":12345}`, `{"type":"integer","minimum":1.5,"maximum":3.5}`,
	`{"type":"number","minimum":0,"maximum":1}`, `{"type":"number","minimum":0.25,"maximum":0.75}`, `{"type":"number","exclusiveMinimum":0,"maximum":100}`, `{"type":"number","minimum":-2,"maximum":2}`, `{"type":"number","maximum":-3.5}`, `{"type":"number","exclusiveMinimum":-1,"exclusiveMaximum":0}`, `{"type":"number","minimum":-7}`,
	`{"type":"integer","multipleOf":7}`, `{"type":"number","multipleOf":25}`,
	`{"enum":["red","green",3,null,true,{"a":[1,"x"]}]}`, `{"const":"a\"b<c>\\d\n"}`, `{"const":{"k":1.50}}`, `{"type":"string","enum":["a",1,"b"]}`,
	`{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":4}`, `{"type":"array","items":{"type":"boolean"},"maxItems":0}`, `{"type":"array","maxItems":1,"uniqueItems":true}`,
	`{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"items":false}`, `{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"items":{"type":"null"},"minItems":3,"maxItems":5}`,
	`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"null"}},"required":["b"]}`,
	`{"type":"object","properties":{"a":{"type":"string"}},"required":["a","z"],"additionalProperties":{"type":"integer"}}`,
	`{"type":"object","properties":{"ab":{"type":"null"},"a":{"type":"null"},"b":{"type":"null"},"":{"type":"null"},"q\"x":{"type":"null"}},"additionalProperties":{"type":"integer"}}`,
	`{"type":"object","additionalProperties":false}`, `{"type":"object","additionalProperties":{"type":"boolean"},"minProperties":0}`,
	`{"type":"object","properties":{"x":{"$ref":"#/$defs/node"}},"required":["x"],"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}}}`,
	`{"$ref":"#/$defs/a~1b","$defs":{"a/b":{"type":"array","items":{"$ref":"#/$defs/a~1b"},"maxItems":2}}}`,
	`{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#"},"maxItems":2}},"additionalProperties":false}`,
	`{"anyOf":[{"type":"integer","maximum":5},{"type":"string","maxLength":2}]}`, `{"type":"object","properties":{"a":{"type":"integer"}},"anyOf":[{"required":["a"]},{"properties":{"b":{"const":1}},"required":["b"]}]}`,
	`{"oneOf":[{"type":"object","properties":{"kind":{"const":"cat"},"lives":{"type":"integer"}},"required":["kind","lives"],"additionalProperties":false},{"type":"object","properties":{"kind":{"const":"dog"},"name":{"type":"string"}},"required":["kind","name"],"additionalProperties":false}]}`,
	`{"oneOf":[{"type":"string"},{"type":"integer"},{"type":"null"}]}`, `{"oneOf":[{"enum":[1,2]},{"enum":[3]},{"type":"string"}]}`,
	`{"allOf":[{"type":"object","properties":{"a":{"type":"integer","minimum":3}}},{"properties":{"a":{"maximum":9},"b":{"type":"string"}},"required":["a"]}]}`,
	`{"$ref":"#/$defs/t","maxLength":3,"$defs":{"t":{"type":"string","minLength":2}}}`, `{"allOf":[{"type":"number"},{"type":["integer","string"]}],"minimum":4}`,
	`{"title":"only words","description":"anything goes","default":3}`,
}

// invent makes a schema up.
func invent(rng *rand.Rand, depth int) map[string]any {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	kinds := []string{"string", "integer", "number", "boolean", "null", "enum", "string"}
	if depth > 0 {
		kinds = append(kinds, "object", "object", "object", "array", "array", "anyOf")
	}
	switch k := pick(kinds...); k {
	case "object":
		properties, required := map[string]any{}, []string{}
		for i := range 1 + rng.IntN(5) {
			name := fmt.Sprintf("%s%d", pick("name", "x", "größe", "a b"), i)
			properties[name] = invent(rng, depth-1)
			if rng.IntN(2) == 0 {
				required = append(required, name)
			}
		}
		s := map[string]any{"type": k, "properties": properties, "required": required}
		switch rng.IntN(3) {
		case 0:
			s["additionalProperties"] = false
		case 1:
			s["additionalProperties"] = map[string]any{"type": "integer"}
		}
		return s
	case "array":
		s := map[string]any{"type": k, "items": invent(rng, depth-1), "maxItems": 1 + rng.IntN(4)}
		if rng.IntN(2) == 0 {
			s["minItems"] = 1
		}
		return s
	case "anyOf":
		return map[string]any{k: []any{invent(rng, depth-1), invent(rng, depth-1)}}
	case "enum":
		return map[string]any{k: []any{"on", "off", rng.IntN(100), nil}[:1+rng.IntN(4)]}
	case "string":
		s := map[string]any{"type": k}
		switch rng.IntN(4) {
		case 0:
			s["minLength"], s["maxLength"] = rng.IntN(3), 3+rng.IntN(10)
		case 1:
			s["pattern"] = pick("^[A-Z][a-z]+$", "[0-9]{3}", "^(a|bc)*$", "^.{2,5}$")
		case 2:
			s["format"] = pick("date", "uuid", "ipv4", "hostname-ish")
		}
		return s
	case "integer", "number":
		s := map[string]any{"type": k}
		if rng.IntN(2) == 0 {
			low := rng.IntN(2000) - 1000
			s["minimum"], s["maximum"] = low, low+rng.IntN(500)
		}
		return s
	default:
		return map[string]any{"type": k}
	}
}

// A schema that cannot be kept is refused, and it is said where.
func TestRefusedSchemas(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{`{"type":"strin"}`, "schema #: type strin is none of object, array, string, number, integer, boolean, null"},
		{`[1]`, "schema #: is neither an object nor true"},
		{`false`, "schema #: false allows no value"},
		{`{"type":`, "schema #: unexpected EOF"},
		{`{"type":"object","properties":{"a":{"not":{}}}}`, `schema #/properties/a: "not" is not supported`},
		{`{"type":"array","uniqueItems":true}`, `schema #: "uniqueItems" is not supported`},
		{`{"type":"string","pattern":"a(?=b)"}`, "schema #: pattern \"a(?=b)\": error parsing regexp: invalid or unsupported Perl syntax: `(?=`"},
		{`{"type":"string","pattern":"^a","maxLength":3}`, `schema #: "pattern with minLength or maxLength" is not supported`},
		{`{"$ref":"http://elsewhere/x"}`, `schema #: $ref "http://elsewhere/x" leads out of this document`},
		{`{"$ref":"#/$defs/none"}`, `schema #: $ref "#/$defs/none" points at nothing`},
		{`{"$ref":"#"}`, `schema #: no value is allowed`},
		{`{"type":"integer","minimum":5,"maximum":4}`, "schema #: no integer of at most 15 digits is within the bounds"},
		{`{"type":"object","required":["a"],"additionalProperties":false}`, `schema #: "a" is required and cannot be there`},
		{`{"oneOf":[{"type":"integer"},{"type":"number"}]}`, `schema #: "oneOf with branches that may hold both" is not supported`},
		{`{"allOf":[{"type":"integer"},{"type":"string"}]}`, "schema #: no type is allowed by both of two schemas"},
		{`{"type":"string","maxLength":1e30}`, "schema #: maxLength is 1e30, it must be a whole number from 0 to 100000"},
		{strings.Repeat(`{"items":`, 200) + "{}" + strings.Repeat("}", 200), "schema #: nested too deeply"},
	} {
		_, err := schema.Compile([]byte(c.source), schema.Strict)
		if err == nil || err.Error() != c.want {
			t.Errorf("%.80s\ngot  %v\nwant %s", c.source, err, c.want)
		}
	}
	if _, err := schema.Compile([]byte(`{"type":"array","uniqueItems":true,"items":{"not":{},"type":"string","pattern":"a(?=b)"}}`), schema.Loose); err != nil {
		t.Errorf("loosely: %v", err)
	}
}

// What one writes by hand is in the grammar.
func TestUsualTextsAreAllowed(t *testing.T) {
	v := small(t)
	object := `{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}`
	for _, c := range []struct {
		schema, text string
		want         bool
	}{
		{object, `{"city": "Paris", "days": 3}`, true},
		{object, "{\n  \"city\": \"Par\\u00eds \\\"x\\\"\",\n  \"days\": 3\n}", true},
		{object, `{"city":"Zürich"}`, true},
		{object, `{"days":3}`, false},
		{object, `{"city":"a","days":03}`, false},
		{object, `{"city":"a","other":1}`, false},
		{object, `{"city":"a","days":3} `, false},
		{object, "{\"city\":\"a\nb\"}", false},
		{`{"type":"number"}`, `-12.5e+10`, true},
		{`{"type":"number"}`, `01`, false},
		{`{"type":"string","maxLength":2}`, `"😀ü"`, true},
		{`{"type":"string","maxLength":2}`, `"abc"`, false},
		{`{}`, `{"a":[1,{"b":null}, "x"],"c":{}}`, true},
		{`{"type":"integer","minimum":17,"maximum":12345}`, `12345`, true},
		{`{"type":"integer","minimum":17,"maximum":12345}`, `16`, false},
		{`{"type":"integer","minimum":17,"maximum":12345}`, `9999`, true},
	} {
		gr, _ := compiled(t, v, c.schema)
		at := gr.Begin()
		ok := true
		for i := range len(c.text) {
			id := token.ID(c.text[i]) + 1
			if ok = at.Allows(id); !ok {
				break
			}
			at.Take(id)
		}
		if got := ok && at.Complete(); got != c.want {
			t.Errorf("%s allows %s: %v", c.schema, c.text, got)
		}
	}
}

// No schema makes Compile crash, run on or take gigabytes; what it accepts can begin.
func FuzzCompile(f *testing.F) {
	for _, s := range examples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		for _, fidelity := range []schema.Fidelity{schema.Strict, schema.Loose} {
			if n, err := schema.Compile([]byte(source), fidelity); err == nil && !constrain.Possible(n) {
				t.Errorf("%q: impossible", source)
			}
		}
	})
}
