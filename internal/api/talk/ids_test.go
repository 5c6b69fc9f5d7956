package talk

import (
	"strings"
	"testing"

	"mneme/internal/chat"
)

// strict is a template that refuses ids as Mistral's do.
const strict = `{%- for m in messages %}{%- if m.tool_calls is defined %}{%- for c in m.tool_calls %}{%- if not c.id is defined or c.id|length != 9 %}{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}{{- "[TOOL_CALLS]" + c.id }}{%- endfor %}{%- elif m.role == 'tool' %}{%- if m.tool_call_id|length != 9 %}{{- raise_exception("no") }}{%- endif %}{{- "[RESULT]" + m.tool_call_id }}{%- else %}{{- m.content }}{%- endif %}{%- endfor %}`

// A template that wants ids of 9 letters and digits has them: such as were sent,
// others by their hash, a call's and its result's alike. Other templates have what
// was sent, and the request stays as it was.
func TestNine(t *testing.T) {
	messages := func(id string) []chat.Message {
		return []chat.Message{
			{Role: "user", Content: "hi"},
			{Role: "assistant", ToolCalls: []chat.ToolCall{{ID: id, Function: chat.Function{Name: "look"}}}},
			{Role: "tool", ToolCallID: id, Content: "fog"},
		}
	}
	for id, want := range map[string]string{"toolu_5f0c9a": "K4hnZhrww", "call_1": "", "aB3456789": "aB3456789", "": ""} {
		room, _ := newRoom(t, strict)
		list := messages(id)
		opened, err := room.Open(t.Context(), Request{Messages: list})
		if err != nil {
			t.Errorf("%q: %v", id, err)
			continue
		}
		call, result, _ := strings.Cut(strings.TrimPrefix(opened.Prompt, "hi[TOOL_CALLS]"), "[RESULT]")
		if call != result || !isNine.MatchString(call) || want != "" && call != want {
			t.Errorf("%q is %q, its result's %q, want %q", id, call, result, want)
		}
		if list[1].ToolCalls[0].ID != id || list[2].ToolCallID != id {
			t.Errorf("%q: the request was changed to %+v", id, list)
		}
	}
	loose, _ := newRoom(t, strings.ReplaceAll(strict, "9", "6"))
	if opened, err := loose.Open(t.Context(), Request{Messages: messages("call_1")}); err != nil || opened.Prompt != "hi[TOOL_CALLS]call_1[RESULT]call_1" {
		t.Errorf("%v, %v", opened, err)
	}
}
