package anthropic_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"mneme/internal/api/anthropic"
	"mneme/internal/api/fields"
	"mneme/internal/api/talk"
	"mneme/internal/api/wire"
	"mneme/internal/chat"
)

func decode(t *testing.T, body string) anthropic.Messages {
	t.Helper()
	m, err := anthropic.Decode([]byte(body), anthropic.Answer, anthropic.Settings{})
	if err != nil {
		t.Fatalf("%v\nin %s", err, body)
	}
	return m
}

// A conversation in blocks: what the model and its tools said becomes what
// templates know, in order; schemas and inputs keep the order of their keys.
func TestConversation(t *testing.T) {
	m := decode(t, `{"model":"m","max_tokens":100,"stop_sequences":["a","b"],"stream":true,
		"system":[{"type":"text","text":"One."},{"type":"text","text":"Two.","cache_control":{"type":"ephemeral"}}],
		"tools":[{"name":"f","description":"F.","input_schema":{"type":"object","properties":{"z":{},"a":{}}}},
			{"type":"web_search_20250305","name":"web_search","max_uses":3},{"type":"custom","name":"g","input_schema":{},"strict":true}],
		"tool_choice":{"type":"any","disable_parallel_tool_use":true},
		"messages":[{"role":"user","content":"go"},
			{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"x"},{"type":"redacted_thinking","data":"y"},
				{"type":"text","text":"I "},{"type":"text","text":"look."},{"type":"server_tool_use","id":"s","name":"web_search","input":{}},
				{"type":"tool_use","id":"t1","name":"f","input":{"z":1,"a":[ 2]}},{"type":"tool_use","id":"t2","name":"g","input":{}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"r1"},{"type":"text","text":"r2"}]},
				{"type":"tool_result","tool_use_id":"t2","is_error":true,"content":"no file"},{"type":"tool_result","tool_use_id":"t3"},
				{"type":"text","text":"so"},{"type":"text","text":"what?","cache_control":{"type":"ephemeral","ttl":"1h"}}]},
			{"role":"system","content":"Agents: none."}]}`)
	want := talk.Request{
		Messages: []chat.Message{
			{Role: "system", Content: "One.\nTwo."},
			{Role: "user", Content: "go"},
			{Role: "assistant", Content: "I look.", Reasoning: "Hm.", ToolCalls: []chat.ToolCall{
				{ID: "t1", Function: chat.Function{Name: "f", Arguments: json.RawMessage(`{"z":1,"a":[ 2]}`)}},
				{ID: "t2", Function: chat.Function{Name: "g", Arguments: json.RawMessage(`{}`)}},
			}},
			{Role: "tool", Name: "f", ToolCallID: "t1", Content: "r1\nr2"},
			{Role: "tool", Name: "g", ToolCallID: "t2", Content: "Error: no file"},
			{Role: "tool", ToolCallID: "t3"},
			{Role: "user", Content: "so\nwhat?"},
			{Role: "system", Content: "Agents: none."},
		},
		Tools: []talk.Tool{
			{Name: "f", Description: "F.", Parameters: json.RawMessage(`{"type":"object","properties":{"z":{},"a":{}}}`)},
			{Name: "g", Parameters: json.RawMessage(`{}`), Strict: true},
		},
		Choice:    talk.Choice{Mode: talk.Required, Single: true},
		Variables: map[string]json.RawMessage{"enable_thinking": json.RawMessage("false")},
	}
	if !reflect.DeepEqual(m.Talk, want) {
		t.Errorf("got  %+v\nwant %+v", m.Talk, want)
	}
	if m.Model != "m" || m.MaxTokens != 100 || !m.Stream || !reflect.DeepEqual(m.Stop, []string{"a", "b"}) {
		t.Errorf("got %+v", m)
	}
	if want := (anthropic.Mark{Kind: anthropic.MarkInside, At: talk.Place{Index: 6, Bytes: len("so\nwhat?")}}); m.Mark != want {
		t.Errorf("mark %+v, want %+v", m.Mark, want)
	}
}

// The last mark counts, wherever it is.
func TestMarks(t *testing.T) {
	const mark = `"cache_control":{"type":"ephemeral"}`
	inside := func(at talk.Place) anthropic.Mark { return anthropic.Mark{Kind: anthropic.MarkInside, At: at} }
	for _, c := range []struct {
		body string
		want anthropic.Mark
	}{
		{`"messages":[{"role":"user","content":"a"}]`, anthropic.Mark{}},
		{`"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":null}]}]`, anthropic.Mark{}},
		{`"tools":[{"name":"f","input_schema":{},` + mark + `},{"type":"bash_20250124","name":"bash",` + mark + `}],"messages":[{"role":"user","content":"a"}]`, inside(talk.Place{InTools: true})},
		{`"system":[{"type":"text","text":"abc",` + mark + `},{"type":"text","text":"d"}],"messages":[{"role":"user","content":"a"}]`, inside(talk.Place{Bytes: 3})},
		{mark + `,"system":"s","messages":[{"role":"user","content":"four"}]`, inside(talk.Place{Index: 1, Bytes: 4})},
		{`"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"ab",` + mark + `},{"type":"text","text":"c"}]}]}]`, inside(talk.Place{Bytes: 2})},
		{`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{},` + mark + `}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"}]}]`, inside(talk.Place{Index: 2})},
		{`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b",` + mark + `}]}]`, anthropic.Mark{Kind: anthropic.MarkAtEnd, At: talk.Place{Index: 1, Bytes: 1}}},
		{`"system":[{"type":"text","text":"x-anthropic-billing-header: cc",` + mark + `}],"messages":[{"role":"user","content":"a"}]`, anthropic.Mark{}},
	} {
		if m := decode(t, `{"max_tokens":1,`+c.body+`}`); m.Mark != c.want {
			t.Errorf("%s\ngot  %+v\nwant %+v", c.body, m.Mark, c.want)
		}
	}
}

// The volatile line goes, with its block if that is all of it, and is named; a
// line like it elsewhere is the user's own.
func TestBillingLine(t *testing.T) {
	const line = `x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;`
	for _, c := range []struct {
		system   string
		kept     string
		stripped bool
	}{
		{`"` + line + `"`, "", true},
		{`"` + line + `\nBe brief."`, "Be brief.", true},
		{`[{"type":"text","text":"` + line + `"},{"type":"text","text":"Be brief."}]`, "Be brief.", true},
		{`[{"type":"text","text":"Say it."},{"type":"text","text":"` + line + `\n` + line + `\nTwice."}]`, "Say it.\nTwice.", true},
		{`"Never say\n` + line + `"`, "Never say\n" + line, false},
	} {
		body := `{"max_tokens":1,"system":` + c.system + `,"messages":[{"role":"user","content":"a"}]}`
		m := decode(t, body)
		kept := ""
		if m.Talk.Messages[0].Role == "system" {
			kept = m.Talk.Messages[0].Content
		}
		if kept != c.kept || (len(m.Stripped) == 1) != c.stripped {
			t.Errorf("%s: kept %q, stripped %q", c.system, kept, m.Stripped)
		}
		all, err := anthropic.Decode([]byte(body), anthropic.Answer, anthropic.Settings{Billing: anthropic.KeepBilling})
		if err != nil || !strings.Contains(all.Talk.Messages[0].Content, line) || all.Stripped != nil {
			t.Errorf("%s: to be kept: %+v, %v", c.system, all, err)
		}
	}
}

// An assistant's message at the end begins the answer.
func TestPrefill(t *testing.T) {
	m := decode(t, `{"max_tokens":1,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"The answer is"}]}`)
	if m.Prefill != "The answer is" || len(m.Talk.Messages) != 1 {
		t.Errorf("%+v", m)
	}
	m = decode(t, `{"max_tokens":1,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[]}]}`)
	if m.Prefill != "" || len(m.Talk.Messages) != 1 {
		t.Errorf("%+v", m)
	}
}

// How the model thinks, whose turn it is, and what the answer must be.
func TestSettings(t *testing.T) {
	m := decode(t, `{"max_tokens":1,"messages":[{"role":"user","content":"a"}],"thinking":{"type":"adaptive"},
		"output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}}},
		"metadata":{"user_id":"{\"session_id\":\"s\"}"},"temperature":0,"top_k":5,"seed":7}`)
	if v := m.Talk.Variables; string(v["enable_thinking"]) != "true" || string(v["reasoning_effort"]) != `"low"` {
		t.Errorf("variables %s", v)
	}
	if f := m.Talk.Format; f.Shape != talk.JSONSchema || string(f.Schema) != `{"type":"object"}` {
		t.Errorf("format %+v", f)
	}
	if m.Names != (wire.Names{User: `{"session_id":"s"}`}) || m.Sampling.Temperature != 0 || m.Sampling.TopK != 5 || !m.Seeded {
		t.Errorf("%+v", m)
	}
}

func TestRefused(t *testing.T) {
	user := `"messages":[{"role":"user","content":"a"}]`
	says := func(m string) string { return `"max_tokens":1,"messages":[` + m + `]` }
	for _, c := range []struct{ body, say string }{
		{user, "max_tokens is required"},
		{`"max_tokens":0,` + user, "max_tokens must be a whole number from 1"},
		{`"max_tokens":1`, "messages is required"},
		{`"max_tokens":1,"messages":[]`, "messages must hold at least one message"},
		{`"max_tokens":1,"messages":"a"`, "messages must be a list"},
		{says(`7`), "messages[0] must be an object"},
		{says(`{"content":"a"}`), "messages[0].role is required"},
		{says(`{"role":"tool","content":"a"}`), "messages[0].role must be one of user, assistant, system"},
		{says(`{"role":"user"}`), "messages[0].content is required"},
		{says(`{"role":"user","content":7}`), "messages[0].content must be a list"},
		{says(`{"role":"user","content":[]}`), "messages[0].content must hold at least one block"},
		{says(`{"role":"user","content":["a"]}`), "messages[0].content[0] must be an object"},
		{says(`{"role":"user","content":[{"type":"image","source":{}}]}`), `messages[0].content[0].type must be "text", not "image": this model reads text only`},
		{says(`{"role":"user","content":[{"type":"document"}]}`), "no images, documents or files"},
		{says(`{"role":"user","content":[{"text":"a"}]}`), "messages[0].content[0].type is required"},
		{says(`{"role":"user","content":[{"type":"text"}]}`), "messages[0].content[0].text is required"},
		{says(`{"role":"user","content":[{"type":"tool_result","content":"a"}]}`), "messages[0].content[0].tool_use_id is required"},
		{says(`{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"}]}]}`), "messages[0].content[0].content[0].type must be"},
		{says(`{"role":"user","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}`), `not "tool_use"`},
		{says(`{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_result"}]}`), `not "tool_result"`},
		{says(`{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":[]}]},{"role":"user","content":"a"}`), "messages[1].content[0].input must be an object"},
		{says(`{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}`), `the tool_result of "t" is missing`},
		{says(`{"role":"assistant","content":"a"}`), "messages must hold more than the beginning of an answer"},
		{`"max_tokens":1,"system":7,` + user, "system must be a list"},
		{`"max_tokens":1,"system":[{"type":"image"}],` + user, "system[0].type must be"},
		{`"max_tokens":1,"tools":[{"input_schema":{}}],` + user, "tools[0].name is required"},
		{`"max_tokens":1,"tools":[{"name":"f"}],` + user, "tools[0].input_schema is required"},
		{`"max_tokens":1,"tools":[{"name":"f","input_schema":"x"}],` + user, "tools[0].input_schema must be an object"},
		{`"max_tokens":1,"tool_choice":"any",` + user, "tool_choice must be an object"},
		{`"max_tokens":1,"tool_choice":{"type":"some"},` + user, "tool_choice.type must be one of auto, any, tool, none"},
		{`"max_tokens":1,"tool_choice":{"type":"tool"},` + user, "tool_choice.name is required"},
		{`"max_tokens":1,"temperature":1.5,` + user, "temperature must be a number from 0 to 1, not 1.5"},
		{`"max_tokens":1,"stop_sequences":"a",` + user, "stop_sequences must be a list"},
		{`"max_tokens":1,"stop_sequences":["a",""],` + user, "stop_sequences[1] must not be empty"},
		{`"max_tokens":1,"stop_sequences":[7],` + user, "stop_sequences[0] must be a string"},
		{`"max_tokens":1,"thinking":{"type":"much"},` + user, "thinking.type must be one of enabled, adaptive, disabled"},
		{`"max_tokens":1,"metadata":{"user_id":7},` + user, "metadata.user_id must be a string"},
		{`"max_tokens":1,"output_config":{"format":{"type":"xml"}},` + user, `output_config.format.type must be "json_schema"`},
		{`"max_tokens":1,"repetition_penalty":0,` + user, "repetition_penalty: 0 is not above 0"},
		{`"max_tokens":1,"stream":1,` + user, "stream must be true or false"},
	} {
		_, err := anthropic.Decode([]byte("{"+c.body+"}"), anthropic.Answer, anthropic.Settings{})
		var e *fields.Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, c.say) {
			t.Errorf("{%s}\ngot  %v\nwant %s", c.body, err, c.say)
		}
	}
	if _, err := anthropic.Decode([]byte("{"+user+"}"), anthropic.Counting, anthropic.Settings{}); err != nil {
		t.Errorf("to be counted: %v", err)
	}
}

// Whatever comes, decoding ends with a conversation or with a 400 that says why.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"max_tokens":9,"messages":[{"role":"user","content":"hi"}],"system":"s","stop_sequences":["a"],"temperature":0.5}`,
		`{"max_tokens":9,"cache_control":{},"messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":"x"}]}`,
		`{"max_tokens":9,"tools":[{"name":"f","input_schema":{"type":"object"},"cache_control":{}}],"tool_choice":{"type":"tool","name":"f"},"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"r"}]}]}]}`,
		`{"max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"tool_use","id":"i","name":"n","input":{"a":1}}]},{"role":"system","content":"s"}]}`,
		`{"messages":[],"messages":[{}],"tools":[[]]}`, `{"a":[{"b":[}]}`, `[[[`, "\xff", `{}x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := anthropic.Decode(body, anthropic.Answer, anthropic.Settings{})
		var e *fields.Error
		switch {
		case err == nil:
			last := len(m.Talk.Messages) - 1
			if last < 0 || m.Talk.Messages[last].Role == "assistant" || m.Sampling.Check() != nil || m.MaxTokens < 1 || m.Mark.At.Index < 0 {
				t.Errorf("accepted %q as %+v", body, m)
			}
		case !errors.As(err, &e) || e.Message == "":
			t.Errorf("refused %q with %#v", body, err)
		}
	})
}
