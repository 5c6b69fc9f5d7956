// Package reply reads what a model says, as it comes: plain text, reasoning, and
// calls of tools, in the markup that its chat template teaches it. It does not
// know requests or dialects; those get parts.
package reply

import (
	"strings"
)

// Kind says what a part is.
type Kind uint8

const (
	Text      Kind = iota // a piece of the answer
	Reasoning             // a piece of the thinking before it
	CallBegin             // a tool is called; the text is its name
	Arguments             // a piece of the call's arguments, which are JSON
	CallEnd               // the call is whole
)

// Part is a piece of a reply. Pieces of one kind that follow each other belong
// together.
type Part struct {
	Kind Kind
	Text string
}

// Parser cuts a reply into parts.
//   - However the reply is cut into pushes, the parts say the same.
//   - Nothing that may be markup is given out before it is decided.
//   - What looks like a call and is none comes out as text.
type Parser struct {
	syntax  *Syntax
	in      mode
	reader  reader // of the call that is being read
	rest    string // not looked at yet, or not decided
	blank   []byte // white space that goes if a call follows
	pause   []byte // white space that goes if the reasoning ends
	said    bool   // some text or a call came
	called  bool   // the last part was of a call
	trim    bool   // white space that comes next is markup
	out     []Part
	offered map[string]bool // tools; nil: any
	opened  string          // what began the call being read, to be text if it is none
	pending strings.Builder
}

type mode uint8

const (
	inText mode = iota
	inReasoning
	inCall
)

// reader reads one call, or a list of them, behind its opening marker.
type reader interface {
	// read takes what it can from the beginning of s. Parts go to emit; it says how
	// much it has used, and whether the call is over or was none.
	read(s string, emit func(Kind, string)) (used int, st status)
}

type status uint8

const (
	more   status = iota // of the call is to come
	over                 // the call is whole
	broken               // it is no call
)

// New reads a reply in a syntax; thinking says that the prompt has opened the
// reasoning already.
func New(s *Syntax, thinking bool) *Parser {
	p := &Parser{syntax: s}
	if thinking && s.think.open != "" {
		p.in, p.trim = inReasoning, true
	}
	return p
}

// Offer says which tools may be called: what is a call only by its shape must be
// of one of them.
func (p *Parser) Offer(names ...string) *Parser {
	p.offered = map[string]bool{}
	for _, n := range names {
		p.offered[n] = true
	}
	return p
}

// Push takes the next piece and gives the parts that are decided.
func (p *Parser) Push(s string) []Part {
	p.rest += s
	p.out = nil
	for p.step(false) {
	}
	return p.out
}

// Flush gives what is left at the reply's end.
func (p *Parser) Flush() []Part {
	p.out = nil
	for p.step(true) || p.unfinished() {
	}
	p.say(p.rest)
	p.rest = ""
	if !p.called {
		p.emit(Text, string(p.blank))
	}
	return p.out
}

// step does one thing with what is at hand; false when that is not enough.
func (p *Parser) step(end bool) bool {
	switch p.in {
	case inReasoning:
		return p.reason(end)
	case inCall:
		return p.call()
	}
	return p.text(end)
}

// text looks for the next marker.
func (p *Parser) text(end bool) bool {
	at, m := p.syntax.next(p.rest, p.said)
	if m != nil {
		p.say(p.rest[:at])
		p.rest = p.rest[at+len(m.open):]
		p.enter(m)
		return true
	}
	keep := 0
	if !end {
		keep = p.syntax.undecided(p.rest, p.said)
	}
	p.say(p.rest[:len(p.rest)-keep])
	p.rest = p.rest[len(p.rest)-keep:]
	return false
}

func (p *Parser) enter(m *marker) {
	switch {
	case m.read != nil:
		p.in, p.reader, p.opened = inCall, m.read(), m.open
		p.pending.Reset()
		if r, ok := p.reader.(picky); ok && m.bare {
			r.only(p.offered)
		}
	case m.reasons:
		p.in, p.trim = inReasoning, true
	default: // markup around the answer
		p.trim = m.trims
	}
}

// reason gives the reasoning out up to its end.
func (p *Parser) reason(end bool) bool {
	at, size := cut(p.rest, p.syntax.think.close)
	if at >= 0 {
		p.think(p.rest[:at])
		p.rest, p.in, p.trim, p.pause = p.rest[at+size:], inText, true, nil
		return true
	}
	keep := 0
	for _, c := range p.syntax.think.close {
		keep = max(keep, overlap(p.rest, c))
	}
	if end {
		keep = 0
	}
	p.think(p.rest[:len(p.rest)-keep])
	p.rest = p.rest[len(p.rest)-keep:]
	if end {
		p.emit(Reasoning, string(p.pause))
	}
	return false
}

// think gives reasoning out, but keeps the white space at its end until more of
// it comes.
func (p *Parser) think(s string) {
	if p.trim {
		s = strings.TrimLeft(s, " \n")
		p.trim = s == ""
	}
	thought := strings.TrimRight(s, " \n")
	if thought != "" {
		p.emit(Reasoning, string(p.pause)+thought)
		p.pause = nil
	}
	p.pause = append(p.pause, s[len(thought):]...)
}

// cut finds the first of some markers.
func cut(s string, markers []string) (at, size int) {
	at = -1
	for _, m := range markers {
		if i := strings.Index(s, m); i >= 0 && (at < 0 || i < at) {
			at, size = i, len(m)
		}
	}
	return at, size
}

// call lets the reader go on.
func (p *Parser) call() bool {
	used, st := p.reader.read(p.rest, p.callPart)
	if !p.begun() {
		p.pending.WriteString(p.rest[:used])
	}
	p.rest = p.rest[used:]
	switch st {
	case over:
		p.in, p.reader, p.called = inText, nil, true
		return true
	case broken:
		p.fail()
		return true
	}
	return false
}

// fail goes on behind what was no call, or no further one.
func (p *Parser) fail() {
	if !p.begun() {
		p.notACall()
		return
	}
	p.rest = unread(p.reader) + p.rest
	p.in, p.reader, p.called = inText, nil, true
}

// picky is a reader that can be told which tools there are.
type picky interface{ only(names map[string]bool) }

// rewinder is a reader that may fail behind a whole call.
type rewinder interface {
	unread() string // what it has used since that call
}

func unread(r reader) string {
	if r, ok := r.(rewinder); ok {
		return r.unread()
	}
	return ""
}

// unfinished gives up a call that the reply's end cut before it said anything.
func (p *Parser) unfinished() bool {
	if p.in != inCall || p.begun() {
		return false
	}
	p.notACall()
	return true
}

// begun tells whether something of the call was given out.
func (p *Parser) begun() bool { return p.opened == "" }

func (p *Parser) callPart(k Kind, s string) {
	p.blank, p.said, p.opened = nil, true, ""
	p.pending.Reset()
	if k != Arguments || s != "" {
		p.out = append(p.out, Part{k, s})
	}
}

// notACall makes text of a marker that began no call; what followed it is looked
// at again.
func (p *Parser) notACall() {
	opened := p.opened
	p.rest = p.pending.String() + p.rest
	p.in, p.reader, p.opened = inText, nil, ""
	p.pending.Reset()
	p.say(opened)
	p.said = true // what begins a reply only cannot begin it again
}

// say gives text out, but keeps the white space at its end until more text comes.
func (p *Parser) say(s string) {
	if p.trim {
		s = strings.TrimLeft(s, " \n")
		p.trim = s == ""
	}
	text := strings.TrimRight(s, " \n\t")
	if text == "" {
		p.blank = append(p.blank, s...)
		return
	}
	if p.called {
		text, p.blank = strings.TrimLeft(text, " \n\t"), nil
	}
	p.emit(Text, string(p.blank)+text)
	p.blank, p.said, p.called = []byte(s[len(strings.TrimRight(s, " \n\t")):]), true, false
}

func (p *Parser) emit(k Kind, s string) {
	if s != "" {
		p.out = append(p.out, Part{k, s})
	}
}

// piece bounds, in bytes, what is looked at at once.
const piece = 256

// Whole reads a reply at once: its text, its reasoning, and its calls.
func Whole(s *Syntax, thinking bool, reply string) (text, reasoning string, calls []Call) {
	p := New(s, thinking)
	var c Collector
	for len(reply) > piece { // what turns out to be no call is looked at again
		c.Add(p.Push(reply[:piece])...)
		reply = reply[piece:]
	}
	c.Add(p.Push(reply)...)
	c.Add(p.Flush()...)
	return c.Text.String(), c.Reasoning.String(), c.Calls
}

// Call is a tool called.
type Call struct {
	Name      string
	Arguments string // JSON as the model wrote it
	Whole     bool   // it came to its end
}

// Collector puts parts together.
type Collector struct {
	Text, Reasoning strings.Builder
	Calls           []Call
}

// Add takes parts in their order.
func (c *Collector) Add(parts ...Part) {
	for _, p := range parts {
		switch p.Kind {
		case Text:
			c.Text.WriteString(p.Text)
		case Reasoning:
			c.Reasoning.WriteString(p.Text)
		case CallBegin:
			c.Calls = append(c.Calls, Call{Name: p.Text})
		case Arguments:
			c.Calls[len(c.Calls)-1].Arguments += p.Text
		case CallEnd:
			c.Calls[len(c.Calls)-1].Whole = true
		}
	}
}
