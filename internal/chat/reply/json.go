package reply

import (
	"encoding/json"
	"strings"
)

// value follows one JSON value byte by byte, without checking more than where it
// ends.
type value struct {
	depth   int
	text    bool // in a string
	escaped bool
	bare    bool // a number, true, false or null at the top
}

// take gives how many bytes of s belong to the value, and whether it is over.
func (v *value) take(s string) (n int, over bool) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case v.text:
			v.inText(c)
			if !v.text && v.depth == 0 {
				return i + 1, true
			}
		case v.bare:
			if strings.IndexByte(" \n\t\r,}]", c) >= 0 {
				return i, true
			}
		case c == '"':
			v.text = true
		case c == '{' || c == '[':
			v.depth++
		case c == '}' || c == ']':
			if v.depth--; v.depth <= 0 {
				return i + 1, true
			}
		case v.depth == 0 && strings.IndexByte(" \n\t\r", c) < 0:
			v.bare = true
		}
	}
	return len(s), false
}

func (v *value) inText(c byte) {
	switch {
	case v.escaped:
		v.escaped = false
	case c == '\\':
		v.escaped = true
	case c == '"':
		v.text = false
	}
}

// blank is the white space a text begins with.
func blank(s string) int { return len(s) - len(strings.TrimLeft(s, " \n\t\r")) }

// jsonCalls reads calls as JSON: {"name": ..., "arguments": ...}, one, several
// after each other, or a list of them.
type jsonCalls struct {
	list   bool
	series bool // several may follow each other, with a semicolon between
	call   *jsonCall
	opened string // what the marker took of the first
	calls  int
	names  map[string]bool // nil: any
}

func (r *jsonCalls) only(names map[string]bool) { r.names = names }

func newJSONCalls() reader { return &jsonCalls{} }

func newJSONSeries() reader { return &jsonCalls{series: true} }

// newOpenedJSON is for calls whose marker is their first bracket.
func newOpenedJSON() reader { return &jsonCalls{series: true, opened: "{"} }

func (r *jsonCalls) read(s string, emit func(Kind, string)) (used int, st status) {
	for {
		if r.call == nil {
			n, st := r.between(s[used:])
			used += n
			if st != more || r.call == nil {
				return used, st
			}
		}
		n, st := r.call.read(s[used:], emit)
		used += n
		if st != over {
			return used, st
		}
		r.call = nil
		r.calls++
		if !r.list && !r.series {
			return used, over
		}
	}
}

func (r *jsonCalls) unread() string {
	if r.call == nil {
		return ""
	}
	return r.call.head
}

// between reads what stands before a call.
func (r *jsonCalls) between(s string) (used int, st status) {
	if r.opened != "" {
		r.call = &jsonCall{head: r.opened, names: r.names}
		r.opened = ""
		return 0, more
	}
	for used < len(s) {
		switch c := s[used]; {
		case strings.IndexByte(" \n\t\r", c) >= 0:
		case c == '{':
			r.call = &jsonCall{names: r.names}
			return used, more
		case c == '[' && !r.list:
			r.list = true
		case c == ',' && r.list, c == ';' && r.series:
		case c == ']' && r.list:
			return used + 1, over
		case r.calls > 0:
			return used, over
		default:
			return used, broken
		}
		used++
	}
	return used, more
}

// jsonCall reads one call. It waits for the name; from there on the arguments
// pass through as they come.
type jsonCall struct {
	names  map[string]bool // of tools; nil: any
	head   string          // what was read before the name and the arguments' beginning were known
	stream *value          // of the arguments
	whole  value           // of the call
	done   bool            // the arguments are
}

func (r *jsonCall) read(s string, emit func(Kind, string)) (used int, st status) {
	if r.head == "{" && r.whole.depth == 0 {
		r.whole.take(r.head)
	}
	if r.stream == nil {
		return r.readHead(s, emit)
	}
	if !r.done {
		used, r.done = r.stream.take(s)
		emit(Arguments, s[:used])
	}
	if !r.done {
		return used, more
	}
	n, closed := r.whole.take(s[used:])
	used += n
	if closed {
		emit(CallEnd, "")
		return used, over
	}
	return used, more
}

// shortHead is looked at for each piece that comes.
const shortHead = 256

// readHead looks for the name and where the arguments begin.
func (r *jsonCall) readHead(s string, emit func(Kind, string)) (used int, st status) {
	n, closed := r.whole.take(s)
	r.head += s[:n]
	if !closed && len(r.head) > shortHead && !strings.ContainsAny(s[:n], `{",:`) {
		return n, more // nothing is decided within a long text
	}
	name, at, st := callHead(r.head)
	switch {
	case st == more && closed:
		return n, r.atOnce(emit)
	case st != over:
		return n, st
	case !r.known(name):
		return n, broken
	}
	emit(CallBegin, name)
	r.stream = &value{}
	arguments := r.head[at:]
	m, done := r.stream.take(arguments)
	emit(Arguments, arguments[:m])
	if closed {
		emit(CallEnd, "")
		return n, over
	}
	if r.done = done; !done { // the stream follows the arguments, whole what comes after
		r.whole = value{depth: 1}
	}
	return n, more
}

func (r *jsonCall) known(name string) bool { return r.names == nil || r.names[name] }

// atOnce reads a call that is there as a whole.
func (r *jsonCall) atOnce(emit func(Kind, string)) status {
	var members map[string]json.RawMessage
	var name string
	if json.Unmarshal([]byte(r.head), &members) != nil || json.Unmarshal(members["name"], &name) != nil || name == "" || !r.known(name) {
		return broken
	}
	arguments, ok := members["arguments"]
	if !ok {
		arguments = members["parameters"]
	}
	emit(CallBegin, name)
	emit(Arguments, unquoted(arguments))
	emit(CallEnd, "")
	return over
}

// unquoted takes arguments out of a string that holds them as JSON.
func unquoted(raw json.RawMessage) string {
	var inner string
	switch {
	case len(raw) == 0:
		return "{}"
	case json.Unmarshal(raw, &inner) == nil && json.Valid([]byte(inner)):
		return inner
	}
	return string(raw)
}

// callHead finds, in the beginning of a JSON object, the name and the offset of
// the arguments' object when both are there, the name first. more: not yet, or
// only at the end; broken: it is no JSON.
func callHead(s string) (name string, at int, st status) {
	i := blank(s) + 1 // behind the brace
	for {
		key, after, st := member(s, i)
		if st != over {
			return "", 0, st
		}
		arguments := key == "arguments" || key == "parameters"
		if arguments && name != "" && after < len(s) && s[after] == '{' {
			return name, after, over
		}
		var v value
		n, ended := v.take(s[after:])
		if !ended {
			return "", 0, more
		}
		raw := []byte(s[after : after+n])
		if !json.Valid(raw) || key == "name" && json.Unmarshal(raw, &name) != nil {
			return "", 0, broken
		}
		i = after + n
		if i += blank(s[i:]); i >= len(s) || s[i] == '}' {
			return "", 0, more
		}
		if s[i] != ',' {
			return "", 0, broken
		}
		i++
	}
}

// member reads a key and its colon; after is where the value begins.
func member(s string, i int) (key string, after int, st status) {
	if i += blank(s[min(i, len(s)):]); i >= len(s) || s[i] == '}' {
		return "", 0, more
	}
	var v value
	n, ended := v.take(s[i:])
	switch {
	case s[i] != '"':
		return "", 0, broken
	case !ended:
		return "", 0, more
	case json.Unmarshal([]byte(s[i:i+n]), &key) != nil:
		return "", 0, broken
	}
	if i += n; i+blank(s[i:]) >= len(s) {
		return "", 0, more
	}
	if i += blank(s[i:]); s[i] != ':' {
		return "", 0, broken
	}
	i++
	return key, i + blank(s[i:]), over
}
