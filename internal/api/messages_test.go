package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mneme/internal/api"
	"mneme/internal/api/anthropic"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/lineage"
	"mneme/internal/token"
)

// Cached is known once the first token has come.
func (s *fakeStream) Cached() int {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	a := s.fake.agents[string(s.request.Agent)]
	if a == nil {
		return 0
	}
	return lineage.CommonPrefix(a.lineage[:max(0, min(len(a.lineage), len(s.prompt))-1)], s.prompt)
}

func (b *bench) messages(body string, headers ...string) reply {
	b.t.Helper()
	return b.do("POST", "/v1/messages?beta=true", body, headers...)
}

// asks is a body of messages whose answer is hi's, with further fields.
func asks(fields string) string { return `{"max_tokens":100,` + hi + fields + `}` }

func TestMessage(t *testing.T) {
	b := newBench(t)
	got := b.messages(asks(`,"model":"letters"`), "X-Agent-ID: ada", "X-Request-Id: r-1")
	b.want(got, 200, `{
		"id": "msg_f00d", "type": "message", "role": "assistant", "model": "letters", "content": [{"type": "text", "text": "ok"}],
		"stop_reason": "end_turn", "stop_sequence": null,
		"usage": {"input_tokens": 21, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3},
		"diagnostics": null
	}`)
	for name, want := range map[string]string{"X-Agent-Id": "ada", "X-Request-Id": "r-1", "Request-Id": "r-1", "Content-Type": "application/json", "X-Mneme-Stripped": ""} {
		if got := got.header.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	if got := string(b.fake.requests[0].Agent); got != "ada" {
		t.Errorf("the turn was %q's", got)
	}
}

// events spells a stream of the given data, each event named by its type.
func events(data ...string) string {
	var all strings.Builder
	for _, d := range data {
		name, _, _ := strings.Cut(strings.TrimPrefix(d, `{"type":"`), `"`)
		all.WriteString("event: " + name + "\ndata: " + d + "\n\n")
	}
	return all.String()
}

// started is the first event of the streams of these tests.
func started(usage string) string {
	return `{"type":"message_start","message":{"id":"msg_f00d","type":"message","role":"assistant","model":"letters","content":[],"stop_reason":null,"stop_sequence":null,"usage":` + usage + `,"diagnostics":null}}`
}

func TestMessageStream(t *testing.T) {
	b := newBench(t)
	b.messages(asks(""), "X-Agent-ID: ada")
	got := b.messages(asks(`,"stream":true`), "X-Agent-ID: ada")
	want := events(
		started(`{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,"output_tokens":0}`),
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"o"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"k"}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,"output_tokens":3}}`,
		`{"type":"message_stop"}`,
	)
	if got.status != 200 || got.body != want {
		t.Errorf("got  %d %s\nwant 200 %s", got.status, got.body, want)
	}
	if got := got.header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
}

const (
	withTools = `,"tools":[{"name":"look","input_schema":{"type":"object","properties":{"at":{"type":"string"}}}},{"type":"web_search_20250305","name":"web_search"}]`
	twoCalls  = "I see.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"b\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"look\"}\n</tool_call>"
)

// A call of tools: answered, sent back with its results, and read by the model as
// it said it.
func TestMessageTools(t *testing.T) {
	b := newBench(t)
	b.fake.reply = twoCalls
	got := b.messages(`{"max_tokens":1000,`+hi+withTools+`}`, "X-Agent-ID: ada")
	blocks := `[{"type":"text","text":"I see."},{"type":"tool_use","id":"toolu_f00d","name":"look","input":{"at":"b"}},{"type":"tool_use","id":"toolu_f00d","name":"look","input":{}}]`
	for _, want := range []string{`"content":` + blocks, `"stop_reason":"tool_use"`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("got %s, want %s", got.body, want)
		}
	}
	if until := b.fake.family.waits["ada"]; !until.After(noon) {
		t.Errorf("the agent waits for its tools until %v", until)
	}
	b.fake.family.said["ada"], b.fake.reply = []string{twoCalls}, "ok"
	got = b.messages(`{"max_tokens":100,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":`+blocks+`},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_f00d","content":"fog"}]}]`+withTools+`}`, "X-Agent-ID: ada")
	prompt := b.fake.requests[1].Text
	want := "<|im_start|>assistant\n" + twoCalls + "<|im_end|>\n<|im_start|>user\n<tool_response>\nfog\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
	if got.status != 200 || !strings.HasSuffix(prompt, want) {
		t.Errorf("got  %d %s\nwant %s", got.status, prompt, want)
	}
	if strings.Contains(prompt, "web_search") || !strings.Contains(prompt, `"name":"look"`) {
		t.Errorf("the tools are not those of the client: %s", prompt)
	}
	if turns := b.fake.agents["ada"].turns; turns[1].Cached != turns[0].Prompt+turns[0].Completion-1 {
		t.Errorf("of %d + %d tokens %d are cached", turns[0].Prompt, turns[0].Completion, turns[1].Cached)
	}
}

// Calls come as they are said; what looks like one is text when no tools are there.
func TestMessageToolsStream(t *testing.T) {
	b := newBench(t)
	b.fake.reply = twoCalls
	got := b.messages(`{"max_tokens":1000,"stream":true,` + hi + withTools + `}`)
	parts := map[int]string{}
	var kinds []string
	for _, line := range strings.Split(got.body, "\n") {
		data, found := strings.CutPrefix(line, "data: ")
		if !found {
			continue
		}
		var e struct {
			Type  string
			Index int
			Block struct{ Type, Name string } `json:"content_block"`
			Delta struct {
				Text   string
				JSON   string `json:"partial_json"`
				Reason string `json:"stop_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		parts[e.Index] += e.Delta.Text + e.Delta.JSON
		if e.Type != "content_block_delta" {
			kinds = append(kinds, strings.TrimSpace(e.Type+" "+e.Block.Type+e.Delta.Reason))
		}
	}
	if want := map[int]string{0: "I see.", 1: `{"at": "b"}`, 2: "{}"}; !reflect.DeepEqual(parts, want) {
		t.Errorf("got %v, want %v", parts, want)
	}
	want := "message_start, content_block_start text, content_block_stop, content_block_start tool_use, content_block_stop, " +
		"content_block_start tool_use, content_block_stop, message_delta tool_use, message_stop"
	if got := strings.Join(kinds, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := b.messages(`{"max_tokens":1000,` + hi + `}`); !strings.Contains(got.body, `"stop_reason":"end_turn"`) || strings.Contains(got.body, "tool_use") {
		t.Errorf("without tools: %s", got.body)
	}
}

// thinker is a fake whose model thinks.
type thinker struct{ *fake }

func (f thinker) Info() engine.Info {
	info := f.fake.Info()
	info.Template, _ = chat.Compile(chatML+`{% if enable_thinking %}<think>{% endif %}`, chat.Options{EOS: "<|im_end|>"})
	return info
}

// Reasoning is a block of its own, signed; whether the model thinks is asked for.
func TestMessageThinking(t *testing.T) {
	b := newBench(t)
	b.api.Attach(thinker{b.fake})
	b.fake.reply = "\nHm.\n</think>\n\nok"
	got := b.messages(asks(`,"thinking":{"type":"enabled","budget_tokens":1024}`))
	want := `"content":[{"type":"thinking","thinking":"Hm.","signature":"bnLZXLS0/hZO5nf43c5L3i5a8E6eKCzNSioX+m7HHYE="},{"type":"text","text":"ok"}]`
	if !strings.Contains(got.body, want) {
		t.Errorf("got %s, want %s", got.body, want)
	}
	got = b.messages(asks(`,"stream":true,"thinking":{"type":"adaptive"}`))
	order := []string{`{"type":"thinking","thinking":"","signature":""}`, `{"type":"thinking_delta","thinking":"H"}`, `{"type":"signature_delta","signature":"`,
		"content_block_stop", `"index":1,"content_block":{"type":"text","text":""}`, `{"type":"text_delta","text":"o"}`}
	at := 0
	for _, part := range order {
		n := strings.Index(got.body[at:], part)
		if n < 0 {
			t.Fatalf("no %s behind byte %d of %s", part, at, got.body)
		}
		at += n
	}
	b.fake.reply = "ok"
	b.messages(asks(""))
	if prompt := b.fake.requests[2].Text; strings.HasSuffix(prompt, "<think>") {
		t.Errorf("nobody asked for thoughts: %q", prompt)
	}
}

// scripted is a fake whose turns give certain outputs and an end.
type scripted struct {
	*fake
	spelled []engine.Output
	finish  engine.FinishReason
}

func (s scripted) Submit(ctx context.Context, r engine.Request) (api.Stream, error) {
	stream, err := s.fake.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	stream.(*fakeStream).outputs = s.spelled
	return scriptedStream{stream.(*fakeStream), s.finish}, nil
}

type scriptedStream struct {
	*fakeStream
	finish engine.FinishReason
}

func (s scriptedStream) Result() (engine.Completed, error) {
	done, err := s.fakeStream.Result()
	done.Finish = s.finish
	return done, err
}

// Why the model stopped: max_tokens, an end token, one of the stop sequences, of
// which the answer has nothing.
func TestMessageStops(t *testing.T) {
	outputs := func(text, hidden string) []engine.Output {
		var all []engine.Output
		ids, _ := letters().IDs(text+hidden, token.Options{ParseSpecial: true})
		for i, id := range ids {
			all = append(all, engine.Output{ID: id})
			if i < len(text) {
				all[i].Text = text[i : i+1]
			}
		}
		return all
	}
	for _, c := range []struct {
		hidden string
		finish engine.FinishReason
		want   string
	}{
		{"<|im_end|>", engine.FinishStop, `"stop_reason":"end_turn","stop_sequence":null`},
		{"", engine.FinishLength, `"stop_reason":"max_tokens","stop_sequence":null`},
		{"yz", engine.FinishStop, `"stop_reason":"stop_sequence","stop_sequence":"yz"`},
		{"x", engine.FinishStop, `"stop_reason":"stop_sequence","stop_sequence":"x"`},
	} {
		for _, stream := range []string{"false", "true"} {
			b := newBench(t)
			b.api.Attach(scripted{b.fake, outputs("ok", c.hidden), c.finish})
			got := b.messages(asks(`,"stop_sequences":["xyz","x","yz"],"stream":` + stream))
			if !strings.Contains(got.body, c.want) {
				t.Errorf("%q: got %s, want %s", c.hidden, got.body, c.want)
			}
			if want := []string{"xyz", "x", "yz"}; !reflect.DeepEqual(b.fake.requests[0].Stop, want) {
				t.Errorf("the engine is to stop at %q", b.fake.requests[0].Stop)
			}
		}
	}
}

// A call that max_tokens cut has no input; one that is streamed has come as far.
func TestMessageCutCall(t *testing.T) {
	b := newBench(t)
	b.fake.reply = twoCalls
	got := b.messages(`{"max_tokens":52,` + hi + withTools + `}`)
	want := `{"type":"tool_use","id":"toolu_f00d","name":"look","input":{}}],"stop_reason":"max_tokens"`
	if !strings.Contains(got.body, want) {
		t.Errorf("got %s, want %s", got.body, want)
	}
}

// The prompt's tokens are what was cached, what was computed up to the last mark,
// and the rest; together what count_tokens says.
func TestMessageUsage(t *testing.T) {
	b := newBench(t)
	const mark = `,"cache_control":{"type":"ephemeral"}`
	body := func(messages string) string { return `{"max_tokens":9,"messages":[` + messages + `]}` }
	first := `{"role":"user","content":[{"type":"text","text":"hi"` + mark + `}]}`
	// <|im_start|>user\nhi are 8 tokens, <|im_end|>\n<|im_start|>assistant\n 13.
	second := `{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":"ok"},
		{"role":"user","content":[{"type":"text","text":"a"` + mark + `},{"type":"text","text":"b"}]}`
	for _, c := range []struct{ body, usage string }{
		{body(first), `"usage":{"input_tokens":13,"cache_creation_input_tokens":8,"cache_read_input_tokens":0,"output_tokens":3}`},
		// 21 and "ok" are cached; <|im_end|>\n<|im_start|>user\na are 9 more, \nb and the end 15.
		{body(second), `"usage":{"input_tokens":15,"cache_creation_input_tokens":9,"cache_read_input_tokens":23,"output_tokens":3}`},
		{body(first), `"usage":{"input_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,"output_tokens":3}`},
	} {
		got := b.messages(c.body, "X-Agent-ID: ada")
		if !strings.Contains(got.body, c.usage) {
			t.Errorf("%s\ngot  %s\nwant %s", c.body, got.body, c.usage)
		}
		var answer struct{ Usage anthropic.Usage }
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
			t.Fatal(err)
		}
		u := answer.Usage
		b.want(b.do("POST", "/v1/messages/count_tokens?beta=true", strings.Replace(c.body, `"max_tokens":9,`, "", 1), "X-Agent-ID: ada"),
			200, fmt.Sprintf(`{"input_tokens":%d}`, u.Input+u.Creation+u.Read))
	}
}

// An assistant's message at the end begins the answer.
func TestMessagePrefill(t *testing.T) {
	b := newBench(t)
	got := b.messages(`{"max_tokens":9,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"{","cache_control":{}}]}]}`)
	if prompt := b.fake.requests[0].Text; !strings.HasSuffix(prompt, "<|im_start|>assistant\n{") {
		t.Errorf("the prompt is %q", prompt)
	}
	if want := `"text":"ok"}`; !strings.Contains(got.body, want) || !strings.Contains(got.body, `{"input_tokens":0,"cache_creation_input_tokens":22,`) {
		t.Errorf("got %s, want %s", got.body, want)
	}
}

// strict is a fake whose template wants one system message, at the head.
type strict struct{ *fake }

func (f strict) Info() engine.Info {
	info := f.fake.Info()
	info.Template, _ = chat.Compile(`{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('system must come first') }}{% endif %}{% endfor %}`+chatML, chat.Options{EOS: "<|im_end|>"})
	return info
}

// A system message within the conversation stays where it is, whatever the
// template thinks of it.
func TestMessageSystemWithin(t *testing.T) {
	body := `{"max_tokens":9,"system":"s","messages":[{"role":"user","content":"hi"},{"role":"system","content":"b"},{"role":"assistant","content":"ok"},{"role":"user","content":"c"}]}`
	b := newBench(t)
	b.messages(body)
	want := "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>system\nb<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
	if got := b.fake.requests[0].Text; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	b.api.Attach(strict{b.fake})
	b.messages(body)
	want = strings.Replace(want, "hi<|im_end|>\n<|im_start|>system\nb", "hi\n\n<system>\nb\n</system>", 1)
	if got := b.fake.requests[1].Text; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What Claude Code sends, in its two turns: the session is the agent, the
// volatile line is gone, all but the new is cached.
func TestClaudeCode(t *testing.T) {
	recorded, err := os.ReadFile("testdata/claude_code.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	const session = "0b5e7a1c-5d3f-4b7e-9a55-2f6f3f0e9c11"
	for turn, body := range strings.Split(strings.TrimSpace(string(recorded)), "\n") {
		got := b.messages(body, "X-Claude-Code-Session-Id: "+session, "anthropic-version: 2023-06-01", "x-api-key: sk-x",
			"anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,mid-conversation-system-2026-04-07")
		if got.status != 200 || !strings.HasSuffix(got.body, events(`{"type":"message_stop"}`)) {
			t.Fatalf("turn %d: %d %s", turn, got.status, got.body)
		}
		if agent, stripped := got.header.Get("X-Agent-Id"), got.header.Get("X-Mneme-Stripped"); agent != session || stripped != "x-anthropic-billing-header" {
			t.Errorf("turn %d is of agent %q, without %q", turn, agent, stripped)
		}
		prompt := b.fake.requests[turn].Text
		if strings.Contains(prompt, "billing") || strings.Count(prompt, `{"type":"function"`) != 24 || b.fake.requests[turn].MaxTokens != 32000 {
			t.Errorf("turn %d: prompt %s", turn, prompt)
		}
	}
	first, second := b.fake.agents[session].turns[0], b.fake.agents[session].turns[1]
	if second.Cached != first.Prompt+first.Completion-1 {
		t.Errorf("of %d + %d tokens %d are cached", first.Prompt, first.Completion, second.Cached)
	}
	end := "Say hello.<|im_end|>\n<|im_start|>system\nAvailable agent types: general-purpose, Explore.<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\n"
	if prompt := b.fake.requests[1].Text; !strings.HasSuffix(prompt, end) {
		t.Errorf("the second prompt ends %q", prompt[max(0, len(prompt)-300):])
	}
}

// The server may keep the volatile line.
func TestBillingLineKept(t *testing.T) {
	body := asks(`,"system":"x-anthropic-billing-header: cc=1\nBe brief."`)
	b := newBenchWith(t, api.Options{Billing: anthropic.KeepBilling})
	if got := b.messages(body); got.header.Get("X-Mneme-Stripped") != "" || !strings.Contains(b.fake.requests[0].Text, "x-anthropic-billing-header: cc=1\nBe brief.") {
		t.Errorf("prompt %q", b.fake.requests[0].Text)
	}
}

// Each error in the vendor's shape: status, type, what is wrong, whose request.
func TestMessageErrors(t *testing.T) {
	failure := func(kind, message string) string {
		return `{"type":"error","error":{"type":"` + kind + `","message":` + strconv.Quote(message) + `},"request_id":"r-1"}`
	}
	for _, c := range []struct {
		refuse error
		body   string
		status int
		want   string
	}{
		{nil, `{`, 400, failure("invalid_request_error", "the body is not valid JSON: it ends too early")},
		{nil, `{` + hi + `}`, 400, failure("invalid_request_error", "max_tokens is required")},
		{nil, asks(`,"tool_choice":{"type":"any"}`), 400, failure("invalid_request_error", "tool_choice: a tool is required, and there are none")},
		{nil, asks(`,"tool_choice":{"type":"tool","name":"f"}`), 400, failure("invalid_request_error", "tool_choice: there is no tool named f")},
		{nil, asks(`,"model":"claude"`), 404, failure("not_found_error", `the model "claude" does not exist here; this server has "letters"`)},
		{nil, asks(`,"x":"` + strings.Repeat("a", 3000) + `"`), 413, failure("request_too_large", "the body is larger than the limit of 3000 bytes")},
		{&engine.ContextError{Tokens: 5000, Context: 4096}, asks(""), 400, failure("invalid_request_error", "prompt is too long: 5000 tokens > 4096 maximum")},
		{&engine.ContextError{Tokens: 5000, Context: 4096, AtLeast: true}, asks(""), 400, failure("invalid_request_error", "prompt is too long: at least 5000 tokens > 4096 maximum")},
		{engine.ErrQueueFull, asks(""), 429, failure("rate_limit_error", "too many requests waiting")},
		{engine.ErrDraining, asks(""), 503, failure("overloaded_error", "server is shutting down")},
		{errors.New("secret"), asks(""), 500, failure("api_error", "internal error; the server's log says more about request r-1")},
	} {
		for _, stream := range []string{"", `,"stream":true`} {
			b := newBenchWith(t, api.Options{BodyLimit: 3000})
			b.fake.refuse = c.refuse
			got := b.messages(strings.TrimSuffix(c.body, "}")+stream+c.body[len(strings.TrimSuffix(c.body, "}")):], "X-Request-Id: r-1")
			if c.body == "{" {
				got = b.messages(c.body, "X-Request-Id: r-1")
			}
			b.want(got, c.status, c.want)
			if got.header.Get("Request-Id") != "r-1" {
				t.Errorf("no request-id: %v", got.header)
			}
		}
	}
	b := newBench(t)
	b.want(b.do("GET", "/v1/messages", "", "X-Request-Id: r-1"), 405, failure("invalid_request_error", "GET is not allowed on /v1/messages; allowed: POST"))
	b.want(b.messages(asks(""), "X-Agent-ID: a b", "X-Request-Id: r-1"), 400, failure("invalid_request_error", `X-Agent-ID must be 1 to 256 characters of A-Z a-z 0-9 . _ : -, not "a b"`))
	loading := api.New(nil, api.Options{Log: quiet})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "http://localhost/v1/messages", strings.NewReader(asks("")))
	r.Header.Set("X-Request-Id", "r-1")
	loading.ServeHTTP(w, r)
	b.want(reply{w.Code, w.Header(), w.Body.String()}, 503, failure("overloaded_error", "the model is loading"))
}

// A stream that breaks says so in an event; no message_stop follows.
func TestMessageBreaks(t *testing.T) {
	b := newBench(t)
	b.fake.breaks = errors.New("disk sda1 on fire")
	got := b.messages(asks(`,"stream":true`), "X-Request-Id: r-7")
	want := events(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"o"}}`,
		`{"type":"error","error":{"type":"api_error","message":"internal error; the server's log says more about request r-7"},"request_id":"r-7"}`)
	if got.status != 200 || !strings.HasSuffix(got.body, want) {
		t.Errorf("got %d %s, want its end %s", got.status, got.body, want)
	}
}

// A turn that the disk refused is answered, and says so.
func TestMessageNotStored(t *testing.T) {
	b := newBench(t)
	b.fake.publish = errors.New("no space on /dev/sda1")
	for _, stream := range []string{"false", "true"} {
		got := b.messages(asks(`,"stream":` + stream))
		if note := `"mneme":{"publish_error":"this turn could not be written to disk and will not survive a restart"}`; strings.Count(got.body, note) != 1 {
			t.Errorf("got %s, want %s", got.body, note)
		}
	}
}

// Silence is filled with the vendor's pings.
func TestMessagePings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := slowSubmit{newFake(), 25 * time.Second}
		w := httptest.NewRecorder()
		server := api.New(slow, api.Options{Log: quiet, NewID: func() string { return "x" }})
		server.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v1/messages", strings.NewReader(asks(`,"stream":true`))))
		ping := events(`{"type":"ping"}`)
		want := ping + ping + events(`{"type":"error","error":{"type":"overloaded_error","message":"server is shutting down"},"request_id":"req-x"}`)
		if w.Code != 200 || w.Body.String() != want {
			t.Errorf("got %d %s, want 200 %s", w.Code, w.Body, want)
		}
	})
}

// Claude Code asks first whether anybody is there.
func TestFront(t *testing.T) {
	b := newBenchWith(t, api.Options{Version: api.VersionInfo{Version: "1.2.3"}})
	b.want(b.get("/"), 200, `{"name":"mneme","version":"1.2.3"}`)
	if got := b.do("HEAD", "/", ""); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}
