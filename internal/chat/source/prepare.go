// Package source rewrites the text of chat templates for the engine that runs them.
//
// It knows Jinja's tags, Jinja2's rules of white space, and what in a template
// could take time, memory or stack without end; see guard. It knows nothing of
// values: what the names that it puts in do (__out, __keep, …) is for chat.
package source

import (
	"fmt"
	"strings"
	"unicode"
)

// Prepare rewrites a template for the engine; the error names the line.
//   - White space is decided before the engine sees it, by Jinja2's rules as chat
//     templates are written for them (trim_blocks and lstrip_blocks on): text
//     becomes string literals, tags lose their marks, comments go. The engine
//     then has no text left to trim.
//   - Tags are guarded; see guard.
//
// Without what guard adds:
//
//	"  {%- if x %}\n hi {# note #}{% endif %}\n"  ->  {% if x %}{{ " hi " }}{% endif %}
func Prepare(text string) (string, error) {
	segments, err := split(normalised(text))
	if err != nil {
		return "", err
	}
	trim(segments)
	var b strings.Builder
	var g guard
	for _, s := range segments {
		if err := s.emit(&b, &g); err != nil {
			return "", fmt.Errorf("line %d: %w", s.line, err)
		}
	}
	return b.String(), nil
}

// normalised makes every line end "\n" and drops one at the end.
func normalised(source string) string {
	source = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source)
	return strings.TrimSuffix(source, "\n")
}

type kind byte

const (
	text    kind = iota
	output       // {{ }}
	block        // {% %}
	comment      // {# #}
	rawEdge      // {% raw %} and {% endraw %}
)

// segment is a tag or the text between two tags. Segments alternate: text, tag,
// text, ..., text; texts may be empty.
type segment struct {
	kind        kind
	body        string
	left, right byte // a tag's marks: '-', '+' or 0
	line        int  // where it begins
}

// emit writes what the engine is to see.
func (s segment) emit(b *strings.Builder, g *guard) error {
	out, err := "", error(nil)
	switch {
	case s.kind == text && s.body != "":
		out = printing(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s.body) + `"`)
	case s.kind == output:
		out, err = g.output(s.body)
	case s.kind == block:
		out, err = g.statement(s.body)
	}
	b.WriteString(out)
	return err
}

// splitter cuts a template; rest begins after line `line` of it has begun.
type splitter struct {
	rest     string
	line     int
	segments []segment
}

func split(source string) ([]segment, error) {
	s := splitter{rest: source, line: 1}
	for {
		at := s.nextTag()
		if at < 0 {
			s.add(segment{kind: text, body: s.rest}, len(s.rest))
			return s.segments, nil
		}
		s.add(segment{kind: text, body: s.rest[:at]}, at)
		if err := s.tag(); err != nil {
			return nil, err
		}
	}
}

// add appends a segment that takes n bytes of the rest.
func (s *splitter) add(seg segment, n int) {
	seg.line = s.line
	s.segments = append(s.segments, seg)
	s.line += strings.Count(s.rest[:n], "\n")
	s.rest = s.rest[n:]
}

// nextTag is the offset of the next tag in the rest, or -1.
func (s *splitter) nextTag() int {
	for at := 0; at+1 < len(s.rest); at++ {
		if s.rest[at] == '{' && strings.IndexByte("{%#", s.rest[at+1]) >= 0 {
			return at
		}
	}
	return -1
}

// tag takes the tag that the rest begins with.
func (s *splitter) tag() error {
	seg, closer := opened(s.rest[1])
	start := 2
	if len(s.rest) > 2 && isMark(s.rest[2]) {
		seg.left = s.rest[2]
		start = 3
	}
	find := tagEnd
	if seg.kind == comment {
		find = commentEnd
	}
	end, ok := find(s.rest[start:], closer)
	if !ok {
		return fmt.Errorf("line %d: tag %q is not closed", s.line, s.rest[:2])
	}
	seg.body, seg.right = strings.TrimSpace(end.body), end.right
	if seg.kind == block && seg.body == "raw" {
		return s.raw(seg, start+end.taken)
	}
	s.add(seg, start+end.taken)
	return nil
}

// opened is the segment that "{" and c open, and what closes it.
func opened(c byte) (segment, string) {
	switch c {
	case '{':
		return segment{kind: output}, "}}"
	case '%':
		return segment{kind: block}, "%}"
	}
	return segment{kind: comment}, "#}"
}

func isMark(c byte) bool { return c == '-' || c == '+' }

// ending is the rest of a tag behind its opener.
type ending struct {
	body  string
	right byte
	taken int // bytes up to behind the closer
}

// tagEnd finds where a tag ends: at its closer, outside of strings and brackets.
// In the body a "}" inside of brackets gets a space behind it, because the
// engine would take two of them for a closer.
func tagEnd(s, closer string) (ending, bool) {
	var body strings.Builder
	depth := 0
	for i := 0; i < len(s); {
		if right, n := closes(s[i:], closer); n > 0 && depth == 0 {
			return ending{body.String(), right, i + n}, true
		}
		n := 1
		switch s[i] {
		case '\'', '"':
			n = quotedLen(s[i:])
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth = max(depth-1, 0)
		}
		body.WriteString(s[i : i+n])
		if s[i] == '}' {
			body.WriteByte(' ')
		}
		i += n
	}
	return ending{}, false
}

// closes returns the mark and the length, mark included, of the closer that s
// begins with; 0, 0 if there is none.
func closes(s, closer string) (right byte, n int) {
	if strings.HasPrefix(s, closer) {
		return 0, len(closer)
	}
	if s != "" && isMark(s[0]) && strings.HasPrefix(s[1:], closer) {
		return s[0], 1 + len(closer)
	}
	return 0, 0
}

// quotedLen is the length of the string literal that s begins with; one without
// an end reaches to the end of s.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i + 1
		}
	}
	return len(s)
}

// commentEnd is tagEnd for comments, whose bodies have no strings.
func commentEnd(s, closer string) (ending, bool) {
	at := strings.Index(s, closer)
	if at < 0 {
		return ending{}, false
	}
	end := ending{body: s[:at], taken: at + len(closer)}
	if at > 0 && isMark(s[at-1]) {
		end.right = s[at-1]
	}
	return end, true
}

// raw takes {% raw %}, the text up to {% endraw %}, and that.
func (s *splitter) raw(open segment, n int) error {
	line := s.line
	open.kind = rawEdge
	if open.right == 0 {
		open.right = '+' // Jinja2 trims nothing here
	}
	s.add(open, n)
	for at := 0; ; at++ {
		next := strings.Index(s.rest[at:], "{%")
		if next < 0 {
			return fmt.Errorf("line %d: raw block is not closed", line)
		}
		at += next
		end, n, ok := endRaw(s.rest[at:])
		if ok {
			s.add(segment{kind: text, body: s.rest[:at]}, at)
			s.add(end, n)
			return nil
		}
	}
}

// endRaw reads {% endraw %}, of n bytes, at the beginning of s.
func endRaw(s string) (end segment, n int, ok bool) {
	end.kind = rawEdge
	rest := s[len("{%"):]
	if rest != "" && isMark(rest[0]) {
		end.left, rest = rest[0], rest[1:]
	}
	rest, ok = strings.CutPrefix(strings.TrimLeftFunc(rest, isSpace), "endraw")
	if !ok {
		return end, 0, false
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	end.right, n = closes(rest, "%}")
	return end, len(s) - len(rest) + n, n > 0
}

// trim applies the marks and the two rules to every text: a line break right
// behind a block goes (trim_blocks), and so do the blanks between the beginning
// of a line and a block (lstrip_blocks).
func trim(segments []segment) {
	for i := 0; i < len(segments); i += 2 {
		lineStarts := true
		body := segments[i].body
		if i > 0 {
			body, lineStarts = trimAfter(segments[i-1], body)
		}
		if i+1 < len(segments) {
			body = trimBefore(segments[i+1], body, lineStarts)
		}
		segments[i].body = body
	}
}

// trimAfter trims the text behind a tag and tells whether what is left begins a
// line.
func trimAfter(tag segment, s string) (rest string, lineStarts bool) {
	switch {
	case tag.right == '-':
		rest = strings.TrimLeftFunc(s, isSpace)
	case tag.right == 0 && tag.kind != output:
		rest = strings.TrimPrefix(s, "\n")
	default:
		rest = s
	}
	gone := s[:len(s)-len(rest)]
	return rest, strings.HasSuffix(gone, "\n")
}

// trimBefore trims the text in front of a tag.
func trimBefore(tag segment, s string, lineStarts bool) string {
	if tag.left == '-' {
		return strings.TrimRightFunc(s, isSpace)
	}
	line := strings.LastIndexByte(s, '\n') + 1
	blank := strings.TrimLeftFunc(s[line:], isSpace) == ""
	if tag.left == 0 && tag.kind != output && blank && (line > 0 || lineStarts) {
		return s[:line]
	}
	return s
}

// isSpace is Python's idea of white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
