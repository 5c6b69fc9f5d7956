package reply

import (
	"bytes"
	"encoding/json"
	"strings"
)

// closed reads a call and then the marker that ends it, which may be missing.
type closed struct {
	inner reader
	end   string
	over  bool
}

func tagged(inner func() reader, end string) func() reader {
	return func() reader { return &closed{inner: inner(), end: end} }
}

func (r *closed) read(s string, emit func(Kind, string)) (used int, st status) {
	if !r.over {
		used, st = r.inner.read(s, emit)
		if st != over {
			return used, st
		}
		r.over = true
	}
	rest := s[used:]
	at := blank(rest)
	switch {
	case strings.HasPrefix(rest[at:], r.end):
		return used + at + len(r.end), over
	case strings.HasPrefix(r.end, rest[at:]):
		return used, more
	}
	return used, over
}

func (r *closed) only(names map[string]bool) {
	if inner, ok := r.inner.(picky); ok {
		inner.only(names)
	}
}

func (r *closed) unread() string { return unread(r.inner) }

// named reads a name, what stands between, and arguments.
type named struct {
	name  func(s string) (name string, used int, st status)
	args  *value
	text  string // read and not used, before the arguments
	begun bool
}

func (r *named) read(s string, emit func(Kind, string)) (used int, st status) {
	if !r.begun {
		r.text += s
		name, n, st := r.name(r.text)
		switch {
		case st == broken:
			return len(s), broken
		case st == more:
			return len(s), more
		}
		emit(CallBegin, name)
		before := len(r.text) - len(s) // of earlier pushes
		used, r.begun, r.args, r.text = n-before, true, &value{}, ""
	}
	n, done := r.args.take(s[used:])
	emit(Arguments, s[used:used+n])
	if used += n; !done {
		return used, more
	}
	emit(CallEnd, "")
	return used, over
}

// nameUntil reads a name up to the brace that begins the arguments; marks are
// what may stand between, each with what follows it up to the next.
func nameUntil(marks ...string) func(string) (string, int, status) {
	return func(s string) (string, int, status) {
		brace := strings.IndexByte(s, '{')
		if brace < 0 {
			if len(s) > maxName {
				return "", 0, broken
			}
			return "", 0, more
		}
		name := s[:brace]
		if at, _ := cut(name, marks); at >= 0 {
			name = name[:at]
		}
		if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(name, " \n\"") {
			return "", 0, broken
		}
		return name, brace, over
	}
}

// maxName bounds what is held back while a name is awaited.
const maxName = 512

func newHarmonyCall() reader { return &named{name: nameUntil(" ", "<|")} }

// mistralCall is a list of JSON calls, or a name and arguments.
type mistralCall struct{ inner reader }

func newMistralCall() reader { return &mistralCall{} }

func (r *mistralCall) read(s string, emit func(Kind, string)) (used int, st status) {
	if r.inner == nil {
		used = blank(s)
		switch rest := s[used:]; {
		case rest == "":
			return used, more
		case rest[0] == '[' || rest[0] == '{':
			r.inner = newJSONCalls()
		default:
			r.inner = &named{name: nameUntil("[CALL_ID]", "[ARGS]")}
		}
	}
	n, st := r.inner.read(s[used:], emit)
	return used + n, st
}

func (r *mistralCall) unread() string { return unread(r.inner) }

// DeepSeek's calls: function<sep>name, a line break and a fenced block; or
// name<sep>arguments.
const (
	deepseekSep = "<｜tool▁sep｜>"
	deepseekEnd = "<｜tool▁call▁end｜>"
)

func newDeepSeekCall() reader {
	return &closed{inner: &fenced{named{name: deepseekName}}, end: deepseekEnd}
}

func deepseekName(s string) (string, int, status) {
	name, used, st := nameUntil(deepseekSep)(s)
	_, behind, found := strings.Cut(s[:used], deepseekSep)
	if st != over || name != "function" || !found {
		return name, used, st
	}
	name, _, _ = strings.Cut(behind, "\n")
	if name = strings.TrimSpace(name); name == "" {
		return "", 0, broken
	}
	return name, used, over
}

// fenced reads a call whose arguments may stand in a fenced block.
type fenced struct{ named }

func (r *fenced) read(s string, emit func(Kind, string)) (used int, st status) {
	if !r.begun || r.args != nil {
		used, st = r.named.read(s, emit)
		if st != over {
			return used, st
		}
		r.args = nil
	}
	rest := s[used:]
	at := blank(rest)
	switch fence := "```"; {
	case strings.HasPrefix(rest[at:], fence):
		return used + at + len(fence), over
	case strings.HasPrefix(fence, rest[at:]):
		return used, more
	}
	return used, over
}

// xmlCall is <function=name><parameter=key>value</parameter>...</function>. It
// is given out as a whole: what a value is, is known at its end.
type xmlCall struct{ text []byte }

func newXMLCall() reader { return &xmlCall{} }

const xmlEnd = "</function>"

func (r *xmlCall) read(s string, emit func(Kind, string)) (used int, st status) {
	before := len(r.text)
	r.text = append(r.text, s...)
	start := bytes.TrimLeft(r.text[:min(len(r.text), maxName)], " \n")
	if n := min(len(start), len("<function=")); string(start[:n]) != "<function="[:n] {
		return len(s), broken
	}
	from := max(0, before-len(xmlEnd))
	at := bytes.Index(r.text[from:], []byte(xmlEnd))
	if at < 0 {
		return len(s), more
	}
	at += from
	name, arguments, ok := xmlArguments(strings.TrimLeft(string(r.text[:at]), " \n"))
	if !ok {
		return len(s), broken
	}
	emit(CallBegin, name)
	emit(Arguments, arguments)
	emit(CallEnd, "")
	return at + len(xmlEnd) - before, over
}

// xmlArguments makes JSON of a call's parameters, in their order. A value that
// is JSON and no string stays what it is, any other is a string.
func xmlArguments(s string) (name, arguments string, ok bool) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(s, "<function="), ">")
	var out strings.Builder
	for ok {
		_, after, found := strings.Cut(rest, "<parameter=")
		if !found {
			return strings.TrimSpace(name), "{" + out.String() + "}", strings.TrimSpace(name) != ""
		}
		key, body, opened := strings.Cut(after, ">")
		value, next, ended := strings.Cut(body, "</parameter>")
		ok, rest = opened && ended, next
		if out.Len() > 0 {
			out.WriteString(", ")
		}
		out.WriteString(quoted(key) + ": " + asJSON(strings.TrimSuffix(strings.TrimPrefix(value, "\n"), "\n")))
	}
	return "", "", false
}

func asJSON(s string) string {
	if t := strings.TrimSpace(s); t != "" && t[0] != '"' && json.Valid([]byte(t)) {
		return t
	}
	return quoted(s)
}

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // strings always can be
	return strings.TrimSuffix(b.String(), "\n")
}
