package reply

import (
	"strings"
	"unicode/utf8"
)

// Syntax is the markup of a family of chat templates.
type Syntax struct {
	name    string
	markers []marker
	think   thinking
	calls   Spelling
}

// Spelling is how a call is written, and what a model must write to call.
type Spelling struct {
	Begin, End string    // around all calls
	Before     string    // the name
	Middle     string    // between name and arguments
	After      string    // the arguments
	Between    string    // two calls
	Parameter  [3]string // before, between and after a parameter's name and value; "" where arguments are JSON
}

// Spelling is how calls are written; empty where there are none.
func (s *Syntax) Spelling() Spelling { return s.calls }

// Thinking is what the reasoning is written between; "" where there is none.
func (s *Syntax) Thinking() (open, end string) {
	if s.think.open == "" {
		return "", ""
	}
	return s.think.open, s.think.close[0]
}

// Name is the family's.
func (s *Syntax) Name() string { return s.name }

// Calls tells whether tools can be called in it.
func (s *Syntax) Calls() bool {
	for i := range s.markers {
		if s.markers[i].read != nil {
			return true
		}
	}
	return false
}

// marker is a text that begins something.
type marker struct {
	open    string
	read    func() reader // of a call
	reasons bool          // it begins the reasoning
	trims   bool          // white space behind it is markup
	first   bool          // only at the reply's beginning
	bare    bool          // a call only if it is of a tool that was offered
}

// thinking is what the reasoning lies between.
type thinking struct {
	open  string
	close []string
}

// families in the order in which their signs are looked for.
var families = []struct {
	sign   string // in a template's source
	syntax *Syntax
}{
	{"<|channel|>", harmony},
	{"<｜tool▁calls▁begin｜>", deepseek},
	{"[TOOL_CALLS]", mistral},
	{"<function=", qwenXML},
	{"<tool_call>", hermes},
	{"<|python_tag|>", llama3},
	{`"parameters": dictionary of argument`, llama3},
}

var (
	hermes = &Syntax{name: "hermes", calls: Spelling{
		Before: "<tool_call>\n{\"name\": \"", Middle: "\", \"arguments\": ", After: "}\n</tool_call>", Between: "\n",
	}, markers: []marker{
		{open: "<tool_call>", read: tagged(newJSONCalls, "</tool_call>")},
		// Small models leave the tags out, or put the call into a fenced block.
		{open: "{", first: true, bare: true, read: newOpenedJSON},
		{open: "```json\n{", first: true, bare: true, read: tagged(newOpenedJSON, "```")},
	}}
	qwenXML = &Syntax{name: "qwen-xml", calls: Spelling{
		Before: "<tool_call>\n<function=", Middle: ">\n", After: "</function>\n</tool_call>", Between: "\n",
		Parameter: [3]string{"<parameter=", ">\n", "\n</parameter>\n"},
	}, markers: []marker{{open: "<tool_call>", read: tagged(newXMLCall, "</tool_call>")}}}
	mistral = &Syntax{name: "mistral", calls: Spelling{
		Begin: "[TOOL_CALLS][", Before: "{\"name\": \"", Middle: "\", \"arguments\": ", After: "}", Between: ", ", End: "]",
	}, markers: []marker{{open: "[TOOL_CALLS]", read: newMistralCall}}}
	llama3 = &Syntax{name: "llama3", calls: Spelling{
		Before: "{\"name\": \"", Middle: "\", \"parameters\": ", After: "}", Between: "; ",
	}, markers: []marker{{open: "<|python_tag|>", read: newJSONSeries}, {open: "{", first: true, read: newOpenedJSON}}}
	deepseek = &Syntax{name: "deepseek", calls: Spelling{
		Begin: "<｜tool▁calls▁begin｜>", Before: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", Middle: "\n```json\n", After: "\n```<｜tool▁call▁end｜>", Between: "\n", End: "<｜tool▁calls▁end｜>",
	}, markers: []marker{
		{open: "<｜tool▁calls▁begin｜>", trims: true}, {open: "<｜tool▁call▁begin｜>", read: newDeepSeekCall}, {open: "<｜tool▁calls▁end｜>", trims: true},
	}}
	harmony = &Syntax{name: "harmony", calls: Spelling{
		Before: "<|channel|>commentary to=functions.", Middle: " <|constrain|>json<|message|>", Between: "<|end|><|start|>assistant",
	}, think: thinking{open: "<|channel|>analysis<|message|>", close: []string{"<|end|>", "<|start|>assistant"}}, markers: []marker{
		{open: "<|channel|>analysis<|message|>", reasons: true},
		{open: "<|channel|>final<|message|>", trims: true}, {open: "<|start|>assistant", trims: true}, {open: "<|end|>", trims: true}, {open: "<|return|>"},
		{open: "<|channel|>commentary to=functions.", read: newHarmonyCall}, {open: "<|channel|>commentary<|message|>", trims: true},
		{open: " to=functions.", read: newHarmonyCall},
	}}
)

// Of finds the syntax that a chat template teaches, by the markup in its source.
// Templates that speak of no tools have none; those with <think> have reasoning.
func Of(template string) *Syntax {
	s := &Syntax{name: "plain"}
	for _, f := range families {
		if strings.Contains(template, f.sign) {
			s = f.syntax
			break
		}
	}
	if s.think.open == "" && strings.Contains(template, "<think>") {
		s = s.withThinking("<think>", "</think>")
	}
	return s
}

// Hermes is the syntax that a model is told when its template knows none.
func Hermes() *Syntax { return hermes }

func (s *Syntax) withThinking(open, end string) *Syntax {
	t := *s
	t.think = thinking{open, []string{end}}
	t.markers = append([]marker{{open: open, reasons: true}}, s.markers...)
	return &t
}

// WithoutCalls is the syntax of a reply that was offered no tools: what looks
// like a call is text.
func (s *Syntax) WithoutCalls() *Syntax {
	t := *s
	t.markers = nil
	for _, m := range s.markers {
		if m.read == nil {
			t.markers = append(t.markers, m)
		}
	}
	return &t
}

// Opened tells whether a rendered prompt ends within the reasoning.
func (s *Syntax) Opened(prompt string) bool {
	return s.think.open != "" && strings.HasSuffix(strings.TrimRight(prompt, " \n"), s.think.open)
}

// next finds the first marker in a text; said tells whether the reply has begun.
func (s *Syntax) next(text string, said bool) (at int, m *marker) {
	at = -1
	for i := range s.markers {
		k := &s.markers[i]
		j := k.find(text, said)
		if j >= 0 && (at < 0 || j < at || j == at && len(k.open) > len(m.open)) {
			at, m = j, k
		}
	}
	return at, m
}

func (k *marker) find(text string, said bool) int {
	if !k.first {
		return strings.Index(text, k.open)
	}
	at := len(text) - len(strings.TrimLeft(text, " \n\t"))
	if said || !strings.HasPrefix(text[at:], k.open) {
		return -1
	}
	return at
}

// undecided is how many bytes at the end of a text may begin a marker.
func (s *Syntax) undecided(text string, said bool) int {
	n := 0
	for i := range s.markers {
		k := &s.markers[i]
		if !k.first {
			n = max(n, overlap(text, k.open))
		} else if at := blank(text); !said && at < len(text) && strings.HasPrefix(k.open, text[at:]) {
			n = max(n, len(text)-at)
		}
	}
	return n
}

// overlap is the length of the longest end of a text that begins a marker.
func overlap(text, marker string) int {
	for n := min(len(text), len(marker)-1); n > 0; n-- {
		if text[len(text)-n:] == marker[:n] && utf8.RuneStart(text[len(text)-n]) {
			return n
		}
	}
	return 0
}

// ThinkingAs is the syntax with the reasoning of another.
func (s *Syntax) ThinkingAs(other *Syntax) *Syntax {
	if other.think.open == "" {
		return s
	}
	return s.withThinking(other.think.open, other.think.close[0])
}
