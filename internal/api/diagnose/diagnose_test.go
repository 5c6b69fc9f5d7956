package diagnose_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mneme/internal/api/diagnose"
	"mneme/internal/api/talk"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/engine/reuse"
)

// session is a conversation whose prompt is spelled plainly.
type session struct {
	model, system string
	tools         []talk.Tool
	messages      []chat.Message
	variables     map[string]json.RawMessage
	said          string
}

func first() session {
	return session{
		model: "m", system: "be kind", tools: []talk.Tool{{Name: "look"}, {Name: "go", Parameters: json.RawMessage(`{}`)}},
		messages: []chat.Message{{Role: "user", Content: "hi"}}, said: "<think>well</think>hello",
	}
}

// with is the session a turn later, and changed.
func (s session) with(answer string, change func(*session)) session {
	s.messages = append(s.messages[:len(s.messages):len(s.messages)], chat.Message{Role: "assistant", Content: answer}, chat.Message{Role: "user", Content: "more"})
	if change != nil {
		change(&s)
	}
	return s
}

func (s session) request() talk.Request {
	return talk.Request{Messages: append([]chat.Message{{Role: "system", Content: s.system}}, s.messages...), Tools: s.tools, Variables: s.variables}
}

func (s session) prompt() string {
	b := fmt.Sprint(s.system, s.tools, len(s.variables))
	for _, m := range s.messages {
		b += "\n" + m.Role + ":" + m.Content + m.Name
		for _, c := range m.ToolCalls {
			b += fmt.Sprintf("%+v", c)
		}
	}
	return b + "\nassistant:"
}

// asked is the session before its answer; cached of its 100 tokens were.
func (s session) asked(cached int) diagnose.Asked {
	return diagnose.Asked{Print: diagnose.Of(s.model, s.request()).Prompted(s.prompt()), Text: s.prompt(), Tokens: 100, Cached: cached}
}

// print is the session with its answer, of 80 tokens.
func (s session) print() diagnose.Print {
	a := s.asked(0)
	return a.Answered(a.Text, s.said, chat.Message{Role: "assistant", Content: strings.TrimPrefix(s.said, "<think>well</think>")}, 80)
}

// Each change has its reason; the first difference counts. Of 80 tokens that the
// earlier conversation had, 10 were reused.
func TestCompare(t *testing.T) {
	raw := "<think>well</think>hello"
	edit := func(i int, text string) func(*session) {
		return func(s *session) { s.messages[i].Content = text }
	}
	for _, c := range []struct {
		name    string
		now     session
		reason  diagnose.Reason
		message int
	}{
		{"goes on as it was said", first().with(raw, nil), diagnose.None, 0},
		{"the same again", first(), diagnose.None, 0},
		{"its beginning", session{model: "m", system: "be kind", tools: first().tools}, diagnose.None, 0},
		{"another model", first().with(raw, func(s *session) { s.model = "n" }), diagnose.ModelChanged, 0},
		{"another system prompt", first().with(raw, func(s *session) { s.system, s.tools = "be brief", nil }), diagnose.SystemChanged, 0},
		{"a tool less", first().with(raw, func(s *session) { s.tools = s.tools[:1] }), diagnose.ToolsChanged, 0},
		{"a tool described otherwise", first().with(raw, func(s *session) {
			s.tools = []talk.Tool{{Name: "look"}, {Name: "go", Parameters: json.RawMessage(`{ }`)}}
		}), diagnose.ToolsChanged, 0},
		{"tools in another order", first().with(raw, func(s *session) { s.tools = []talk.Tool{s.tools[1], s.tools[0]} }), diagnose.ToolsReordered, 0},
		{"the first message", first().with(raw, edit(0, "ho")), diagnose.HistoryEdited, 0},
		{"the answer", first().with("hullo", nil), diagnose.HistoryEdited, 1},
		{"the answer taken out", first().with(raw, func(s *session) { s.messages = []chat.Message{s.messages[0], s.messages[2]} }), diagnose.HistoryEdited, 1},
		{"reasoning stripped, white space trimmed", first().with(" hello\n", nil), diagnose.Rerendered, 0},
		{"a variable", first().with("hello", func(s *session) { s.variables = map[string]json.RawMessage{"enable_thinking": json.RawMessage("true")} }), diagnose.SettingsChanged, 0},
	} {
		got := diagnose.Compare(first().print(), c.now.asked(10))
		if want := (diagnose.Finding{Reason: c.reason, Message: c.message, Reusable: 80, Missed: 70}); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

// What a call says does not hang on how its arguments are written, nor on its id.
func TestCallsAreTheSame(t *testing.T) {
	call := func(id, arguments string) chat.Message {
		return chat.Message{Role: "assistant", ToolCalls: []chat.ToolCall{{ID: id, Function: chat.Function{Name: "go", Arguments: json.RawMessage(arguments)}}}}
	}
	s := first()
	before := s.asked(0).Answered(s.prompt(), "x", call("", `{"a": 1, "b": 2}`), 80)
	for arguments, want := range map[string]diagnose.Reason{
		`{"b":2,"a":1}`: diagnose.Rerendered, `"{\"b\":2, \"a\":1}"`: diagnose.Rerendered, `{"a":1,"b":3}`: diagnose.HistoryEdited,
	} {
		now := first()
		now.messages = append(now.messages, call("call_1", arguments), chat.Message{Role: "tool", Content: "fog", ToolCallID: "call_1"})
		if got := diagnose.Compare(before, now.asked(0)); got.Reason != want {
			t.Errorf("%s: %+v, want %s", arguments, got, want)
		}
	}
}

// A change of markup that cost less than a block is none; KV that was lost is told
// from KV that was never there.
func TestWeight(t *testing.T) {
	for _, c := range []struct {
		f      diagnose.Finding
		reason diagnose.Reason
		lost   bool
	}{
		{diagnose.Finding{Reason: diagnose.Rerendered, Missed: 64}, diagnose.None, false},
		{diagnose.Finding{Reason: diagnose.Rerendered, Missed: 65}, diagnose.Rerendered, false},
		{diagnose.Finding{Reason: diagnose.SettingsChanged, Missed: 3}, diagnose.None, false},
		{diagnose.Finding{Reason: diagnose.HistoryEdited, Missed: 3}, diagnose.HistoryEdited, false},
		{diagnose.Finding{Missed: 64}, diagnose.None, false},
		{diagnose.Finding{Missed: 65}, diagnose.None, true},
	} {
		if got := c.f.Slight(); got.Reason != c.reason || got.Lost() != c.lost {
			t.Errorf("%+v: %+v, lost %v", c.f, got, got.Lost())
		}
	}
}

// The engine's cause is the reason, but for a divergence: what changed is known
// better here.
func TestExplain(t *testing.T) {
	edited := diagnose.Finding{Reason: diagnose.HistoryEdited}
	for _, c := range []struct {
		report reuse.Report
		f      diagnose.Finding
		want   diagnose.Reason
	}{
		{reuse.Report{Prompt: 9, Diverged: -1}, diagnose.Finding{}, ""},
		{reuse.Report{Prompt: 9, Diverged: -1, Cause: reuse.Evicted}, edited, "evicted"},
		{reuse.Report{Prompt: 9, Diverged: 4, Cause: reuse.Diverged}, edited, diagnose.HistoryEdited},
		{reuse.Report{Prompt: 9, Diverged: 4, Cause: reuse.Diverged}, diagnose.Finding{Reason: diagnose.NotFound}, "prompt_diverged"},
		{reuse.Report{Prompt: 9, Diverged: 4, Cause: reuse.Diverged}, diagnose.Finding{}, "prompt_diverged"},
		{reuse.Report{Prompt: 9, Diverged: 9, Cause: reuse.Diverged}, diagnose.Finding{}, ""}, // the prompt ends within what was
		{reuse.Report{Prompt: 9, Diverged: -1, Cause: reuse.FirstTurn}, edited, "first_turn"},
	} {
		if got := diagnose.Explain(c.report, c.f); got != c.want {
			t.Errorf("%+v and %+v: %q, want %q", c.report, c.f, got, c.want)
		}
	}
}

// desk notes conversations in a log.
type desk struct{ diagnose.Log }

func (d *desk) note(ns engine.Namespace, answer string, agent engine.AgentID, turn int, s session) {
	a := s.asked(0)
	a.Print = s.print()
	d.Note(ns, diagnose.Key{Answer: answer, Agent: agent, Turn: turn}, a)
}

// reasons are those of an agent's turns from 1 on.
func (d *desk) reasons(ns engine.Namespace, agent engine.AgentID, turns int) (all []diagnose.Reason) {
	for n := range turns {
		all = append(all, d.Turn(ns, agent, n+1).Reason)
	}
	return all
}

// A log finds the latest 4,096 answers of a namespace, for nobody else.
func TestAnswers(t *testing.T) {
	var d desk
	d.note("a", "msg_1", "ada", 1, first())
	d.note("a", "msg_2", "ada", 2, first())
	d.note("b", "msg_3", "ada", 3, first())
	d.note("b", "", "", 0, first())
	for _, c := range []struct {
		ns     engine.Namespace
		answer string
		want   bool
	}{{"a", "msg_1", true}, {"a", "msg_2", true}, {"b", "msg_3", true}, {"b", "msg_1", false}, {"a", "msg_3", false}, {"c", "msg_1", false}, {"b", "", false}} {
		if _, got := d.Answer(c.ns, c.answer); got != c.want {
			t.Errorf("%s in %s: %v", c.answer, c.ns, got)
		}
	}
	for i := range 4095 {
		d.note("a", fmt.Sprint("chatcmpl-", i), "", 0, first())
	}
	_, gone := d.Answer("a", "msg_1")
	_, kept := d.Answer("a", "msg_2")
	if gone || !kept {
		t.Errorf("of 4,097 the first is there: %v; the second: %v", gone, kept)
	}
	d.Forget("a", "ada")
	_, kept = d.Answer("a", "msg_2")
	_, other := d.Answer("a", "chatcmpl-7")
	if kept || !other {
		t.Errorf("a deleted agent's answer is there: %v; another's: %v", kept, other)
	}
}

// A turn is compared with what its agent was asked before, also where it takes the
// place of that; an agent that was taken back is asked anew from there.
func TestTurns(t *testing.T) {
	const none, edited, unknown = diagnose.None, diagnose.HistoryEdited, diagnose.NotFound
	raw := first().said
	second := first().with(raw, nil)
	third := second.with(raw, nil)
	other := first().with("hullo", nil)
	var d desk
	check := func(when string, want ...diagnose.Reason) {
		t.Helper()
		if got := d.reasons("a", "ada", len(want)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	d.note("a", "1", "ada", 1, first())
	d.note("a", "2", "ada", 2, second)
	d.note("b", "3", "ada", 3, third)
	check("two turns", unknown, none, unknown)
	d.note("a", "3", "ada", 3, third)
	d.note("a", "4", "ada", 2, other)
	check("turn 2 again, edited", unknown, edited, unknown)
	d.RollBack("a", "ada", 1)
	d.note("a", "5", "ada", 2, second)
	check("rolled back", unknown, none, unknown)
	d.NoteOther("a", "ada", 3)
	d.note("a", "6", "ada", 4, third)
	check("behind a turn that was no conversation", unknown, none, unknown, unknown)
	d.note("a", "7", "ada", 5, other.with("x", nil))
	check("and behind that", unknown, none, unknown, unknown, edited)
	d.Forget("a", "ada")
	check("forgotten", unknown, unknown, unknown, unknown, unknown)
	if got := d.reasons("b", "ada", 3); got[2] != unknown {
		t.Errorf("compared with another's: %q", got)
	}
}
