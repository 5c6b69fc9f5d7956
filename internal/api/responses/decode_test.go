package responses_test

import (
	"encoding/json"
	"errors"
	"testing"

	"mneme/internal/api/fields"
	"mneme/internal/api/responses"
)

// Whatever comes, decoding ends with a request or with a 400 that says why; the
// input that is stored is a list.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"input":"hi","max_output_tokens":9,"store":false,"include":["reasoning.encrypted_content"],"metadata":{"a":"b"}}`,
		`{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"reasoning","encrypted_content":"mneme1.YQ"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
			{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"x"}]},{"type":"item_reference","id":"m"},{"type":"web_search_call"}]}`,
		`{"input":"x","tools":[{"type":"function","name":"f","parameters":{}},{"type":"web_search"}],"tool_choice":{"type":"function","name":"f"},"text":{"format":{"type":"json_schema","schema":{}}},"reasoning":{"effort":"low"}}`,
		`{"input":"x","conversation":{"id":"c"},"truncation":"auto"}`, `{"input":[[]]}`, `{"input":{}}`, `[[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := responses.Decode(body, 100)
		var e *fields.Error
		switch {
		case err == nil:
			var list []json.RawMessage
			if json.Unmarshal(r.Input, &list) != nil || len(r.Items) > len(list) || r.MaxTokens < 0 || r.Sampling.Check() != nil {
				t.Errorf("accepted %q as %+v", body, r)
			}
		case !errors.As(err, &e) || e.Message == "":
			t.Errorf("refused %q with %#v", body, err)
		}
	})
}
