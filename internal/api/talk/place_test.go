package talk

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"mneme/internal/chat"
)

// A place in a conversation is found in its prompt, as the template spells it.
func TestBefore(t *testing.T) {
	said := "Look.\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {\"b\":  1}}\n</tool_call>"
	q := Request{
		Tools: []Tool{weather, {Name: "stop", Parameters: json.RawMessage(`{}`)}},
		Messages: []chat.Message{
			{Role: "system", Content: "Be brief.\nBe kind."},
			{Role: "user", Content: "user"},
			{Role: "assistant", Content: "Look.", ToolCalls: []chat.ToolCall{{Function: chat.Function{Name: "stop", Arguments: json.RawMessage(`{"b":1}`)}}}},
			{Role: "tool", Content: "Sun"},
			{Role: "user", Content: "user"},
		},
		Said: func() []string { return []string{said} },
	}
	for _, source := range []string{"", `{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}[assistant]`} {
		room, _ := newRoom(t, source)
		talk, err := room.Open(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			at   Place
			ends string // what comes before the place
		}{
			{Place{Index: 0, Bytes: len("Be brief.")}, "Be brief."},
			{Place{Index: 1, Bytes: 2}, "us"},
			{Place{Index: 2, Bytes: len("Look.")}, "Look."},
			{Place{Index: 3, Bytes: 3}, "Sun"},
			{Place{Index: 4, Bytes: 4}, "user"},
			{Place{InTools: true, Index: 0}, `"required":["city"]}}}`},
			{Place{InTools: true, Index: 1}, `"parameters":{}}}`},
		} {
			n, err := room.Before(context.Background(), q, talk.Prompt, c.at)
			before := strings.ReplaceAll(strings.ReplaceAll(talk.Prompt[:n], ": ", ":"), ", ", ",")
			if err != nil || !strings.HasSuffix(strings.TrimRight(before, ",\n"), c.ends) {
				t.Errorf("%+v: %q, %v, want it to end %q", c.at, talk.Prompt[:n], err, c.ends)
			}
		}
		if n, err := room.Before(context.Background(), q, talk.Prompt, Place{Index: 5}); err != nil || n != len(talk.Prompt) {
			t.Errorf("behind all messages: %d of %d, %v", n, len(talk.Prompt), err)
		}
	}
}
