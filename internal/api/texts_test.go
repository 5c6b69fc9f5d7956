package api_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"mneme/internal/api"
	"mneme/internal/engine"
	"mneme/internal/sample"
	"mneme/internal/token"
)

func (b *bench) complete(body string, headers ...string) reply {
	b.t.Helper()
	return b.do("POST", "/v1/completions", body, headers...)
}

// textHead is what every legacy completion of these tests begins with.
const textHead = `{"id":"cmpl-f00d","object":"text_completion","created":1795431600,"model":"letters","system_fingerprint":"fp_0123456789ab",`

func usage(prompt, completion int) string {
	return fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":0}}`, prompt, completion, prompt+completion)
}

// A text, its ids, and lists of these are prompts; each has a choice.
func TestTextPrompts(t *testing.T) {
	ok := func(index string) string {
		return `{"text":"ok","index":` + index + `,"logprobs":null,"finish_reason":"stop"}`
	}
	for prompt, want := range map[string]string{
		`"hi"`:             textHead + `"choices":[` + ok("0") + `],` + usage(2, 3) + `}`,
		`[75,76]`:          textHead + `"choices":[` + ok("0") + `],` + usage(2, 3) + `}`,
		`["hi"]`:           textHead + `"choices":[` + ok("0") + `],` + usage(2, 3) + `}`,
		`[[75,76]]`:        textHead + `"choices":[` + ok("0") + `],` + usage(2, 3) + `}`,
		`["hi","you"]`:     textHead + `"choices":[` + ok("0") + `,` + ok("1") + `],` + usage(5, 6) + `}`,
		`[[75.0],"hi",""]`: textHead + `"choices":[` + ok("0") + `,` + ok("1") + `,` + ok("2") + `],` + usage(3, 9) + `}`,
	} {
		b := newBench(t)
		b.want(b.complete(`{"prompt":`+prompt+`}`), 200, want)
	}
}

// Everything a request may say reaches the engine, 16 tokens if it says nothing.
func TestTextReachesEngine(t *testing.T) {
	b := newBench(t)
	got := b.complete(`{"model":"letters","prompt":["a<|im_end|>"],"max_tokens":9,"temperature":0.5,"top_k":40,"seed":7,"stop":"x","ignore_eos":true,
		"logprobs":2,"n":1,"best_of":1,"suffix":"","user":null,"whatever":[1]}`, "X-Agent-ID: ada")
	b.complete(`{"prompt":[75,76],"seed":0}`)
	b.complete(`{"prompt":[75,76],"max_tokens":0,"seed":0}`)
	if got.status != 200 || got.header.Get("X-Agent-ID") != "ada" || !strings.Contains(b.get("/v1/agents/ada").body, `"turns":1`) {
		t.Fatalf("%d %s %v", got.status, got.body, got.header)
	}
	plain := sample.Defaults()
	for i, want := range []engine.Request{
		{
			Agent: "ada", Namespace: "default", Text: "a<|im_end|>", MaxTokens: 9, Stop: []string{"x"}, IgnoreEOS: true,
			Sampling: sample.Params{Temperature: 0.5, TopP: 1, TopK: 40, RepetitionPenalty: 1, Seed: 7, Logprobs: 2},
		},
		{Namespace: "default", Tokens: []token.ID{75, 76}, MaxTokens: 16, Sampling: plain},
		{Namespace: "default", Tokens: []token.ID{75, 76}, PromptOnly: true, Sampling: plain},
	} {
		if got := b.fake.requests[i]; !reflect.DeepEqual(got, want) {
			t.Errorf("request %d\ngot  %+v\nwant %+v", i, got, want)
		}
	}
}

// What evaluation harnesses send: the prompts' own logprobs, and one token more
// or none. Of the first token nothing is known.
func TestScoredPrompts(t *testing.T) {
	b := newBench(t)
	got := b.complete(`{"model":"letters","prompt":[[75,76],[82]],"max_tokens":1,"logprobs":1,"echo":true,"temperature":0,"seed":1234}`)
	b.want(got, 200, textHead+`"choices":[
		{"text":"hio","index":0,"logprobs":{"tokens":["h","i","o"],"token_logprobs":[null,-1,-0.25],
			"top_logprobs":[null,{"\n":-0.125,"i":-1},{"o":-0.25}],"text_offset":[0,1,2]},"finish_reason":"length"},
		{"text":"oo","index":1,"logprobs":{"tokens":["o","o"],"token_logprobs":[null,-0.25],
			"top_logprobs":[null,{"o":-0.25}],"text_offset":[0,1]},"finish_reason":"length"}],`+usage(3, 2)+`}`)
	b.want(b.complete(`{"prompt":"hi","max_tokens":0,"logprobs":2,"echo":true}`), 200, textHead+`"choices":[
		{"text":"hi","index":0,"logprobs":{"tokens":["h","i"],"token_logprobs":[null,-1],
			"top_logprobs":[null,{"\n":-0.125,"bytes:\\xc3":-9999,"i":-1}],"text_offset":[0,1]},"finish_reason":"length"}],`+usage(2, 0)+`}`)
	for i, want := range []engine.Request{
		{Namespace: "default", Tokens: []token.ID{75, 76}, MaxTokens: 1, Score: &engine.Score{Alternatives: 1}},
		{Namespace: "default", Tokens: []token.ID{82}, MaxTokens: 1, Score: &engine.Score{Alternatives: 1}},
		{Namespace: "default", Text: "hi", Tokens: []token.ID{75, 76}, PromptOnly: true, Score: &engine.Score{Alternatives: 2}},
	} {
		got := b.fake.requests[i]
		got.Sampling = sample.Params{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("request %d\ngot  %+v\nwant %+v", i, got, want)
		}
	}
}

// Offsets count characters, of which one may be two tokens; what is no character
// is spelled by its bytes.
func TestTextOffsets(t *testing.T) {
	for prompt, text := range map[string]string{
		`"é<|im_end|>x"`: "é<|im_end|>x", `[98,99,1,91]`: "é<|im_end|>x",
	} {
		b := newBench(t)
		b.fake.reply = "éo"
		got := b.complete(`{"prompt":` + prompt + `,"logprobs":0,"echo":true}`)
		b.want(got, 200, textHead+`"choices":[{"text":"`+text+`éo","index":0,"logprobs":{
			"tokens":["bytes:\\xc3","bytes:\\xa9","<|im_end|>","x","bytes:\\xc3","bytes:\\xa9","o","<|im_end|>"],
			"token_logprobs":[null,-1,-2,-3,-0.25,-0.25,-0.25,-0.25],
			"top_logprobs":[null,{"bytes:\\xa9":-1},{"<|im_end|>":-2},{"x":-3},{"bytes:\\xc3":-0.25},{"bytes:\\xa9":-0.25},{"o":-0.25},{"<|im_end|>":-0.25}],
			"text_offset":[0,0,1,11,12,12,13,14]},"finish_reason":"stop"}],`+usage(4, 4)+`}`)
	}
	b := newBench(t)
	got := b.complete(`{"prompt":[98],"echo":true,"max_tokens":1,"logprobs":0,"return_token_ids":true}`)
	b.want(got, 200, textHead+`"choices":[{"text":"`+"\ufffd"+`o","index":0,"logprobs":{"tokens":["bytes:\\xc3","o"],"token_logprobs":[null,-0.25],
		"top_logprobs":[null,{"o":-0.25}],"text_offset":[0,1]},"finish_reason":"length","token_ids":[82]}],`+usage(1, 1)+`,"prompt_token_ids":[98]}`)
}

// A prompt is echoed as it was given; ids are asked for at each choice when there
// are several.
func TestTextIDs(t *testing.T) {
	b := newBench(t)
	b.want(b.complete(`{"prompt":["h",[76]],"echo":true,"max_tokens":1,"return_token_ids":true}`), 200, textHead+`"choices":[
		{"text":"ho","index":0,"logprobs":null,"finish_reason":"length","token_ids":[82],"prompt_token_ids":[75]},
		{"text":"io","index":1,"logprobs":null,"finish_reason":"length","token_ids":[82],"prompt_token_ids":[76]}],`+usage(2, 2)+`}`)
}

func textEvents(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString("data: " + textHead + e + "}\n\n")
	}
	return b.String()
}

func TestTextStream(t *testing.T) {
	piece := func(index int, text, finish string) string {
		return fmt.Sprintf(`"choices":[{"text":%q,"index":%d,"logprobs":null,"finish_reason":%s}]`, text, index, finish)
	}
	b := newBench(t)
	want := textEvents(piece(0, "o", "null"), piece(0, "k", "null"), piece(0, "", `"stop"`)) + "data: [DONE]\n\n"
	if got := b.complete(`{"prompt":"hi","stream":true}`); got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	nothing := `,"usage":null`
	want = textEvents(
		piece(0, "hi", "null")+nothing, piece(0, "o", "null")+nothing, piece(0, "", `"length"`)+nothing,
		piece(1, "you", "null")+nothing, piece(1, "o", "null")+nothing, piece(1, "", `"length"`)+nothing,
		`"choices":[],`+usage(5, 2)) + "data: [DONE]\n\n"
	if got := b.complete(`{"prompt":["hi","you"],"stream":true,"stream_options":{"include_usage":true},"echo":true,"max_tokens":1}`); got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
}

// A prompt's logprobs are known at the end of a turn and sent first all the same.
func TestTextStreamScored(t *testing.T) {
	b := newBench(t)
	got := b.complete(`{"prompt":[75,76],"stream":true,"echo":true,"logprobs":0,"max_tokens":1,"return_token_ids":true}`)
	want := textEvents(
		`"choices":[{"text":"hi","index":0,"logprobs":{"tokens":["h","i"],"token_logprobs":[null,-1],"top_logprobs":[null,{"i":-1}],"text_offset":[0,1]},"finish_reason":null,"token_ids":[]}],"prompt_token_ids":[75,76]`,
		`"choices":[{"text":"o","index":0,"logprobs":{"tokens":["o"],"token_logprobs":[-0.25],"top_logprobs":[{"o":-0.25}],"text_offset":[2]},"finish_reason":null,"token_ids":[82]}]`,
		`"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}]`) + "data: [DONE]\n\n"
	if got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
}

func TestBadTexts(t *testing.T) {
	many := `["` + strings.Repeat(`a","`, 128) + `a"]`
	for _, c := range []struct{ members, param, say string }{
		{``, "prompt", "prompt is required"},
		{`"prompt":null`, "prompt", "prompt is required"},
		{`"prompt":7`, "prompt", "prompt must be a string or a list of token ids, not a number"},
		{`"prompt":{}`, "prompt", "prompt must be a string or a list of token ids, not an object"},
		{`"prompt":[]`, "prompt", "prompt must hold at least one prompt or token id"},
		{`"prompt":["a",7]`, "prompt[1]", "prompt[1] must be a string or a list of token ids, not a number"},
		{`"prompt":[1,"a"]`, "prompt[1]", "prompt[1] must be a whole number, not a string"},
		{`"prompt":[1,100]`, "prompt[1]", "prompt[1] must be a whole number from 0 to 99, not 100"},
		{`"prompt":["a",[1,-1]]`, "prompt[1][1]", "prompt[1][1] must be a whole number from 0 to 99, not -1"},
		{`"prompt":` + many, "prompt", "prompt may hold at most 128 prompts, not 129"},
		{`"prompt":"a","max_tokens":-1`, "max_tokens", "max_tokens must be a whole number from 0"},
		{`"prompt":"a","logprobs":21`, "logprobs", "logprobs must be a whole number from 0 to 20, not 21"},
		{`"prompt":"a","logprobs":true`, "logprobs", "logprobs must be a whole number, not a boolean"},
		{`"prompt":"a","echo":1`, "echo", "echo must be true or false"},
		{`"prompt":"a","n":2`, "n", "n must be 1"},
		{`"prompt":"a","best_of":2`, "best_of", "best_of must be 1"},
		{`"prompt":"a","suffix":"b"`, "suffix", "suffix must be absent or empty"},
		{`"prompt":"a","repetition_penalty":0`, "repetition_penalty", "repetition_penalty: 0 is not above 0"},
		{`"prompt":"a","stream_options":{}`, "stream_options", "allowed only when stream is true"},
		{`"prompt":"` + strings.Repeat("a", 1<<16) + `","echo":true,"logprobs":1`, "prompt", "maximum context length is 4096 tokens. However, your prompt resulted in at least"},
	} {
		b := newBench(t)
		got := b.complete(`{` + c.members + `}`)
		if message, param, _ := b.error(got); got.status != 400 || param != c.param || !strings.Contains(message, c.say) {
			t.Errorf("%.60s: %d %s, want %q about %s", c.members, got.status, got.body, c.say, c.param)
		}
		if len(b.fake.requests) != 0 {
			t.Errorf("%.60s reached the engine", c.members)
		}
		b.alive()
	}
	b := newBench(t)
	got := b.complete(`{"prompt":["a","b"]}`, "X-Agent-ID: ada")
	if message, param, _ := b.error(got); got.status != 400 || param != "prompt" || !strings.Contains(message, "must be one for a request with an agent") {
		t.Errorf("two prompts of one agent: %d %s", got.status, got.body)
	}
	if got := b.complete(`{"prompt":"a","model":"gpt-9"}`); got.status != 404 {
		t.Errorf("another model: %d %s", got.status, got.body)
	}
}

// What the engine refuses is about the prompt, or about the one of several.
func TestTextRefused(t *testing.T) {
	for prompt, param := range map[string]string{`"hi"`: "prompt", `["hi","you"]`: "prompt[0]"} {
		for _, stream := range []string{"false", "true"} {
			b := newBench(t)
			b.fake.refuse = &engine.ContextError{Tokens: 5000, Context: 4096}
			got := b.complete(`{"prompt":` + prompt + `,"stream":` + stream + `}`)
			message, at, code := b.error(got)
			if got.status != 400 || at != param || code != "context_length_exceeded" || !strings.Contains(message, "your "+param+" resulted in 5000 tokens") {
				t.Errorf("%s: %d %s", prompt, got.status, got.body)
			}
		}
	}
	b := newBench(t)
	b.fake.refuse = &engine.InputError{Field: "messages", Problem: "a word is too long"}
	if message, param, _ := b.error(b.complete(`{"prompt":"hi"}`)); param != "prompt" || message != "prompt: a word is too long" {
		t.Errorf("a text that does not encode: %s, about %s", message, param)
	}
	b.fake.refuse, b.fake.breaks = nil, errors.New("disk sda1 on fire")
	got := b.complete(`{"prompt":"hi","stream":true}`)
	if got.status != 200 || !strings.HasSuffix(got.body, `"code":"internal_error"}}`+"\n\n") || strings.Contains(got.body, "sda1") {
		t.Errorf("a stream that breaks: %d %s", got.status, got.body)
	}
}

// A base model has no template and needs none here. One log line has the sums of
// all prompts.
func TestTextOfBaseModel(t *testing.T) {
	b := newBenchWith(t, api.Options{})
	b.fake.bare = true
	if got := b.complete(`{"prompt":["hi","you"],"max_tokens":1}`); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	want := "route=/v1/completions status=200 prompt=5 cached=0 completion=2 start=uncached finish=length ttft_ms=40 total_ms=0\n"
	if got := b.log.String(); !strings.HasSuffix(got, want) {
		t.Errorf("the log has %s, want %s", got, want)
	}
	if got := b.get("/metrics").body; !strings.Contains(got, "\nmneme_prompt_tokens_computed_total 5\n") || !strings.Contains(got, `seconds_count{start="uncached"} 2`) {
		t.Errorf("the metrics do not count two turns: %s", got)
	}
}
