package constrain

import "encoding/binary"

// Machine is a grammar's automaton: a pushdown automaton that follows all ways
// at once, whose sets of stacks are states that are made when they are first
// reached and then found in a table. One goroutine uses it at a time.
type Machine struct {
	start  *state
	frames map[frameKey]*frame
	states map[string]*state
	nextID uint32

	seen map[*frame]bool // of the state being made
	key  []byte
}

// maxStates bounds the table; a state takes about 2 KiB. What is dropped is made
// again when it is reached again.
const maxStates = 4096

// frame is a stack, seen from its top: a node, how far it has come, and what
// follows it. Equal stacks are one frame.
type frame struct {
	frameKey
	id uint32
}

type frameKey struct {
	node *Node
	at   int // of a sequence: its next kid; of a repetition: how many there were
	next *frame
}

// state is a set of stacks, each with a byte on top.
type state struct {
	stacks  []*frame
	accepts bool        // the output may end here
	next    [256]*state // nil: not asked yet
	mask    []uint64    // tokens that may follow; nil: not asked yet
}

// dead is where no way leads on from.
var dead = &state{}

// NewMachine makes the automaton of a grammar.
func NewMachine(grammar *Node) *Machine {
	m := &Machine{seen: map[*frame]bool{}}
	m.forget()
	m.begin()
	m.expand(m.frame(grammar, 0, nil))
	m.start = m.finish()
	return m
}

// Possible tells whether a grammar has a way to begin.
func Possible(n *Node) bool { return NewMachine(n).start != dead }

func (m *Machine) forget() {
	m.frames, m.states = map[frameKey]*frame{}, map[string]*state{}
}

// step gives the state after a byte.
func (m *Machine) step(s *state, b byte) *state {
	if n := s.next[b]; n != nil {
		return n
	}
	if len(m.states) > maxStates {
		m.forget()
	}
	m.begin()
	for _, f := range s.stacks {
		if f.node.bytes.Has(b) {
			m.expand(f.next)
		}
	}
	n := m.finish()
	s.next[b] = n
	return n
}

// walk gives the state after some bytes, dead if they cannot come.
func (m *Machine) walk(s *state, bytes []byte) *state {
	for _, b := range bytes {
		if s == dead {
			return dead
		}
		s = m.step(s, b)
	}
	return s
}

// frame finds or makes the one frame of its kind.
func (m *Machine) frame(n *Node, at int, next *frame) *frame {
	key := frameKey{n, at, next}
	f := m.frames[key]
	if f == nil {
		m.nextID++
		f = &frame{key, m.nextID}
		m.frames[key] = f
	}
	return f
}

// The state being made is what expand has reached between begin and finish; seen
// holds a nil frame when the end was reached.

func (m *Machine) begin() {
	clear(m.seen)
	m.key = m.key[:0]
}

// expand follows a stack to the bytes it may go on with.
func (m *Machine) expand(f *frame) {
	if m.seen[f] {
		return
	}
	m.seen[f] = true
	if f == nil {
		return
	}
	switch n := f.node; n.kind {
	case oneByte:
		m.key = binary.LittleEndian.AppendUint32(m.key, f.id)
	case sequence:
		m.expandSequence(f)
	case choice:
		for _, kid := range n.kids {
			m.expand(m.frame(kid, 0, f.next))
		}
	case repetition:
		m.expandRepetition(f)
	case rule:
		m.expand(m.frame(n.kids[0], 0, f.next))
	}
}

func (m *Machine) expandSequence(f *frame) {
	n, after := f.node, f.at+1
	switch {
	case len(n.kids) == 0:
		m.expand(f.next)
	case after == len(n.kids):
		m.expand(m.frame(n.kids[f.at], 0, f.next))
	default:
		m.expand(m.frame(n.kids[f.at], 0, m.frame(n, after, f.next)))
	}
}

func (m *Machine) expandRepetition(f *frame) {
	n := f.node
	if f.at >= n.min {
		m.expand(f.next)
	}
	switch {
	case n.max < 0: // beyond min it need not count
		m.expand(m.frame(n.kids[0], 0, m.frame(n, min(f.at+1, n.min), f.next)))
	case f.at < n.max:
		m.expand(m.frame(n.kids[0], 0, m.frame(n, f.at+1, f.next)))
	}
}

// finish finds or makes the state of what was reached.
func (m *Machine) finish() *state {
	accepts := m.seen[nil]
	if accepts {
		m.key = append(m.key, 1)
	}
	if len(m.key) == 0 {
		return dead
	}
	if s := m.states[string(m.key)]; s != nil {
		return s
	}
	s := &state{accepts: accepts}
	for f := range m.seen {
		if f != nil && f.node.kind == oneByte {
			s.stacks = append(s.stacks, f)
		}
	}
	m.states[string(m.key)] = s
	return s
}
