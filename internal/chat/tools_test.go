package chat_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"mneme/internal/chat"
	"mneme/internal/testkit"
)

func qwenFile(t *testing.T) string { return testkit.Qwen(t) }

const calls = `{%- for m in messages %}{{ m.role }}{% if m.tool_call_id is defined %}({{ m.tool_call_id }}){% endif %}
{%- for c in m.tool_calls %} {{ c.id }} {{ c.type }} {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %};{% endfor %}`

// Arguments come as JSON or as the text of some; keys keep their order.
func TestToolCalls(t *testing.T) {
	call := func(arguments string) chat.ToolCall {
		return chat.ToolCall{ID: "c1", Function: chat.Function{Name: "f", Arguments: json.RawMessage(arguments)}}
	}
	for arguments, want := range map[string]string{
		`{"z": 1.0, "a": [true, null, 12345678901]}`: `{"z": 1.0, "a": [true, null, 12345678901]}`,
		`"{\"z\": 1, \"a\": \"<é>\"}"`:               `{"z": 1, "a": "<é>"}`,
		`"no JSON"`:                                  `"no JSON"`,
		`"[1]"`:                                      `"[1]"`,
		``:                                           `{}`,
	} {
		got, err := compile(t, calls).Render([]chat.Message{
			{Role: "assistant", ToolCalls: []chat.ToolCall{call(arguments)}}, {Role: "tool", ToolCallID: "c1"},
		}, false)
		if want = "assistant c1 function f " + want + ";tool(c1);"; err != nil || got != want {
			t.Errorf("%s: %q (error %v), want %q", arguments, got, err, want)
		}
	}
	_, err := compile(t, calls).Render([]chat.Message{{Role: "assistant", ToolCalls: []chat.ToolCall{call("{")}}}, false)
	if want := "chat: message 0: tool call 0: arguments: JSON ends too early"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestTools(t *testing.T) {
	template := compile(t, "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% else %}none{% endif %}{{ thinking }}")
	for tools, want := range map[string]string{
		"":                       "none1.5",
		"null":                   "none1.5",
		"[]":                     "none1.5",
		`[{"b": 1, "a": {}}, 2]`: `{"b": 1, "a": {}}21.5`,
		"{}":                     "chat: tools: not a list",
		"[1":                     "chat: tools: JSON ends too early",
		"[1] [2]":                "chat: tools: more than one JSON value",
		strings.Repeat("[", 60):  "chat: tools: JSON is nested deeper than 50",
	} {
		got, err := template.RenderContext(t.Context(), chat.Request{Tools: json.RawMessage(tools), Variables: map[string]json.RawMessage{"thinking": json.RawMessage("1.5")}})
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", tools, got, want)
		}
	}
	_, err := template.RenderContext(t.Context(), chat.Request{Variables: map[string]json.RawMessage{"messages": json.RawMessage("1")}})
	if want := "chat: variable messages is the template's own"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// Our own templates, for files without one.
func TestBuiltin(t *testing.T) {
	user, system := chat.Message{Role: "user", Content: " Hi "}, chat.Message{Role: "system", Content: "Be brief."}
	answer := chat.Message{Role: "assistant", Content: "Yes?"}
	for _, c := range []struct {
		name string
		q    chat.Request
		want string
	}{
		{"chatml", chat.Request{Messages: []chat.Message{system, user}, AddGenerationPrompt: true},
			"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"},
		{"gemma", chat.Request{Messages: []chat.Message{system, user, answer, user}, AddGenerationPrompt: true},
			"<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"},
		{"gemma", chat.Request{Messages: []chat.Message{user}}, "<s><start_of_turn>user\nHi<end_of_turn>\n"},
		{"gemma", chat.Request{Messages: []chat.Message{answer}}, "refused: turns must alternate between user and assistant, and user begins"},
		{"gemma", chat.Request{Tools: json.RawMessage("[1]")}, "refused: the template gemma has no place for tools"},
		{"chatml", chat.Request{Tools: json.RawMessage("[1]")}, "refused: the template chatml has no place for tools"},
	} {
		source, ok := chat.Builtin(c.name)
		if !ok {
			t.Fatalf("no template %s", c.name)
		}
		got, err := compile(t, source).RenderContext(t.Context(), c.q)
		var refusal *chat.TemplateError
		if errors.As(err, &refusal) {
			got = "refused: " + refusal.Message
		}
		if got != c.want {
			t.Errorf("%s: %q (error %v), want %q", c.name, got, err, c.want)
		}
	}
	if _, ok := chat.Builtin("../builtin/gemma"); ok {
		t.Error("a path is no name")
	}
}
