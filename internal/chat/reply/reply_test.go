package reply

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// A template's source as far as Of looks at it.
var (
	hermesSyntax   = Of("<tool_call>")
	thinkingHermes = Of("<tool_call> <think>")
)

var replies = []struct {
	name      string
	syntax    *Syntax
	thinking  bool
	said      string
	text      string
	reasoning string
	calls     []Call
}{
	{name: "plain", syntax: Of("chatml"), said: "Hi <tool_call> {there}\n", text: "Hi <tool_call> {there}\n"},
	{name: "hermes one", syntax: hermesSyntax, said: "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris }\\\"\", \"n\": [1, {}]}}\n</tool_call>",
		calls: []Call{{"get_weather", `{"city": "Paris }\"", "n": [1, {}]}`, true}}},
	{name: "hermes two with text", syntax: hermesSyntax, said: "Let me look.\n\n<tool_call>\n{\"name\": \"a\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"b\", \"arguments\": {\"x\": 1}, \"id\": \"c}\"}\n</tool_call>\nDone.",
		text: "Let me look.Done.", calls: []Call{{"a", `{}`, true}, {"b", `{"x": 1}`, true}}},
	{name: "hermes arguments first, as text", syntax: hermesSyntax, said: `<tool_call>{"arguments": "{\"a\": 1}", "name": "f"}</tool_call>`, calls: []Call{{"f", `{"a": 1}`, true}}},
	{name: "hermes no arguments", syntax: hermesSyntax, said: "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", calls: []Call{{"f", `{}`, true}}},
	{name: "hermes not JSON", syntax: hermesSyntax, said: "<tool_call>\nsorry\n</tool_call> so", text: "<tool_call>\nsorry\n</tool_call> so"},
	{name: "hermes other JSON", syntax: hermesSyntax, said: "<tool_call>{\"a\": 1}</tool_call>", text: "<tool_call>{\"a\": 1}</tool_call>"},
	{name: "hermes unclosed", syntax: hermesSyntax, said: `<tool_call>{"name": "f", "arguments": {"a": "b`, calls: []Call{{"f", `{"a": "b`, false}}},
	{name: "hermes cut in the name", syntax: hermesSyntax, said: `I <tool_call>{"name": "f`, text: `I <tool_call>{"name": "f`},
	{name: "hermes no end marker", syntax: hermesSyntax, said: `<tool_call>{"name": "f", "arguments": {}} and on`, text: "and on", calls: []Call{{"f", `{}`, true}}},
	{name: "hermes list", syntax: hermesSyntax, said: `<tool_call>[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"q": ""}}]</tool_call>`, calls: []Call{{"f", `{}`, true}, {"g", `{"q": ""}`, true}}},
	{name: "hermes bare", syntax: hermesSyntax, said: "{\"name\": \"f\", \"arguments\": {\"a\": 1}}", calls: []Call{{"f", `{"a": 1}`, true}}},
	{name: "hermes fenced", syntax: hermesSyntax, said: "```json\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n```\nSo.", text: "So.", calls: []Call{{"f", `{"a": 1}`, true}}},
	{name: "hermes JSON answer", syntax: hermesSyntax, said: "```json\n{\"city\": \"Paris\"}\n```", text: "```json\n{\"city\": \"Paris\"}\n```"},
	{name: "half a fence", syntax: hermesSyntax, said: "```js", text: "```js"},
	{name: "half a marker is text", syntax: hermesSyntax, said: "a <tool_cal", text: "a <tool_cal"},
	{name: "qwen3 thinking", syntax: thinkingHermes, said: "<think>\nHm, <tool_call> no.\n</think>\n\nYes.", text: "Yes.", reasoning: "Hm, <tool_call> no."},
	{name: "opened thinking", syntax: thinkingHermes, thinking: true, said: "\nFirst.\n\nThen.\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", reasoning: "First.\n\nThen.", calls: []Call{{"f", `{}`, true}}},
	{name: "thinking cut", syntax: thinkingHermes, said: "<think>\nHm </th", reasoning: "Hm </th"},
	{name: "empty thinking", syntax: thinkingHermes, said: "<think>\n\n</think>\n\nYes", text: "Yes"},
	{name: "qwen coder", syntax: Of("<tool_call> <function="), said: "Now:\n<tool_call>\n<function=edit>\n<parameter=path>\na/b.go\n</parameter>\n<parameter=lines>\n[1, 2]\n</parameter>\n<parameter=new>\nif a < b {\n\t\"x\"\n}\n</parameter>\n</function>\n</tool_call>",
		text: "Now:", calls: []Call{{"edit", `{"path": "a/b.go", "lines": [1, 2], "new": "if a < b {\n\t\"x\"\n}"}`, true}}},
	{name: "llama3", syntax: Of("<|python_tag|>"), said: `{"name": "f", "parameters": {"q": "a;b"}}`, calls: []Call{{"f", `{"q": "a;b"}`, true}}},
	{name: "llama3 two", syntax: Of("<|python_tag|>"), said: "\n<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"a\": {}}}", calls: []Call{{"f", `{}`, true}, {"g", `{"a": {}}`, true}}},
	{name: "llama3 JSON answer", syntax: Of("<|python_tag|>"), said: `{"city": "Paris"} {"name": "f", "parameters": {}}`, text: `{"city": "Paris"} {"name": "f", "parameters": {}}`},
	{name: "llama3 text", syntax: Of("<|python_tag|>"), said: `Use {"name": "f", "parameters": {}}`, text: `Use {"name": "f", "parameters": {}}`},
	{name: "mistral list", syntax: Of("[TOOL_CALLS]"), said: `[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}, {"name": "g", "arguments": {}}]`, calls: []Call{{"f", `{"a": 1}`, true}, {"g", `{}`, true}}},
	{name: "mistral named", syntax: Of("[TOOL_CALLS]"), said: `Ok[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]123[ARGS]{}`, text: "Ok", calls: []Call{{"f", `{"a": 1}`, true}, {"g", `{}`, true}}},
	{name: "deepseek v3", syntax: Of("<｜tool▁calls▁begin｜>"), said: "I see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"b\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
		text: "I see.", calls: []Call{{"f", `{"a": "b"}`, true}, {"g", `{}`, true}}},
	{name: "deepseek v3.1", syntax: Of("<｜tool▁calls▁begin｜>"), said: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", calls: []Call{{"f", `{"a": 1}`, true}}},
	{name: "harmony", syntax: Of("<|channel|>"), said: "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}", reasoning: "Think.", calls: []Call{{"f", `{"a": 1}`, true}}},
	{name: "harmony final", syntax: Of("<|channel|>"), said: "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>final<|message|>Four.", reasoning: "Think.", text: "Four."},
	{name: "no tools were offered", syntax: hermesSyntax.WithoutCalls(), said: `<tool_call>{"name": "f", "arguments": {}}</tool_call>`, text: `<tool_call>{"name": "f", "arguments": {}}</tool_call>`},
}

func TestReplies(t *testing.T) {
	for _, c := range replies {
		text, reasoning, calls := Whole(c.syntax, c.thinking, c.said)
		if text != c.text || reasoning != c.reasoning || !reflect.DeepEqual(calls, c.calls) {
			t.Errorf("%s:\ntext      %q\nwant      %q\nreasoning %q\nwant      %q\ncalls %+v\nwant  %+v", c.name, text, c.text, reasoning, c.reasoning, calls, c.calls)
		}
	}
}

// However a reply is cut into pieces, its parts put together are the same.
func TestAnyCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range replies {
		for try := range 50 {
			p := New(c.syntax, c.thinking)
			var got Collector
			for rest := c.said; rest != ""; {
				n := 1
				if try > 0 {
					n = 1 + rng.IntN(min(len(rest), 12))
				}
				got.Add(p.Push(rest[:n])...)
				rest = rest[n:]
			}
			got.Add(p.Flush()...)
			if got.Text.String() != c.text || got.Reasoning.String() != c.reasoning || !reflect.DeepEqual(got.Calls, c.calls) {
				t.Fatalf("%s, cut %d: text %q, reasoning %q, calls %+v", c.name, try, got.Text.String(), got.Reasoning.String(), got.Calls)
			}
		}
	}
}

// A reply that ends at any byte: nothing is lost, and what is whole is JSON.
func TestAnyEnd(t *testing.T) {
	for _, c := range replies {
		for n := range c.said {
			text, _, calls := Whole(c.syntax, c.thinking, c.said[:n])
			for _, call := range calls {
				if call.Name == "" || call.Whole && !json.Valid([]byte(call.Arguments)) {
					t.Errorf("%s, cut at %d: call %+v", c.name, n, call)
				}
			}
			if plain := strings.TrimSpace(c.said[:n]); plain != "" && !strings.Contains(plain, "think>") && c.reasoning == "" && c.calls == nil && text == "" {
				t.Errorf("%s, cut at %d: %q is lost", c.name, n, plain)
			}
		}
	}
}

// What looks like a call only by its shape must be of a tool that was offered.
func TestOffered(t *testing.T) {
	said := `{"name": "Ada", "arguments": {"a": 1}}`
	for name, calls := range map[string]int{"Ada": 1, "f": 0} {
		p := New(hermesSyntax, false).Offer(name)
		var got Collector
		got.Add(p.Push(said)...)
		got.Add(p.Flush()...)
		if len(got.Calls) != calls || (calls == 0) != (got.Text.String() == said) {
			t.Errorf("offered %s: text %q, calls %+v", name, got.Text.String(), got.Calls)
		}
	}
}

func TestOpened(t *testing.T) {
	for prompt, want := range map[string]bool{"...assistant\n<think>\n": true, "...assistant\n": false, "<think>\n\n</think>\n\n": false} {
		if got := thinkingHermes.Opened(prompt); got != want {
			t.Errorf("%q opened: %v", prompt, got)
		}
	}
	if hermesSyntax.Opened("x<think>") {
		t.Error("a template without reasoning has opened it")
	}
}

func FuzzParser(f *testing.F) {
	for _, c := range replies {
		f.Add(c.said, uint8(5))
	}
	syntaxes := []*Syntax{hermesSyntax, thinkingHermes, Of("<function="), Of("<|python_tag|>"), Of("[TOOL_CALLS]"), Of("<｜tool▁calls▁begin｜>"), Of("<|channel|>")}
	f.Fuzz(func(t *testing.T, said string, step uint8) {
		said = said[:min(len(said), 10_000)]
		for i, s := range syntaxes {
			text, reasoning, calls := Whole(s, false, said)
			p := New(s, false)
			var got Collector
			for rest := said; rest != ""; {
				n := min(len(rest), int(step%9)+1)
				got.Add(p.Push(rest[:n])...)
				rest = rest[n:]
			}
			got.Add(p.Flush()...)
			a, b := fmt.Sprint(text, "|", reasoning, "|", calls), fmt.Sprint(got.Text.String(), "|", got.Reasoning.String(), "|", got.Calls)
			if a != b {
				t.Errorf("syntax %d, steps of %d:\n%q\n%q", i, step%9+1, a, b)
			}
		}
	})
}
