package openai_test

import (
	"errors"
	"testing"

	"mneme/internal/api/fields"
	"mneme/internal/api/openai"
)

// Whatever comes, decoding ends with a request or with a 400 that says why.
func FuzzDecodeChat(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":"hi"}],"temperature":0.5,"stop":["a"],"logit_bias":{"3":1}}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"messages":[{"role":"user","content":"hi"}],"logprobs":true,"top_logprobs":5,"n":1,"max_tokens":1e1}`,
		`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"x"}],
			"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}}}`,
		`{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{}}},"n":2,"chat_template_kwargs":{"a":1}}`,
		`{"a":[{"b":[}]}`, `{"messages":NaN}`, `[[[`, "\xff", `{}x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := openai.DecodeChat(body, 100)
		var e *fields.Error
		switch {
		case err == nil:
			if len(c.Talk.Messages) == 0 || c.N < 1 || c.N > 8 || c.Sampling.Check() != nil || c.MaxTokens < 0 {
				t.Errorf("accepted %q as %+v", body, c)
			}
		case !errors.As(err, &e) || e.Message == "":
			t.Errorf("refused %q with %#v", body, err)
		}
	})
}

func FuzzDecodeText(f *testing.F) {
	for _, seed := range []string{
		`{"prompt":"hi","temperature":0.5,"stop":["a"],"echo":true,"logprobs":5}`,
		`{"prompt":[1,2,3],"max_tokens":0,"echo":true,"logprobs":0,"stream":true}`,
		`{"prompt":["a",[1],[]],"n":1,"best_of":1,"suffix":""}`,
		`{"prompt":[[1,2],[3.0]],"logit_bias":{"3":1}}`, `{"prompt":[]}`, `{"prompt":[1,"a"]}`, `[[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := openai.DecodeText(body, 100)
		var e *fields.Error
		switch {
		case err == nil:
			if n := len(c.Prompts); n == 0 || n > 128 || c.Sampling.Check() != nil || c.MaxTokens < 0 || c.Silent != (c.MaxTokens == 0) || c.Logprobs != (c.Sampling.Logprobs >= 0) {
				t.Errorf("accepted %q as %+v", body, c)
			}
		case !errors.As(err, &e) || e.Message == "":
			t.Errorf("refused %q with %#v", body, err)
		}
	})
}
