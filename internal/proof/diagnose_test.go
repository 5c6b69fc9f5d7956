package proof

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"mneme/internal/vfs"
)

// helper is the script of an agent with so many tools, of about 200 bytes each,
// which for this model are tokens.
func helper(tools int) *script {
	c := &script{system: "You look after a small house. " + strings.Repeat("Be kind to all who come by. ", tools)}
	for i := range tools {
		c.tools = append(c.tools, tool{fmt.Sprint("tool_", i), fmt.Sprintf("Does what number %d does.", i)})
	}
	return c
}

const sessionTurns = 20

// An agent with 2,000 tokens of system prompt and tools takes twenty turns of 60 to
// 100 new tokens, in each dialect; every fifth one calls a tool. Of its prompts'
// tokens 96 % and more are cached after the first turn, by the ledger, though the
// server is started anew in the middle: then they come from disk.
func TestSession(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) { proveSession(t, d) })
	}
}

// ledger is what the turns of a session cost, after the first.
type ledger struct{ prompts, cached, first, last int }

func (l *ledger) enter(h heard) {
	if l.last = h.prompt; l.first == 0 {
		l.first = h.prompt
		return
	}
	l.prompts, l.cached = l.prompts+h.prompt, l.cached+h.cached
}

func proveSession(t *testing.T, d dialect) {
	s := serve(t, vfs.NewCrashable())
	c := helper(9)
	var sum ledger
	for turn := 1; turn <= sessionTurns; turn++ {
		again := turn == sessionTurns/2
		if again {
			must(t, s.house.close())
			s.house = s.open()
			s.restart()
		}
		if called := len(c.said) > 0 && c.last().name != ""; called {
			c.said = append(c.said, said{role: "tool", callID: c.last().callID, text: "Nobody."})
		} else {
			c.user(fmt.Sprintf("What is at the door now, the %dth time?", turn))
		}
		calls := turn%5 == 0
		got := d.ask(s, "ada", c, calls, "")
		if calls != (got.said.name != "") {
			t.Errorf("turn %d: it said %+v", turn, got.said)
		}
		c.said = append(c.said, got.said)
		sum.enter(got)
		report := s.cache("ada", turn)
		if report.Prompt != got.prompt || report.Cached != got.cached || report.Sources == nil || (report.Reason == "first_turn") != (turn == 1) {
			t.Errorf("turn %d: the ledger says %d of %d, the report %+v", turn, got.cached, got.prompt, report)
		} else if restored := report.Sources.Restored > 0; restored != again || turn > 1 && report.Reason != "" {
			t.Errorf("turn %d: %+v, sources %+v", turn, report, *report.Sources)
		}
	}
	share, fresh := float64(sum.cached)/float64(sum.prompts), (sum.last-sum.first)/(sessionTurns-1)
	t.Logf("a first prompt of %d tokens, %d more with each turn; of %d after it %d were cached, %.2f %%", sum.first, fresh, sum.prompts, sum.cached, 100*share)
	if share < 0.96 || sum.first < 2000 || fresh < 60 || fresh > 100 {
		t.Errorf("%.2f %% cached, want 96 %%, of prompts that begin with 2,000 tokens and grow by 60 to 100", 100*share)
	}
}

// change is what happens between two turns, and what is said of it: by the server,
// and in each vendor's own words.
type change struct {
	name      string
	happens   func(s *server, c *script)
	reason    string
	message   int // with history_edited
	anthropic string
	openai    string
}

var changes = []change{
	{"nothing", func(*server, *script) {}, "", 0, "", "cache_hit"},
	{"a message is edited", func(_ *server, c *script) { c.said[2].text = "And who sits on the stairs?" }, "history_edited", 2, "messages_changed", "input_changed"},
	{"the answer is edited", func(_ *server, c *script) { c.said[3].text = "Nobody." }, "history_edited", 3, "messages_changed", "input_changed"},
	{"tools in another order", func(_ *server, c *script) { c.tools[1], c.tools[2] = c.tools[2], c.tools[1] }, "tools_reordered", 0, "tools_changed", "tools_changed"},
	{"a tool is gone", func(_ *server, c *script) { c.tools = c.tools[1:] }, "tools_changed", 0, "tools_changed", "tools_changed"},
	{"another system prompt", func(_ *server, c *script) { c.system = "Today is Monday. " + c.system }, "system_changed", 0, "system_changed", "input_changed"},
	{"blocks are deleted", func(s *server, _ *script) { s.reopen(s.deleteBlocks) }, "evicted", 0, "", "unavailable"},
	{"a block is damaged", func(s *server, _ *script) { s.damage() }, "quarantined", 0, "", "unavailable"},
}

// Whatever spoils the cache between two turns is named, by the server and in the
// vendor's shape, and where it was.
func TestReasons(t *testing.T) {
	for _, d := range dialects {
		for _, c := range changes {
			t.Run(d.name+"/"+c.name, func(t *testing.T) { proveReason(t, d, c) })
		}
	}
}

func proveReason(t *testing.T, d dialect, happening change) {
	s := serve(t, vfs.NewCrashable())
	c := helper(5)
	c.user("Who is at the door?")
	first := d.ask(s, "ada", c, false, "")
	c.said = append(c.said, first.said)
	c.user("And who is on the stairs?")
	second := d.ask(s, "ada", c, false, first.id)
	c.said = append(c.said, second.said)
	c.user("And in the garden?")
	happening.happens(s, c)
	third := d.ask(s, "ada", c, false, second.id)

	want := diagnosisOf(d, happening)
	if got := second.diagnosis; got != diagnosisOf(d, changes[0]) {
		t.Errorf("before anything happened: %s", got)
	}
	if got := third.diagnosis; !strings.HasPrefix(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	report := s.cache("ada", s.turns("ada"))
	if report.Reason != happening.reason || (report.Message != nil) != (happening.reason == "history_edited") {
		t.Errorf("%+v, want %s", report, happening.reason)
	}
	if report.Message != nil && *report.Message != happening.message {
		t.Errorf("message %d, want %d", *report.Message, happening.message)
	}
	changed := !slices.Contains([]string{"", "evicted", "quarantined"}, happening.reason)
	if (report.Token != nil) != changed || changed && (report.Before == report.After || report.Cached > *report.Token) {
		t.Errorf("the first token that differs: %+v", report)
	}
	if whole := happening.reason == ""; whole != (third.cached > second.prompt) {
		t.Errorf("of %d tokens %d are cached", third.prompt, third.cached)
	}
	if got := d.ask(s, "eve", c, false, "msg_nobody").diagnosis; !strings.Contains(got, "_not_found") {
		t.Errorf("compared with what is not there: %s", got)
	}
}

// diagnosisOf is how a vendor's shape begins.
func diagnosisOf(d dialect, c change) string {
	switch {
	case d.name == "messages" && c.anthropic == "":
		return "null"
	case d.name == "messages":
		return `{"cache_miss_reason":{"type":"` + c.anthropic + `","cache_missed_input_tokens":`
	case c.openai == "cache_hit", c.openai == "unavailable":
		return `{"type":"` + c.openai + `"}`
	}
	return `{"type":"cache_miss","reason":"` + c.openai + `","comparison_reusable_tokens":`
}

// turns is how many an agent has: one that goes back to where a conversation differs
// loses those behind.
func (s *server) turns(agent string) int {
	var a struct{ Turns int }
	s.do("GET", "/v1/agents/"+agent, "", nil, &a)
	return a.Turns
}

// segments are the files with blocks.
func (s *server) segments() (paths []string) {
	for _, path := range filesOf(s.t, s.fs, dataDir) {
		if strings.HasSuffix(path, ".seg") {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		s.t.Fatal("no blocks are on disk")
	}
	return paths
}

// deleteBlocks removes what is sealed from the disk.
func (s *server) deleteBlocks() {
	for _, path := range s.segments() {
		must(s.t, s.fs.Remove(path))
	}
}

// damage turns bits over in the blocks of an agent that was written out.
func (s *server) damage() {
	s.t.Helper()
	must(s.t, s.house.Evict(s.t.Context(), namespace, "ada"))
	for _, path := range s.segments() {
		data, err := vfs.ReadFile(s.fs, path)
		must(s.t, err)
		file, err := s.fs.OpenFile(path, os.O_RDWR, 0)
		must(s.t, err)
		for at := 5000; at < len(data); at += 4096 {
			_, err := file.WriteAt([]byte{^data[at]}, int64(at))
			must(s.t, err)
		}
		must(s.t, file.Close())
	}
}
