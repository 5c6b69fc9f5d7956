package api_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/api"
	"mneme/internal/engine"
)

// counted is a bench whose ids are 1, 2, 3 …
func counted(t *testing.T) *bench {
	t.Helper()
	var n atomic.Int64
	return newBenchIDs(t, api.Options{}, func() string { return fmt.Sprint(n.Add(1)) })
}

// called is a call as the fake's model writes it.
func called(name, arguments string) string {
	return "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": " + arguments + "}\n</tool_call>"
}

const look = `"tools":[{"type":"function","function":{"name":"look","description":"Look","parameters":{"type":"object","properties":{"z":{"type":"integer"},"at":{"type":"string"}}},"strict":false}}]`

// A model without tools in its template is told of them, in the schema's order,
// and its calls are calls.
func TestCallsWhole(t *testing.T) {
	b := counted(t)
	b.fake.reply = "Wait.\n" + called("look", `{"at": "x"}`) + "\n" + called("look", `{}`)
	got := b.chat(`{`+hi+`,`+look+`,"tool_choice":"auto"}`, "X-Agent-ID: ada")
	b.want(got, 200, `{
		"id": "chatcmpl-2", "object": "chat.completion", "created": 1795431600, "model": "letters", "system_fingerprint": "fp_0123456789ab",
		"choices": [{"index": 0, "message": {"role": "assistant", "content": "Wait.", "refusal": null, "tool_calls": [
			{"id": "call_3", "type": "function", "function": {"name": "look", "arguments": "{\"at\": \"x\"}"}},
			{"id": "call_4", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
			"logprobs": null, "finish_reason": "tool_calls"}],
		"usage": {"prompt_tokens": 387, "completion_tokens": 133, "total_tokens": 520, "prompt_tokens_details": {"cached_tokens": 0}}
	}`)
	prompt := b.fake.requests[0].Text
	if want := `[{"type":"function","function":{"name":"look","description":"Look","parameters":{"type":"object","properties":{"z":{"type":"integer"},"at":{"type":"string"}}}}}]`; !strings.Contains(prompt, want) {
		t.Errorf("the prompt %q lacks %s", prompt, want)
	}
	if b.fake.requests[0].Within != nil {
		t.Errorf("a call by choice is held to something")
	}
	if want := noon.Add(10 * time.Minute); !b.fake.family.waits["ada"].Equal(want) {
		t.Errorf("ada waits for its tools until %v, want %v", b.fake.family.waits["ada"], want)
	}
}

// chunks are the deltas of choice i of a stream, and its finish; all else must be
// as in every chunk.
func (b *bench) chunks(stream string, choice int) (deltas []string, finish string) {
	b.t.Helper()
	for event := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		if event == "data: [DONE]" {
			continue
		}
		var chunk struct {
			Choices []struct {
				Index  int
				Delta  json.RawMessage
				Finish string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(event, "data: ")), &chunk); err != nil {
			b.t.Fatalf("%s: %v", event, err)
		}
		for _, c := range chunk.Choices {
			if c.Index == choice {
				deltas, finish = append(deltas, string(c.Delta)), finish+c.Finish
			}
		}
	}
	return deltas, finish
}

// A streamed call begins with its name; its arguments come in pieces, and nothing
// of the markup does.
func TestCallsStreamed(t *testing.T) {
	b := counted(t)
	b.fake.reply = "So" + called("look", `{"at":1}`) + called("stop", `{}`)
	got := b.chat(`{`+hi+`,`+look+`,"stream":true}`, "X-Agent-ID: ada")
	deltas, finish := b.chunks(got.body, 0)
	piece := func(i int, text string) string {
		return fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":%q}}]}`, i, text)
	}
	want := []string{`{"role":"assistant","content":""}`, `{"content":"S"}`, `{"content":"o"}`,
		`{"tool_calls":[{"index":0,"id":"call_3","type":"function","function":{"name":"look","arguments":""}}]}`,
		piece(0, `{`), piece(0, `"`), piece(0, `a`), piece(0, `t`), piece(0, `"`), piece(0, `:`), piece(0, `1`), piece(0, `}`),
		`{"tool_calls":[{"index":1,"id":"call_4","type":"function","function":{"name":"stop","arguments":""}}]}`,
		piece(1, `{`), piece(1, `}`), `{}`}
	if !reflect.DeepEqual(deltas, want) || finish != "tool_calls" || !strings.HasSuffix(got.body, "data: [DONE]\n\n") {
		t.Errorf("finish %s\ngot  %s\nwant %s", finish, deltas, want)
	}
	if b.fake.family.waits["ada"].IsZero() {
		t.Errorf("ada does not wait for its tools")
	}
	b.fake.reply = called("look", `{"at":1}`)
	if _, finish := b.chunks(b.chat(`{`+hi+`,`+look+`,"stream":true,"max_tokens":45}`).body, 0); finish != "length" {
		t.Errorf("a call that is cut ends with %s", finish)
	}
}

// Choice 0 is the agent's turn; the others are nobody's, say something else, and
// cost no prompt.
func TestChoices(t *testing.T) {
	for _, stream := range []bool{false, true} {
		b := counted(t)
		b.fake.replies = []string{"one", "two!"}
		got := b.chat(fmt.Sprintf(`{%s,"n":2,"seed":7,"stream":%v,"stream_options":%s}`, hi, stream, map[bool]string{true: `{"include_usage":true}`, false: "null"}[stream]), "X-Agent-ID: ada")
		spent := `"usage":{"prompt_tokens":21,"completion_tokens":9,"total_tokens":30,"prompt_tokens_details":{"cached_tokens":0}}`
		if got.status != 200 || strings.Count(got.body, spent) != 1 {
			t.Errorf("%d %s, want %s", got.status, got.body, spent)
		}
		first, second := b.fake.requests[0], b.fake.requests[1]
		if first.Agent != "ada" || second.Agent != "" || first.Text != second.Text || first.Sampling.Seed != 7 || second.Sampling.Seed != 8 || len(b.fake.agents) != 1 {
			t.Errorf("the turns are %+v and %+v", first, second)
		}
		if got := b.get("/metrics").body; !strings.Contains(got, "\nmneme_prompt_tokens_computed_total 21\n") || !strings.Contains(got, "\nmneme_completion_tokens_total 9\n") {
			t.Errorf("the metrics do not say the same as usage")
		}
		if !stream {
			for _, want := range []string{`{"index":0,"message":{"role":"assistant","content":"one",`, `{"index":1,"message":{"role":"assistant","content":"two!",`} {
				if !strings.Contains(got.body, want) {
					t.Errorf("%s lacks %s", got.body, want)
				}
			}
			continue
		}
		for i, want := range []string{`[{"role":"assistant","content":""} {"content":"o"} {"content":"n"} {"content":"e"} {}]`, `[{"role":"assistant","content":""} {"content":"t"} {"content":"w"} {"content":"o"} {"content":"!"} {}]`} {
			if deltas, finish := b.chunks(got.body, i); fmt.Sprint(deltas) != want || finish != "stop" {
				t.Errorf("choice %d: %s, finish %s, want %s", i, deltas, finish, want)
			}
		}
	}
}

// What the answer must be is handed to the engine, for each choice its own.
func TestHeldAnswers(t *testing.T) {
	for _, member := range []string{
		`"response_format":{"type":"json_object"}`,
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}}}`,
		look + `,"tool_choice":"required"`,
		look + `,"tool_choice":{"type":"function","function":{"name":"look"}}`,
		look + `,"parallel_tool_calls":false`,
		look + `,"response_format":{"type":"json_object"}`,
	} {
		b := newBench(t)
		if got := b.chat(with(member + `,"n":2`)); got.status != 200 || len(b.fake.requests) != 2 {
			t.Fatalf("%s: %d %s", member, got.status, got.body)
		}
		one, two := b.fake.requests[0].Within, b.fake.requests[1].Within
		if one == nil || two == nil || reflect.ValueOf(one).Pointer() == reflect.ValueOf(two).Pointer() {
			t.Errorf("%s: choices are held to %p and %p", member, one, two)
		}
	}
}

// What the model said comes back as it said it, for the member of the family that
// the conversation is; a side request of the same session is another one.
func TestFamilyReplay(t *testing.T) {
	b := counted(t)
	said := called("look", `{"at":  "x",  "z": 1}`)
	main, title := messages(`{"role":"user","content":"go"}`), messages(`{"role":"user","content":"title"}`)
	headers := []string{"x-session-id: ses_1", "x-session-affinity: ses_1"}
	for _, c := range []struct{ messages, agent string }{{main, "ses_1"}, {title, "ses_1~2"}, {main, "ses_1"}} {
		if got := b.chat(`{`+c.messages+`,`+look+`}`, headers...); got.status != 200 || got.header.Get("X-Agent-ID") != c.agent {
			t.Errorf("%s is %s, want %s", c.messages, got.header.Get("X-Agent-ID"), c.agent)
		}
	}
	if r := b.fake.requests[1]; r.Agent != "ses_1~2" || r.Parent != "ses_1" {
		t.Errorf("the second member is %s with the parent %q", r.Agent, r.Parent)
	}
	b.fake.family.said["ses_1"] = []string{said}
	next := messages(`{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"z\":1,\"at\":\"x\"}"}}]},
		{"role":"tool","tool_call_id":"call_1","content":"seen"}`)
	got := b.chat(`{`+next+`,`+look+`}`, headers...)
	if prompt := b.fake.requests[3].Text; got.header.Get("X-Agent-ID") != "ses_1" || !strings.Contains(prompt, said) {
		t.Errorf("agent %s, prompt %q", got.header.Get("X-Agent-ID"), prompt)
	}
}

func messages(messages string) string { return `"messages":[` + messages + `]` }

// OpenCode's two first requests, with more tokens wanted than there can be.
func TestOpenCode(t *testing.T) {
	b := counted(t)
	headers := []string{"x-session-id: ses_1", "x-session-affinity: ses_1", "Authorization: Bearer k", "User-Agent: opencode/1.18.33 ai-sdk/openai-compatible"}
	body := `{"model":"letters","max_tokens":32000,"messages":[{"role":"system","content":"You are opencode"},{"role":"user","content":"hi"}],%s"stream":true,"stream_options":{"include_usage":true}}`
	for i, tools := range []string{"", look + `,"tool_choice":"auto",`} {
		got := b.chat(fmt.Sprintf(body, tools), headers...)
		if got.status != 200 || !strings.HasSuffix(got.body, "data: [DONE]\n\n") || !strings.Contains(got.body, `"choices":[],"usage":{"prompt_tokens":`) {
			t.Errorf("%d %s", got.status, got.body)
		}
		if r := b.fake.requests[i]; r.Agent != []engine.AgentID{"ses_1", "ses_1~2"}[i] || r.MaxTokens != 32000 {
			t.Errorf("request %d is of agent %s, for %d tokens", i, r.Agent, r.MaxTokens)
		}
	}
}

// A legacy completion has an agent too, where it is one text.
func TestFamilyOfTexts(t *testing.T) {
	b := newBench(t)
	for prompt, agent := range map[string]string{`"once"`: "k", `["once","twice"]`: "", `[75,76]`: ""} {
		if got := b.complete(`{"prompt":` + prompt + `,"prompt_cache_key":"k"}`); got.status != 200 || got.header.Get("X-Agent-ID") != agent {
			t.Errorf("%s: %d, agent %q, want %q", prompt, got.status, got.header.Get("X-Agent-ID"), agent)
		}
	}
}
