package api_test

import (
	"strings"
	"testing"

	"mneme/internal/api"
)

// with is a good request and one more member.
func with(member string) string { return `{` + hi + `,` + member + `}` }

// tool is a function with a schema.
func tool(name, schema string) string {
	return `{"type":"function","function":{"name":"` + name + `","parameters":` + schema + `}}`
}

// saying is a request with one message.
func saying(message string) string { return `{"messages":[` + message + `]}` }

// Every bad request is told what is wrong and where, none reaches the engine,
// and the next good one is answered.
func TestBadChats(t *testing.T) {
	stops := `"stop":["` + strings.Repeat(`a","`, 16) + `a"]`
	for _, c := range []struct {
		body  string
		say   string // part of the message
		param string
	}{
		{``, "the body is empty", ""},
		{` `, "the body is empty", ""},
		{`{`, "ends too early", ""},
		{`[]`, "must be a JSON object, not a list", ""},
		{`nonsense`, "not valid JSON at byte", ""},
		{`{"messages":[{"role":"user","content":hi}]}`, "not valid JSON at byte 39, in messages[0].content", "messages[0].content"},
		{with(`"user":"x"`) + ` {}`, "something after the JSON object", ""},
		{with(`"user":"x"`) + `x`, "something after the JSON object", ""},
		{with("\"user\":\"\xff\""), "not valid UTF-8 at byte", ""},

		{`{}`, "messages is required", "messages"},
		{`{"messages":null}`, "messages is required", "messages"},
		{`{"messages":[]}`, "messages must hold at least one message", "messages"},
		{`{"messages":"hi"}`, "messages must be a list, not a string", "messages"},
		{`{"messages":[7]}`, "messages[0] must be an object, not a number", "messages[0]"},
		{saying(`{"content":"hi"}`), "messages[0].role is required", "messages[0].role"},
		{saying(`{"role":7,"content":"hi"}`), "messages[0].role must be a string, not a number", "messages[0].role"},
		{saying(`{"role":"robot","content":"hi"}`), `messages[0].role must be one of system, developer, user, assistant, tool, not "robot"`, "messages[0].role"},
		{saying(`{"role":"user"}`), "messages[0].content is required", "messages[0].content"},
		{saying(`{"role":"user","content":"a"},{"role":"user","content":7}`), "messages[1].content must be a string", "messages[1].content"},
		{saying(`{"role":"user","content":[]}`), "messages[0].content must hold at least one part", "messages[0].content"},
		{saying(`{"role":"user","content":["hi"]}`), "messages[0].content[0] must be an object", "messages[0].content[0]"},
		{saying(`{"role":"user","content":[{"text":"hi"}]}`), "messages[0].content[0].type is required", "messages[0].content[0].type"},
		{saying(`{"role":"user","content":[{"type":"text"}]}`), "messages[0].content[0].text is required", "messages[0].content[0].text"},
		{saying(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}`), "no images", "messages[0].content[0].type"},
		{saying(`{"role":"user","content":"hi","name":7}`), "messages[0].name must be a string", "messages[0].name"},
		{saying(`{"role":"assistant"}`), "messages[0].content is required", "messages[0].content"},
		{saying(`{"role":"tool","content":"x"}`), "messages[0].tool_call_id is required", "messages[0].tool_call_id"},
		{saying(`{"role":"assistant","content":"hi","tool_calls":[{}]}`), "messages[0].tool_calls[0].function is required", "messages[0].tool_calls[0].function"},
		{saying(`{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]}`), "messages[0].tool_calls[0].function.arguments must be a string, not an object", "messages[0].tool_calls[0].function.arguments"},

		{with(`"model":7`), "model must be a string", "model"},
		{with(`"stream":"yes"`), "stream must be true or false, not a string", "stream"},
		{with(`"stream_options":{}`), "allowed only when stream is true", "stream_options"},
		{with(`"stream":true,"stream_options":7`), "stream_options must be an object", "stream_options"},
		{with(`"stream":true,"stream_options":{"include_usage":1}`), "stream_options.include_usage must be true or false", "stream_options.include_usage"},
		{with(`"logprobs":3`), "logprobs must be true or false", "logprobs"},
		{with(`"top_logprobs":3`), "top_logprobs needs logprobs", "top_logprobs"},
		{with(`"ignore_eos":0`), "ignore_eos must be true or false", "ignore_eos"},
		{with(`"return_token_ids":[]`), "return_token_ids must be true or false", "return_token_ids"},

		{with(`"n":9`), "n must be a whole number from 1 to 8, not 9", "n"},
		{with(`"functions":[{}]`), "functions must be absent or empty: send tools", "functions"},
		{with(`"tools":[7]`), "tools[0] must be an object, not a number", "tools[0]"},
		{with(`"tools":[{"type":"web_search"}]`), `tools[0].type must be "function", not "web_search"`, "tools[0].type"},
		{with(`"tools":[{"type":"function"}]`), "tools[0].function is required", "tools[0].function"},
		{with(`"tools":[{"type":"function","function":{}}]`), "tools[0].function.name is required", "tools[0].function.name"},
		{with(`"tools":[{"type":"function","function":{"name":"a b"}}]`), `tools[0].function.name must be 1 to 128 characters of A-Z a-z 0-9 _ . : / -, not "a b"`, "tools[0].function.name"},
		{with(`"tools":[{"type":"function","function":{"name":"a","parameters":"{}"}}]`), "tools[0].function.parameters must be an object, not a string", "tools[0].function.parameters"},
		{with(`"tools":[` + tool("a", `{}`) + `,` + tool("a", `{}`) + `]`), "tools has two functions named a", "tools"},
		{with(`"tools":[` + tool("a", `{"type":"wrong"}`) + `],"tool_choice":"required"`), "tool a: schema", "tools"},
		{with(`"tool_choice":"any"`), `tool_choice must be none, auto, required, or an object that names a function, not "any"`, "tool_choice"},
		{with(`"tool_choice":"required"`), "a tool is required, and there are none", "tool_choice"},
		{with(`"tool_choice":7`), "tool_choice must be an object, not a number", "tool_choice"},
		{with(`"tool_choice":{"type":"function"}`), "tool_choice.name is required", "tool_choice.name"},
		{with(`"tool_choice":{"type":"function","function":{"name":"b"}},"tools":[` + tool("a", `{}`) + `]`), "there is no tool named b", "tool_choice"},
		{with(`"parallel_tool_calls":1`), "parallel_tool_calls must be true or false", "parallel_tool_calls"},
		{with(`"response_format":{"type":"yaml"}`), `response_format.type must be one of text, json_object, json_schema, not "yaml"`, "response_format.type"},
		{with(`"response_format":{"type":"json_schema","json_schema":{"name":"x"}}`), "response_format.json_schema.schema is required", "response_format.json_schema.schema"},
		{with(`"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"string","format":"nonsense","not":{}},"strict":true}}`), "response_format: schema", "response_format"},
		{with(`"chat_template_kwargs":{"messages":[]}`), "chat_template_kwargs.messages is the template's own", "chat_template_kwargs.messages"},
		{with(`"reasoning_effort":3`), "reasoning_effort must be a string", "reasoning_effort"},
		{with(`"conversation":{}`), "conversation.id is required", "conversation.id"},
		{with(`"response_format":"json"`), "response_format must be an object", "response_format"},

		{with(`"max_tokens":0`), "max_tokens must be a whole number from 1 to 2147483647, not 0", "max_tokens"},
		{with(`"top_p":1.5`), "top_p must be a number from 0 to 1, not 1.5", "top_p"},
		{with(`"top_k":-2`), "top_k must be a whole number from -1 to 2147483647, not -2", "top_k"},
		{with(`"repetition_penalty":0`), "repetition_penalty: 0 is not above 0", "repetition_penalty"},
		{with(`"top_k":1.5`), "top_k must be a whole number", "top_k"},
		{with(`"seed":1.5`), "seed must be a whole number", "seed"},
		{with(`"logit_bias":[1]`), "logit_bias must be an object", "logit_bias"},
		{with(`"logit_bias":{"x":1}`), `logit_bias must name token ids from 0 to 99, not "x"`, "logit_bias"},
		{with(`"logit_bias":{"100":1}`), `logit_bias must name token ids from 0 to 99, not "100"`, "logit_bias"},
		{with(`"logit_bias":{"-1":1}`), `logit_bias must name token ids from 0 to 99, not "-1"`, "logit_bias"},

		{with(`"stop":7`), "stop must be a string", "stop"},
		{with(`"stop":""`), "stop must not be empty", "stop"},
		{with(`"stop":["a",""]`), "stop[1] must not be empty", "stop[1]"},
		{with(`"stop":["a",7]`), "stop[1] must be a string, not a number", "stop[1]"},
		{with(`"stop":"` + strings.Repeat("a", 5000) + `"`), "stop must have at most 4096 bytes, not 5000", "stop"},
		{with(stops), "stop may hold at most 16 strings, not 17", "stop"},
	} {
		b := newBench(t)
		got := b.chat(c.body)
		message, param, _ := b.error(got)
		if got.status != 400 || !strings.Contains(message, c.say) || param != c.param {
			t.Errorf("%.120s\ngot  %d, param %q: %s\nwant 400, param %q: %s", c.body, got.status, param, message, c.param, c.say)
		}
		if len(b.fake.requests) != 0 {
			t.Errorf("%.120s reached the engine", c.body)
		}
		b.alive()
	}
}

// Every field that holds a number refuses what is none or out of all bounds,
// by name.
func TestBadNumbers(t *testing.T) {
	b := newBench(t)
	bad := []string{`NaN`, `Infinity`, `-Infinity`, `1e999`, `-1e999`, `1e30`, `-1e30`, `99999999999999999999999999`, `"1"`, `true`, `[1]`, `{}`}
	for _, field := range []string{
		"temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
		"max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs", "logit_bias.5",
	} {
		values := bad
		switch field {
		case "presence_penalty", "frequency_penalty", "seed", "logit_bias.5", "top_k": // may be negative
		default:
			values = append([]string{`-1`}, bad...)
		}
		for _, v := range values {
			member := `"` + field + `":` + v
			if outer, inner, nested := strings.Cut(field, "."); nested {
				member = `"` + outer + `":{"` + inner + `":` + v + `}`
			}
			got := b.chat(with(`"logprobs":true,` + member))
			if message, param, _ := b.error(got); got.status != 400 || param != field || !strings.Contains(message, field) {
				t.Errorf("%s: %d %s", member, got.status, got.body)
			}
		}
	}
	if len(b.fake.requests) != 0 {
		t.Errorf("%d bad requests reached the engine", len(b.fake.requests))
	}
	b.alive()
}

// What common clients send for "keep the likeliest only" and "keep all".
func TestEndsOfTheFilters(t *testing.T) {
	b := newBench(t)
	if got := b.chat(with(`"top_p":0,"top_k":-1`)); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if p := b.fake.requests[0].Sampling; p.TopP != 0 || p.TopK != -1 {
		t.Errorf("the engine got %+v", p)
	}
}

// Half of a surrogate pair is a character as the JSON reader writes it, U+FFFD.
func TestLoneSurrogates(t *testing.T) {
	b := newBench(t)
	if got := b.chat(saying(`{"role":"user","content":"a\ud800b"}`)); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if text := b.fake.requests[0].Text; !strings.Contains(text, "\na\ufffdb<|im_end|>") {
		t.Errorf("the prompt is %q", text)
	}
}

// max_tokens beyond any room is not an error; the engine clamps it.
func TestManyTokens(t *testing.T) {
	b := newBench(t)
	if got := b.chat(with(`"max_tokens":2000000000`)); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestUnknownModel(t *testing.T) {
	b := newBenchWith(t, api.Options{Aliases: []string{"abc"}})
	got := b.chat(with(`"model":"gpt-9"`))
	if message, param, code := b.error(got); got.status != 404 || code != "model_not_found" || param != "model" || !strings.Contains(message, `"letters"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := b.chat(with(`"model":"abc"`)); got.status != 200 || !strings.Contains(got.body, `"model":"letters"`) {
		t.Errorf("by its alias: %d %s", got.status, got.body)
	}
}

func TestBaseModel(t *testing.T) {
	b := newBench(t)
	b.fake.bare = true
	b.api.Attach(b.fake)
	if got := b.chat(`{` + hi + `}`); got.status != 400 || !strings.Contains(got.body, "has no chat template") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// What the template itself refuses is the request's fault.
func TestTemplateRefuses(t *testing.T) {
	b := newBench(t)
	b.want(b.chat(saying(`{"role":"user","name":"nobody","content":"42"}`)), 400, `{"error":{
		"message":"the model's chat template refuses these messages: nobody is not known here","type":"invalid_request_error","param":"messages","code":null}}`)
	b.alive()
}

func TestBadAgentIDs(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"", "a b", "a/b", "ä", "a\tb", strings.Repeat("a", 257)} {
		got := b.chat(`{`+hi+`}`, "X-Agent-ID: "+id)
		if message, param, _ := b.error(got); got.status != 400 || param != "X-Agent-ID" || !strings.Contains(message, "1 to 256 characters") {
			t.Errorf("X-Agent-ID %.20q: %d %s", id, got.status, got.body)
		}
	}
	for _, id := range []string{".", ".."} {
		for where, got := range map[string]reply{
			"X-Agent-ID": b.chat(`{`+hi+`}`, "X-Agent-ID: "+id), "id": b.do("POST", "/v1/agents", `{"id":"`+id+`"}`),
		} {
			if message, param, _ := b.error(got); got.status != 400 || param != where || !strings.Contains(message, `must not be "`+id+`"`) {
				t.Errorf("%s %q: %d %s", where, id, got.status, got.body)
			}
		}
	}
	if got := b.chat(`{`+hi+`}`, "X-Agent-ID: ..."); got.status != 200 {
		t.Errorf("three dots: %d %s", got.status, got.body)
	}
	b.fake.requests = nil
	if got := b.chat(`{`+hi+`}`, "X-Agent-ID: a", "X-Agent-ID: b"); got.status != 400 || !strings.Contains(got.body, "given 2 times") {
		t.Errorf("two agents: %d %s", got.status, got.body)
	}
	if len(b.fake.requests) != 0 {
		t.Errorf("%d requests reached the engine", len(b.fake.requests))
	}
	long := strings.Repeat("a", 256)
	if got := b.chat(`{`+hi+`}`, "X-Agent-ID: "+long); got.status != 200 || got.header.Get("X-Agent-Id") != long {
		t.Errorf("256 characters: %d %s", got.status, got.body)
	}
	b.alive()
}

func TestBodyLimit(t *testing.T) {
	b := newBenchWith(t, api.Options{BodyLimit: 1000})
	fits := `{` + hi + `,"user":"` + strings.Repeat("a", 1000-len(hi)-12) + `"}`
	if got := b.chat(fits); len(fits) != 1000 || got.status != 200 {
		t.Errorf("%d bytes: %d %s", len(fits), got.status, got.body)
	}
	if got := b.chat(fits + " "); got.status != 413 || !strings.Contains(got.body, "limit of 1000 bytes") {
		t.Errorf("1001 bytes: %d %s", got.status, got.body)
	}
	if got := b.chunked(fits + " "); got.status != 413 || !strings.Contains(got.body, "limit of 1000 bytes") {
		t.Errorf("1001 bytes of unknown length: %d %s", got.status, got.body)
	}
	b.alive()
}
