package talk

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"mneme/internal/chat"
	"mneme/internal/chat/reply"
	"mneme/internal/gguf"
	"mneme/internal/sample"
	"mneme/internal/testkit"
	"mneme/internal/token"
)

// qwen is a real template and vocabulary.
var qwen = sync.OnceValues(func() (string, *token.Tokenizer) {
	f, err := gguf.Open(testkit.Qwen(failing{}))
	if err != nil {
		panic(err)
	}
	source, _ := f.String("tokenizer.chat_template")
	vocab, err := token.FromMetadata(f)
	if err != nil {
		panic(err)
	}
	tok, err := token.New(vocab)
	if err != nil {
		panic(err)
	}
	return source, tok
})

// failing is a testing.TB where there is no test yet.
type failing struct{ testing.TB }

func (failing) Helper()           {}
func (failing) Fatal(args ...any) { panic(args) }

func newRoom(t testing.TB, source string) (*Room, *token.Tokenizer) {
	t.Helper()
	template, tok := qwen()
	if source != "" {
		template = source
	}
	compiled, err := chat.Compile(template, chat.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return NewRoom(compiled, tok), tok
}

var weather = Tool{Name: "get_weather", Description: "Weather of a city", Parameters: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string","maxLength":12},"days":{"type":"integer","minimum":1,"maximum":7}},"required":["city"]}`)}

// babble says what a model without sense would say within a constraint.
func babble(t *testing.T, c sample.Constraint, tok *token.Tokenizer, rng *rand.Rand) (said string, done bool) {
	t.Helper()
	stream := tok.NewStream()
	for range 400 {
		mask, n := c.Mask(), 0
		chosen := token.None
		for id := range token.ID(tok.Size()) {
			if mask[id>>6]>>(id&63)&1 == 0 {
				continue
			}
			if n++; rng.IntN(n) == 0 || tok.IsEnd(id) && rng.IntN(3) == 0 {
				chosen = id
			}
		}
		if chosen == token.None {
			t.Fatalf("nothing may follow %q", said)
		}
		c.Take(chosen)
		if tok.IsEnd(chosen) {
			return said, true
		}
		said += stream.Push(chosen)
	}
	return said, false
}

// Whatever a model says under a required or named choice is calls, of the tools
// that were offered, with arguments of their schema.
func TestRequiredCalls(t *testing.T) {
	room, tok := newRoom(t, "")
	other := Tool{Name: "stop"}
	rng := rand.New(rand.NewPCG(5, 6))
	for _, choice := range []Choice{{Mode: Required}, {Mode: Required, Single: true}, {Mode: Named, Name: "get_weather"}} {
		finished := 0
		for range 3 {
			talk, err := room.Open(context.Background(), Request{Messages: []chat.Message{{Role: "user", Content: "hi"}}, Tools: []Tool{weather, other}, Choice: choice})
			if err != nil {
				t.Fatal(err)
			}
			said, done := babble(t, talk.Within, tok, rng)
			var got reply.Collector
			got.Add(talk.Push(said)...)
			got.Add(talk.Flush()...)
			if !done {
				continue
			}
			finished++
			if len(got.Calls) == 0 || strings.TrimSpace(got.Text.String()) != "" || choice.Single && len(got.Calls) > 1 {
				t.Fatalf("%+v: said %q: text %q, calls %+v", choice, said, got.Text.String(), got.Calls)
			}
			for _, c := range got.Calls {
				checkCall(t, said, c, choice)
			}
		}
		if finished == 0 {
			t.Errorf("%+v: nothing was said to its end", choice)
		}
	}
}

func checkCall(t *testing.T, said string, c reply.Call, choice Choice) {
	t.Helper()
	var a struct {
		City *string
		Days *int
	}
	if err := json.Unmarshal([]byte(c.Arguments), &a); err != nil || !c.Whole {
		t.Fatalf("said %q: call %+v: %v", said, c, err)
	}
	switch {
	case c.Name == "get_weather" && (a.City == nil || len([]rune(*a.City)) > 12 || a.Days != nil && (*a.Days < 1 || *a.Days > 7)):
		t.Errorf("said %q: arguments are not of the schema", said)
	case c.Name != "get_weather" && (choice.Mode == Named || c.Name != "stop"):
		t.Errorf("said %q: calls %q", said, c.Name)
	}
}

// What the model said is rendered as it said it, when a client sends the same in
// other words; other words that say something else stay.
func TestReplay(t *testing.T) {
	room, _ := newRoom(t, "")
	said := "Let me look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":  \"Paris\", \"days\": 2}}\n</tool_call>"
	message := func(arguments string) chat.Message {
		return chat.Message{Role: "assistant", Content: "Let me look.", ToolCalls: []chat.ToolCall{{ID: "call_1", Function: chat.Function{Name: "get_weather", Arguments: json.RawMessage(arguments)}}}}
	}
	open := func(m chat.Message, known ...string) string {
		talk, err := room.Open(context.Background(), Request{
			Messages: []chat.Message{{Role: "user", Content: "Weather?"}, m, {Role: "tool", Content: "Sun", ToolCallID: "call_1"}},
			Tools:    []Tool{weather}, Said: func() []string { return known },
		})
		if err != nil {
			t.Fatal(err)
		}
		return talk.Prompt
	}
	asSaid := "<|im_start|>assistant\n" + said + "<|im_end|>\n"
	for _, c := range []struct {
		arguments string
		want      bool
	}{
		{`"{\"days\":2,\"city\":\"Paris\"}"`, true},
		{`{"city":"Paris","days":2}`, true},
		{`{"city":"Paris","days":3}`, false},
	} {
		if got := strings.Contains(open(message(c.arguments), "other", said), asSaid); got != c.want {
			t.Errorf("%s is rendered as it was said: %v", c.arguments, got)
		}
	}
	if got := open(message(`{"city":"Paris","days":2}`)); strings.Contains(got, asSaid) || !strings.Contains(got, `{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}`) {
		t.Errorf("with nothing known: %q", got)
	}
}

// A template that knows no tools is told of them; one that refuses a
// conversation gets it in simpler form.
func TestSimpleTemplates(t *testing.T) {
	strict := `{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('system must come first') }}{% endif %}{% if loop.index0 > 1 and messages[loop.index0 - 1].role == m.role %}{{ raise_exception('by turns') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]`
	room, _ := newRoom(t, strict)
	open := func(q Request) string {
		t.Helper()
		talk, err := room.Open(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		return talk.Prompt
	}
	got := open(Request{Messages: []chat.Message{{Role: "developer", Content: "Be brief."}, {Role: "user", Content: "a"}, {Role: "system", Content: "b"}, {Role: "user", Content: "c"}}})
	if want := "[system]Be brief.[user]a\n\n<system>\nb\n</system>\n\nc[assistant]"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = open(Request{Tools: []Tool{{Name: "f"}}, Messages: []chat.Message{
		{Role: "user", Content: "go"},
		{Role: "assistant", ToolCalls: []chat.ToolCall{{Function: chat.Function{Name: "f", Arguments: json.RawMessage(`"{\"a\":1}"`)}}}},
		{Role: "tool", Content: "done"},
	}})
	want := "[system]" + toolWords + `[{"type":"function","function":{"name":"f"}}]` + callWords +
		"[user]go[assistant]<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>[user]<tool_response>\ndone\n</tool_response>[assistant]"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestContradictions(t *testing.T) {
	room, _ := newRoom(t, "")
	user := []chat.Message{{Role: "user", Content: "hi"}}
	for _, c := range []struct {
		q     Request
		field string
	}{
		{Request{Messages: user, Choice: Choice{Mode: Required}}, "tool_choice"},
		{Request{Messages: user, Tools: []Tool{weather}, Choice: Choice{Mode: Named, Name: "g"}}, "tool_choice"},
		{Request{Messages: user, Tools: []Tool{weather}, Choice: Choice{Mode: Required}, Format: Format{Shape: JSONObject}}, "response_format"},
	} {
		_, err := room.Open(context.Background(), c.q)
		var bad *Error
		if !errors.As(err, &bad) || bad.Field != c.field {
			t.Errorf("%+v: %v", c.q.Choice, err)
		}
	}
}

// An answer that must be JSON is.
func TestFormats(t *testing.T) {
	room, tok := newRoom(t, "")
	rng := rand.New(rand.NewPCG(8, 9))
	for _, f := range []Format{{Shape: JSONObject}, {Shape: JSONSchema, Strict: true, Schema: json.RawMessage(`{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}`)}} {
		talk, err := room.Open(context.Background(), Request{Messages: []chat.Message{{Role: "user", Content: "hi"}}, Format: f})
		if err != nil {
			t.Fatal(err)
		}
		said, done := babble(t, talk.Within, tok, rng)
		var v map[string]any
		if err := json.Unmarshal([]byte(said), &v); done && err != nil {
			t.Errorf("%+v: %q: %v", f.Shape, said, err)
		}
		if f.Shape == JSONSchema && (!done || len(v) != 1) {
			t.Errorf("said %q, done %v", said, done)
		}
	}
}
