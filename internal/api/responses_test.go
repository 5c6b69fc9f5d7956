package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/api"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/vfs"
)

func (b *bench) respond(body string, headers ...string) reply {
	b.t.Helper()
	return b.do("POST", "/v1/responses", body, headers...)
}

// responseHead and responseTail are what responses of these tests have around
// their status and output; tools is "" for none.
func responseHead(id, status string) string {
	return `{"id":"` + id + `","object":"response","created_at":1795431600,"status":"` + status + `","background":false,"error":null,`
}

func responseTail(tools, usage string) string {
	return `"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"service_tier":"default","store":true,
		"temperature":1,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[` + tools + `],"top_p":1,"truncation":"disabled","usage":` + usage + `,"metadata":{}}`
}

func spent(in, cached, out int) string {
	return fmt.Sprintf(`{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d},"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}`, in, cached, out, in+out)
}

func TestResponseWhole(t *testing.T) {
	b := counted(t)
	got := b.respond(`{"model":"letters","input":"hi"}`, "X-Agent-ID: ada")
	whole := responseHead("resp_2", "completed") + `"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"letters",
		"output":[{"id":"msg_3","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}]}],` +
		responseTail("", spent(21, 0, 3))
	b.want(got, 200, whole)
	if got.header.Get("X-Agent-ID") != "ada" {
		t.Errorf("the agent is %q", got.header.Get("X-Agent-ID"))
	}
	b.want(b.get("/v1/responses/resp_2"), 200, whole)
	got = b.respond(`{"input":[{"role":"user","content":"hi"}],"max_output_tokens":1,"instructions":"be brief"}`)
	b.want(got, 200, responseHead("resp_6", "incomplete")+`"incomplete_details":{"reason":"max_output_tokens"},"instructions":"be brief","max_output_tokens":1,"model":"letters",
		"output":[{"id":"msg_7","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","text":"o","annotations":[],"logprobs":[]}]}],`+
		responseTail("", spent(39, 0, 1)))
	b.want(b.do("DELETE", "/v1/responses/resp_2", ""), 200, `{"id":"resp_2","object":"response","deleted":true}`)
	missing := `{"error":{"message":"no response with id \"resp_2\" is stored here","type":"invalid_request_error","param":"response_id","code":"response_not_found"}}`
	b.want(b.get("/v1/responses/resp_2"), 404, missing)
	b.want(b.do("DELETE", "/v1/responses/resp_2", ""), 404, missing)
}

// sse are the events of a stream, the name of each checked against its type.
func (b *bench) sse(stream string) []string {
	b.t.Helper()
	var all []string
	for text := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		name, data, _ := strings.Cut(text, "\ndata: ")
		var e struct {
			Type     string
			Sequence int `json:"sequence_number"`
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil || name != "event: "+e.Type || e.Sequence != len(all) {
			b.t.Errorf("event %d is %s: %v", len(all), text, err)
		}
		all = append(all, data)
	}
	return all
}

// thoughtful is the fake with a template that has reasoning.
type thoughtful struct{ *fake }

func (f thoughtful) Info() engine.Info {
	i := f.fake.Info()
	i.Template, _ = chat.Compile(chatML+`{# <think> </think> #}`, chat.Options{EOS: "<|im_end|>"})
	return i
}

// Every item is added, told and done before the next one, and the whole comes last.
func TestResponseEvents(t *testing.T) {
	b := counted(t)
	b.api.Attach(thoughtful{b.fake})
	b.fake.reply = "<think>\nhm\n</think>\n\nSo" + called("look", `{"at":1}`) + called("stop", "{}")
	const flat = `{"type":"function","name":"look","parameters":{"type":"object"},"strict":false}`
	got := b.respond(`{"input":"hi","stream":true,"tools":[` + flat + `,{"type":"web_search"}]}`)
	events := b.sse(got.body)
	var want []string
	tell := func(kind, members string) {
		want = append(want, fmt.Sprintf(`{"type":"%s","sequence_number":%d,%s}`, kind, len(want), members))
	}
	response := func(status, output, usage string) string {
		return compact(t, responseHead("resp_2", status)+`"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"letters","output":[`+output+`],`+responseTail(flat, usage))
	}
	tell("response.created", `"response":`+response("in_progress", "", "null"))
	tell("response.in_progress", `"response":`+response("in_progress", "", "null"))
	thinks := func(content string) string { return `{"id":"rs_3","type":"reasoning","summary":[]` + content + `}` }
	tell("response.output_item.added", `"output_index":0,"item":`+thinks(""))
	tell("response.content_part.added", `"item_id":"rs_3","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}`)
	for _, c := range "hm" {
		tell("response.reasoning_text.delta", `"item_id":"rs_3","output_index":0,"content_index":0,"delta":"`+string(c)+`"`)
	}
	tell("response.reasoning_text.done", `"item_id":"rs_3","output_index":0,"content_index":0,"text":"hm"`)
	tell("response.content_part.done", `"item_id":"rs_3","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"hm"}`)
	thought := thinks(`,"content":[{"type":"reasoning_text","text":"hm"}]`)
	tell("response.output_item.done", `"output_index":0,"item":`+thought)
	says := func(status, content string) string {
		return `{"id":"msg_4","type":"message","status":"` + status + `","role":"assistant","content":[` + content + `]}`
	}
	part := func(text string) string {
		return `{"type":"output_text","text":"` + text + `","annotations":[],"logprobs":[]}`
	}
	tell("response.output_item.added", `"output_index":1,"item":`+says("in_progress", ""))
	tell("response.content_part.added", `"item_id":"msg_4","output_index":1,"content_index":0,"part":`+part(""))
	for _, c := range "So" {
		tell("response.output_text.delta", `"item_id":"msg_4","output_index":1,"content_index":0,"delta":"`+string(c)+`","logprobs":[]`)
	}
	tell("response.output_text.done", `"item_id":"msg_4","output_index":1,"content_index":0,"text":"So","logprobs":[]`)
	tell("response.content_part.done", `"item_id":"msg_4","output_index":1,"content_index":0,"part":`+part("So"))
	said := says("completed", part("So"))
	tell("response.output_item.done", `"output_index":1,"item":`+said)
	calls := ""
	for i, c := range []struct{ id, call, name, arguments string }{{"fc_5", "call_6", "look", `{"at":1}`}, {"fc_7", "call_8", "stop", `{}`}} {
		at := fmt.Sprintf(`"output_index":%d`, i+2)
		item := func(status, arguments string) string {
			return fmt.Sprintf(`{"id":"%s","type":"function_call","status":"%s","call_id":"%s","name":"%s","arguments":%q}`, c.id, status, c.call, c.name, arguments)
		}
		tell("response.output_item.added", at+`,"item":`+item("in_progress", ""))
		for _, a := range c.arguments {
			tell("response.function_call_arguments.delta", fmt.Sprintf(`"item_id":"%s",%s,"delta":%q`, c.id, at, string(a)))
		}
		tell("response.function_call_arguments.done", fmt.Sprintf(`"item_id":"%s",%s,"name":"%s","arguments":%q`, c.id, at, c.name, c.arguments))
		tell("response.output_item.done", at+`,"item":`+item("completed", c.arguments))
		calls += "," + item("completed", c.arguments)
	}
	usage := strings.Replace(spent(len(b.fake.prompt(0)), 0, len(b.fake.reply)+1), `"reasoning_tokens":0`, `"reasoning_tokens":13`, 1)
	tell("response.completed", `"response":`+response("completed", thought+","+said+calls, usage))
	for i := range max(len(want), len(events)) {
		if i >= len(want) || i >= len(events) || events[i] != want[i] {
			t.Fatalf("%d events, want %d; the first that differs:\ngot  %s\nwant %s", len(events), len(want), at(events, i), at(want, i))
		}
	}
}

func at(all []string, i int) string {
	if i < len(all) {
		return all[i]
	}
	return "nothing"
}

func compact(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A stream that breaks ends with the response as failed.
func TestResponseFails(t *testing.T) {
	b := counted(t)
	b.fake.breaks = errors.New("disk sda1 on fire")
	events := b.sse(b.respond(`{"input":"hi","stream":true}`).body)
	last := events[len(events)-1]
	if want := `"status":"failed","background":false,"error":{"code":"internal_error","message":"internal error; the server's log says more about request req-1"}`; !strings.HasPrefix(last, `{"type":"response.failed"`) || !strings.Contains(last, want) {
		t.Errorf("the stream ends with %s", last)
	}
	b.fake.breaks = nil
	b.want(b.get("/v1/responses/resp_2"), 404, `{"error":{"message":"no response with id \"resp_2\" is stored here","type":"invalid_request_error","param":"response_id","code":"response_not_found"}}`)
}

// A conversation goes on from a stored response, also after a restart, and its
// agent with it.
func TestPreviousResponse(t *testing.T) {
	var n atomic.Int64
	files := vfs.NewCrashable()
	options := api.Options{ResponsesDir: "/data/responses", Files: files}
	start := func() *bench {
		return newBenchIDs(t, options, func() string { return fmt.Sprint(n.Add(1)) })
	}
	b := start()
	ids := []string{responseID(b, b.respond(`{"input":"one","instructions":"brief"}`))}
	ids = append(ids, responseID(b, b.respond(`{"input":"two","previous_response_id":"`+ids[0]+`"}`)))
	b = start()
	got := b.respond(`{"input":[{"role":"user","content":[{"type":"input_text","text":"three"}]}],"previous_response_id":"` + ids[1] + `"}`)
	want := "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"
	if prompt := b.fake.requests[0].Text; got.status != 200 || prompt != want {
		t.Errorf("%d, prompt\n%q, want\n%q", got.status, prompt, want)
	}
	if agent := got.header.Get("X-Agent-ID"); agent != ids[0] || !strings.Contains(got.body, `"previous_response_id":"`+ids[1]+`"`) {
		t.Errorf("agent %s, want %s; body %s", agent, ids[0], got.body)
	}
	b.want(b.respond(`{"input":"x","previous_response_id":"resp_0"}`), 404, `{"error":{"message":"no response with id \"resp_0\" is stored here","type":"invalid_request_error","param":"previous_response_id","code":"response_not_found"}}`)
	unstored := responseID(b, b.respond(`{"input":"x","store":false}`))
	if got := b.respond(`{"input":"x","previous_response_id":"` + unstored + `"}`); got.status != 400 || !strings.Contains(got.body, "made with store: false") {
		t.Errorf("from one that was not stored: %d %s", got.status, got.body)
	}
}

func responseID(b *bench, r reply) string {
	b.t.Helper()
	var answer struct{ ID string }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != 200 {
		b.t.Fatalf("%d %s", r.status, r.body)
	}
	return answer.ID
}

// A conversation has what was said in it; an item that is referred to is taken
// from where it is stored.
func TestConversation(t *testing.T) {
	b := counted(t)
	b.respond(`{"input":"one","conversation":"c 1"}`)
	got := b.respond(`{"input":"two","conversation":{"id":"c 1"}}`)
	if prompt := b.fake.requests[1].Text; !strings.HasPrefix(prompt, "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n<|im_start|>user\ntwo") {
		t.Errorf("the prompt is %q", prompt)
	}
	if agent := got.header.Get("X-Agent-ID"); !strings.HasPrefix(agent, "conversation-") || !strings.Contains(got.body, `"conversation":{"id":"c 1"}`) || !strings.Contains(got.body, `"previous_response_id":null`) {
		t.Errorf("agent %s, body %s", agent, got.body)
	}
	b.respond(`{"input":[{"type":"item_reference","id":"msg_3"},{"role":"user","content":"three"}]}`)
	if prompt := b.fake.requests[2].Text; !strings.HasPrefix(prompt, "<|im_start|>assistant\nok<|im_end|>\n<|im_start|>user\nthree") {
		t.Errorf("the prompt is %q", prompt)
	}
	if got := b.respond(`{"input":[{"type":"item_reference","id":"msg_0"}]}`); got.status != 404 {
		t.Errorf("an unknown item: %d %s", got.status, got.body)
	}
}

// Codex: two developers' items, the environment, hosted tools, nothing stored; its
// second turn sends back what it was answered, reasoning sealed.
func TestCodex(t *testing.T) {
	b := counted(t)
	b.api.Attach(thoughtful{b.fake})
	b.fake.replies = []string{"<think>\nlet me see\n</think>\n\n" + called("shell", `{"command":["ls"]}`), "Done."}
	const session = "6f2b0c9e-5f0c-4a58-9a6e-0123456789ab"
	request := func(more string) string {
		return `{"model":"letters","stream":true,"store":false,"include":["reasoning.encrypted_content"],"tool_choice":"auto","parallel_tool_calls":true,
			"reasoning":{"summary":"auto"},"prompt_cache_key":"` + session + `","client_metadata":{"a":"b"},"instructions":"You are Codex",
			"tools":[{"type":"function","name":"shell","description":"Run","strict":false,"parameters":{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"}}}}},{"type":"web_search","external_web_access":false},{"type":"custom","name":"apply_patch","format":{"type":"grammar"}}],
			"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"<permissions>"}]},{"type":"message","role":"developer","content":[{"type":"input_text","text":"<skills>"}]},
			{"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>"},{"type":"input_text","text":"list"}]}` + more + `]}`
	}
	headers := []string{"session-id: " + session, "thread-id: " + session, "x-client-request-id: " + session, "originator: codex_exec", "Authorization: Bearer k"}
	first := b.respond(request(""), headers...)
	events := b.sse(first.body)
	var items []json.RawMessage
	for _, e := range events {
		var done struct {
			Type string
			Item json.RawMessage
		}
		if json.Unmarshal([]byte(e), &done) == nil && done.Type == "response.output_item.done" {
			items = append(items, done.Item)
		}
	}
	if len(items) != 2 || first.header.Get("X-Agent-ID") != session || !b.fake.family.waits[session].Equal(noon.Add(10*time.Minute)) {
		t.Fatalf("agent %s, %d items: %s", first.header.Get("X-Agent-ID"), len(items), items)
	}
	var thought struct {
		Sealed string `json:"encrypted_content"`
	}
	if err := json.Unmarshal(items[0], &thought); err != nil || thought.Sealed == "" {
		t.Fatalf("the reasoning item is %s", items[0])
	}
	b.fake.family.said[session] = []string{"<think>\nlet me see\n</think>\n\n" + called("shell", `{"command":["ls"]}`)}
	back := fmt.Sprintf(`,{"type":"reasoning","summary":[],"encrypted_content":%q},%s,{"type":"function_call_output","call_id":"call_5","output":"a.txt"}`, thought.Sealed, items[1])
	second := b.respond(request(back), headers...)
	if prompt := b.fake.requests[1].Text; second.status != 200 || second.header.Get("X-Agent-ID") != session || !strings.HasPrefix(prompt, strings.TrimSuffix(b.fake.requests[0].Text, "<|im_start|>assistant\n")) ||
		!strings.Contains(prompt, "<|im_start|>assistant\n<think>\nlet me see\n</think>\n\n<tool_call>") {
		t.Errorf("%d, agent %s, prompt %q", second.status, second.header.Get("X-Agent-ID"), prompt)
	}
	if !strings.Contains(second.body, `"output_text","text":"Done."`) || !strings.Contains(second.body, `"input_tokens_details":{"cached_tokens":`) {
		t.Errorf("the second answer is %s", second.body)
	}
}

func TestBadResponses(t *testing.T) {
	for _, c := range []struct{ members, param, say string }{
		{``, "input", "input is required"},
		{`"input":7`, "input", "input must be a list, not a number"},
		{`"input":[]`, "input", "input must hold at least one item"},
		{`"input":[{"type":"web_search_call","id":"x"}]`, "input", "that is not left out"},
		{`"input":[7]`, "input[0]", "input[0] must be an object"},
		{`"input":[{"type":"mesage"}]`, "input[0].type", `must be one of message, function_call, function_call_output, reasoning, item_reference, not "mesage"`},
		{`"input":[{"content":"x"}]`, "input[0].role", "input[0].role is required"},
		{`"input":[{"role":"tool","content":"x"}]`, "input[0].role", "must be one of system, developer, user, assistant"},
		{`"input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]`, "input[0].content[0].type", `must be "input_text", not "input_image": this model reads text only`},
		{`"input":[{"type":"function_call","name":"f"}]`, "input[0].call_id", "input[0].call_id is required"},
		{`"input":[{"type":"function_call_output","call_id":"c"}]`, "input[0].output", "input[0].output is required"},
		{`"input":"x","tools":[{"type":"function"}]`, "tools[0].name", "tools[0].name is required"},
		{`"input":"x","tool_choice":"required","tools":[{"type":"web_search"}]`, "tool_choice", "a tool is required, and there are none"},
		{`"input":"x","metadata":[1]`, "metadata", "metadata must be an object, not a list"},
		{`"input":"x","tool_choice":{"type":7}`, "tool_choice.type", "tool_choice.type must be a string, not a number"},
		{`"input":"x","text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"not":{}}}}`, "text.format", "schema"},
		{`"input":"x","background":true`, "background", "background must be false"},
		{`"input":"x","prompt":{"id":"p"}`, "prompt", "keeps no prompts"},
		{`"input":"x","conversation":"c","previous_response_id":"r"`, "previous_response_id", "exclude each other"},
		{`"input":"x","truncation":"some"`, "truncation", "must be disabled or auto"},
		{`"input":"x","max_output_tokens":0`, "max_output_tokens", "must be a whole number from 1"},
		{`"input":"x","reasoning":7`, "reasoning", "reasoning must be an object"},
	} {
		b := newBench(t)
		got := b.respond(`{` + c.members + `}`)
		if message, param, _ := b.error(got); got.status != 400 || param != c.param || !strings.Contains(message, c.say) {
			t.Errorf("%s: %d %s, want %q about %s", c.members, got.status, got.body, c.say, c.param)
		}
		if len(b.fake.requests) != 0 {
			t.Errorf("%s reached the engine", c.members)
		}
		b.alive()
	}
}

// A response that the disk refuses is answered whole, and says it will not last.
func TestResponseNotStored(t *testing.T) {
	files := vfs.NewFailing(vfs.NewCrashable(), func(op vfs.Op) error {
		if strings.Contains(op.Name, ".response") {
			return errors.New("no space on /dev/sda1")
		}
		return nil
	})
	b := newBenchWith(t, api.Options{ResponsesDir: "/data/responses", Files: files})
	got := b.respond(`{"input":"hi"}`)
	if got.status != 200 || !strings.Contains(got.body, `"mneme":{"publish_error":"this response could not be written to disk and will not survive a restart"}`) || strings.Contains(got.body, "sda1") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if log := b.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "no space on /dev/sda1") {
		t.Errorf("the log does not say why: %s", log)
	}
}

// What a request says of its turn and of the template reaches both.
func TestResponseReachesEngine(t *testing.T) {
	b := newBench(t)
	b.respond(`{"input":"hi","temperature":0.5,"top_p":0.9,"seed":7,"max_output_tokens":32000,"reasoning":{"effort":"low"},"text":{"format":{"type":"json_object"}},"user":"u","metadata":{"user_id":"someone"}}`)
	r := b.fake.requests[0]
	if r.MaxTokens != 32000 || r.Sampling.Temperature != 0.5 || r.Sampling.TopP != 0.9 || r.Sampling.Seed != 7 || r.Within == nil || r.Agent != "" {
		t.Errorf("the engine got %+v", r)
	}
	if reflect.ValueOf(r.Within).IsNil() {
		t.Errorf("held to nothing")
	}
}
