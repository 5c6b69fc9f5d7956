package api_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mneme/internal/api"
	"mneme/internal/engine"
	"mneme/internal/sample"
	"mneme/internal/token"
)

const hi = `"messages":[{"role":"user","content":"hi"}]`

// The prompt of hi: <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n
const hiTokens = `[0,88,86,72,85,2,75,76,1,2,0,68,86,86,76,86,87,68,81,87,2]`

func TestAnswerWhole(t *testing.T) {
	b := newBench(t)
	got := b.chat(`{"model":"letters",`+hi+`}`, "X-Agent-ID: ada", "X-Request-Id: r-1")
	b.want(got, 200, `{
		"id": "chatcmpl-f00d", "object": "chat.completion", "created": 1795431600, "model": "letters", "system_fingerprint": "fp_0123456789ab",
		"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok", "refusal": null}, "logprobs": null, "finish_reason": "stop"}],
		"usage": {"prompt_tokens": 21, "completion_tokens": 3, "total_tokens": 24, "prompt_tokens_details": {"cached_tokens": 0}}
	}`)
	for name, want := range map[string]string{"X-Agent-Id": "ada", "X-Request-Id": "r-1", "Content-Type": "application/json"} {
		if got := got.header.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
}

// The second turn of an agent says how much of it was cached:
// prompt(1) + completion(1) - 1 = 21 + 3 - 1.
func TestSecondTurnIsCached(t *testing.T) {
	b := newBench(t)
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada")
	got := b.chat(`{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ok"},{"role":"user","content":"so"}]}`, "X-Agent-ID: ada")
	if want := `"prompt_tokens_details":{"cached_tokens":23}`; !strings.Contains(got.body, want) {
		t.Errorf("got %s, want %s", got.body, want)
	}
}

func TestExtraFields(t *testing.T) {
	b := newBench(t)
	got := b.chat(`{` + hi + `,"return_token_ids":true,"logprobs":true,"top_logprobs":2,"max_tokens":1}`)
	b.want(got, 200, `{
		"id": "chatcmpl-f00d", "object": "chat.completion", "created": 1795431600, "model": "letters", "system_fingerprint": "fp_0123456789ab",
		"choices": [{"index": 0, "message": {"role": "assistant", "content": "o", "refusal": null},
			"logprobs": {"content": [{"token": "o", "logprob": -0.25, "bytes": [111], "top_logprobs": [
				{"token": "o", "logprob": -0.25, "bytes": [111]}, {"token": "\n", "logprob": -1.5, "bytes": [10]}]}], "refusal": null},
			"finish_reason": "length", "token_ids": [82]}],
		"usage": {"prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 22, "prompt_tokens_details": {"cached_tokens": 0}},
		"prompt_token_ids": `+hiTokens+`
	}`)
}

// Everything a request may say reaches the engine.
func TestRequestReachesEngine(t *testing.T) {
	b := newBench(t)
	got := b.chat(`{"messages":[{"role":"developer","content":"be brief"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
		"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"presence_penalty":-1,"frequency_penalty":0.25,"repetition_penalty":1.1,
		"seed":7,"logit_bias":{"5":-100},"max_completion_tokens":9.0,"stop":["x","yz"],"ignore_eos":true,"logprobs":true,
		"n":1,"tools":[],"tool_choice":"none","response_format":{"type":"text"},"user":null,"whatever":{"else":[1]}}`, "X-Agent-ID: a.B_c:d-9")
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	want := engine.Request{
		Agent:     "a.B_c:d-9",
		Namespace: "default",
		Text:      "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n",
		MaxTokens: 9,
		Sampling: sample.Params{
			Temperature: 0.5, TopP: 0.9, TopK: 40, MinP: 0.05, PresencePenalty: -1, FrequencyPenalty: 0.25, RepetitionPenalty: 1.1,
			Seed: 7, LogitBias: map[token.ID]float64{5: -100}, Logprobs: 0,
		},
		Stop:      []string{"x", "yz"},
		IgnoreEOS: true,
	}
	if got := b.fake.requests[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A request that sets nothing gets the defaults and a seed of its own.
func TestDefaults(t *testing.T) {
	b := newBench(t)
	b.chat(`{` + hi + `}`)
	b.chat(`{` + hi + `}`)
	first, second := b.fake.requests[0].Sampling, b.fake.requests[1].Sampling
	if first.Seed == second.Seed {
		t.Errorf("two requests without a seed got the same one, %d", first.Seed)
	}
	first.Seed = 0
	if !reflect.DeepEqual(first, sample.Defaults()) {
		t.Errorf("got %+v, want %+v", first, sample.Defaults())
	}
}

// head is what every chunk of these tests begins with.
const head = `data: {"id":"chatcmpl-f00d","object":"chat.completion.chunk","created":1795431600,"model":"letters","system_fingerprint":"fp_0123456789ab",`

func TestStreamWhole(t *testing.T) {
	b := newBench(t)
	got := b.chat(`{`+hi+`,"stream":true}`, "X-Agent-ID: ada")
	want := head + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{"content":"o"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{"content":"k"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}` + "\n\n" +
		"data: [DONE]\n\n"
	if got.status != 200 || got.body != want {
		t.Errorf("got  %d %s\nwant 200 %s", got.status, got.body, want)
	}
	for name, want := range map[string]string{
		"X-Agent-Id": "ada", "X-Request-Id": "req-f00d", "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache",
	} {
		if got := got.header.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
}

// Half an é has a token and no text: its chunk is there only for those who
// count tokens.
func TestStreamWithEverything(t *testing.T) {
	b := newBench(t)
	b.fake.reply = "é"
	got := b.chat(`{` + hi + `,"stream":true,"stream_options":{"include_usage":true},"return_token_ids":true,"logprobs":true}`)
	logprob := func(text, bytes string) string {
		return `"logprobs":{"content":[{"token":"` + text + `","logprob":-0.25,"bytes":[` + bytes + `],"top_logprobs":[]}],"refusal":null},"finish_reason":null,`
	}
	want := head + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null,"prompt_token_ids":` + hiTokens + "}\n\n" +
		head + `"choices":[{"index":0,"delta":{"content":""},` + logprob("\ufffd", "195") + `"token_ids":[98]}],"usage":null}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{"content":"é"},` + logprob("\ufffd", "169") + `"token_ids":[99]}],"usage":null}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{"content":""},` + logprob("<|im_end|>", "60,124,105,109,95,101,110,100,124,62") + `"token_ids":[1]}],"usage":null}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}` + "\n\n" +
		head + `"choices":[],"usage":{"prompt_tokens":21,"completion_tokens":3,"total_tokens":24,"prompt_tokens_details":{"cached_tokens":0}}}` + "\n\n" +
		"data: [DONE]\n\n"
	if got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	b.fake.reply = "é"
	if got := b.chat(`{` + hi + `,"stream":true}`); strings.Count(got.body, `"content":"é"`) != 1 || strings.Count(got.body, `"content":`) != 2 {
		t.Errorf("without token counts, an empty chunk besides the role: %s", got.body)
	}
}

// A stream that breaks says so, once, in place of its end.
func TestStreamBreaks(t *testing.T) {
	b := newBench(t)
	b.fake.breaks = errors.New("disk sda1 on fire")
	got := b.chat(`{`+hi+`,"stream":true}`, "X-Request-Id: r-7")
	want := head + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		head + `"choices":[{"index":0,"delta":{"content":"o"},"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		`data: {"error":{"message":"internal error; the server's log says more about request r-7","type":"server_error","param":null,"code":"internal_error"}}` + "\n\n"
	if got.status != 200 || got.body != want {
		t.Errorf("got  %d %s\nwant 200 %s", got.status, got.body, want)
	}
	if log := b.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, `error="disk sda1 on fire"`) {
		t.Errorf("the log does not say why: %s", log)
	}
	b.fake.breaks = nil
	b.alive()
}

// What Submit refuses is a plain error with its status, stream or not.
func TestSubmitRefuses(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
		say    []string
		retry  string
	}{
		{&engine.ContextError{Tokens: 5000, Context: 4096}, 400, "context_length_exceeded", []string{"5000", "4096"}, ""},
		{&engine.CapacityError{NeedBytes: 900, PoolBytes: 800}, 400, "kv_capacity_exceeded", []string{"900", "800"}, ""},
		{&engine.InputError{Field: "prompt", Problem: "is empty"}, 400, "", []string{"prompt: is empty"}, ""},
		{engine.ErrDraining, 503, "draining", []string{"shutting down"}, "1"},
		{engine.ErrQueueFull, 429, "queue_full", []string{"too many"}, "1"},
		{engine.ErrOtherModel, 409, "agent_of_other_model", []string{"another model"}, ""},
		{engine.ErrAgentBusy, 409, "agent_busy", []string{"turn running"}, ""},
		{errors.New("secret /path"), 500, "internal_error", []string{"req-f00d"}, ""},
	} {
		for _, stream := range []string{"false", "true"} {
			b := newBench(t)
			b.fake.refuse = c.err
			got := b.chat(`{` + hi + `,"stream":` + stream + `}`)
			message, _, code := b.error(got)
			if got.status != c.status || code != c.code || got.header.Get("Retry-After") != c.retry || strings.Contains(message, "secret") {
				t.Errorf("%v, stream %s: got %d %s, Retry-After %q; want %d %s %q", c.err, stream, got.status, got.body, got.header.Get("Retry-After"), c.status, c.code, c.retry)
			}
			for _, part := range c.say {
				if !strings.Contains(message, part) {
					t.Errorf("%v: message %q lacks %q", c.err, message, part)
				}
			}
			b.fake.refuse = nil
			b.alive()
		}
	}
}

// A turn that the disk refused is answered whole, and says it will not last. Its
// agent stays in memory until a later one is stored.
func TestPublishFails(t *testing.T) {
	b := newBench(t)
	b.fake.publish = errors.New("no space on /dev/sda1")
	note := `"mneme":{"publish_error":"this turn could not be written to disk and will not survive a restart"}`
	for _, stream := range []string{"false", "true"} {
		got := b.chat(`{`+hi+`,"stream":`+stream+`}`, "X-Agent-ID: ada")
		if got.status != 200 || strings.Count(got.body, note) != 1 {
			t.Errorf("stream %s: got %d %s, want 200 with %s", stream, got.status, got.body, note)
		}
	}
	if log := b.log.String(); strings.Count(log, `publish_error="no space on /dev/sda1"`) != 2 {
		t.Errorf("the log does not say why: %s", log)
	}
	b.want(b.do("POST", "/v1/agents/ada/evict", ""), 409, `{"error":{"message":"the last turn of agent ada is not on disk","type":"invalid_request_error","param":null,"code":"agent_not_stored"}}`)
	b.fake.publish = nil
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada")
	if got := b.do("POST", "/v1/agents/ada/evict", ""); got.status != 200 {
		t.Errorf("evict after a stored turn: %d %s", got.status, got.body)
	}
}

// A client that leaves in mid-stream leaves no turn behind.
func TestClientGone(t *testing.T) {
	for _, stream := range []string{"false", "true"} {
		b := newBench(t)
		b.fake.hold = make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "POST", b.http.URL+"/v1/chat/completions", strings.NewReader(`{`+hi+`,"stream":`+stream+`}`))
		r.Header.Set("X-Agent-ID", "ada")
		if stream == "true" {
			answer, err := b.http.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || !strings.Contains(line, "assistant") {
				t.Errorf("first event %q, %v", line, err)
			}
			leave()
			answer.Body.Close()
		} else {
			time.AfterFunc(20*time.Millisecond, leave)
			if _, err := b.http.Client().Do(r); err == nil {
				t.Errorf("the request was answered without its turn's end")
			}
		}
		b.http.Close() // waits for the handler
		if b.fake.abandoned != 1 || len(b.fake.agents) != 0 {
			t.Errorf("stream %s: %d streams abandoned, agents %v; want 1 and none", stream, b.fake.abandoned, b.fake.agents)
		}
		if log := b.log.String(); !strings.Contains(log, "status=499") || strings.Contains(log, "level=ERROR") {
			t.Errorf("stream %s: log %s", stream, log)
		}
		leave()
	}
}

// A long silence is filled with comments, one each ten seconds.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.hold = make(chan struct{})
		w := httptest.NewRecorder()
		over := make(chan struct{})
		go func() {
			defer close(over)
			api.New(f, api.Options{Log: quiet}).ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v1/chat/completions", strings.NewReader(`{`+hi+`,"stream":true}`)))
		}()
		time.Sleep(35 * time.Second)
		close(f.hold)
		<-over
		body := w.Body.String()
		silence := body[strings.Index(body, `"content":"o"`):strings.Index(body, `"content":"k"`)]
		if got := strings.Count(silence, "\n\n: ping\n\n: ping\n\n: ping\n\ndata: "); got != 1 || strings.Count(body, ": ping") != 3 {
			t.Errorf("35 s of silence, want 3 pings in it: %s", body)
		}
	})
}

// A request that waits for admission longer than that is a stream already, and
// its refusal an event.
func TestRefusedAfterPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		slow := slowSubmit{newFake(), 15 * time.Second}
		server := api.New(slow, api.Options{Log: quiet, NewID: func() string { return "x" }})
		server.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v1/chat/completions", strings.NewReader(`{`+hi+`,"stream":true}`)))
		want := ": ping\n\n" + `data: {"error":{"message":"server is shutting down","type":"server_error","param":null,"code":"draining"}}` + "\n\n"
		if w.Code != 200 || w.Body.String() != want {
			t.Errorf("got %d %s, want 200 %s", w.Code, w.Body, want)
		}
	})
}

// slowSubmit refuses every turn after a while.
type slowSubmit struct {
	*fake
	after time.Duration
}

func (s slowSubmit) Submit(context.Context, engine.Request) (api.Stream, error) {
	time.Sleep(s.after)
	return nil, engine.ErrDraining
}

// A bug costs one request: 500, the stack in the log, the process lives.
func TestPanic(t *testing.T) {
	b := newBench(t)
	b.fake.panics = true
	for _, stream := range []string{"false", "true"} {
		got := b.chat(`{` + hi + `,"stream":` + stream + `}`)
		if _, _, code := b.error(got); got.status != 500 || code != "internal_error" || strings.Contains(got.body, "bug") {
			t.Errorf("stream %s: got %d %s", stream, got.status, got.body)
		}
	}
	if log := b.log.String(); strings.Count(log, "panic: the fake has a bug") != 2 || !strings.Contains(log, "fake_test.go") {
		t.Errorf("the log does not say where: %s", log)
	}
	b.fake.panics = false
	b.alive()
}
