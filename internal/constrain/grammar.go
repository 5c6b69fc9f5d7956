// Package constrain holds a model's output to a grammar, byte by byte: which
// tokens may come next is asked of an automaton that is built as it is used.
// It knows bytes and token ids; what a grammar is for (a JSON schema, a tool
// call) is known to who makes it, and package schema makes those of schemas.
package constrain

// Node is a piece of a grammar: it says what a stretch of bytes may be. Nodes
// are made by the functions of this package and shared freely.
type Node struct {
	kind     kind
	bytes    ByteSet
	kids     []*Node
	min, max int // of a repetition; max -1: no bound
}

type kind uint8

const (
	oneByte kind = iota
	sequence
	choice
	repetition
	rule
)

// ByteSet is a set of bytes.
type ByteSet [4]uint64

// Add puts a range of bytes into the set, both ends included.
func (s *ByteSet) Add(from, to byte) {
	for b := int(from); b <= int(to); b++ {
		s[b>>6] |= 1 << (b & 63)
	}
}

// Has tells whether the set has a byte.
func (s *ByteSet) Has(b byte) bool { return s[b>>6]>>(b&63)&1 != 0 }

// Bytes is any one byte of a set.
func Bytes(set ByteSet) *Node { return &Node{kind: oneByte, bytes: set} }

// Range is any one byte of a range, both ends included.
func Range(from, to byte) *Node {
	var set ByteSet
	set.Add(from, to)
	return Bytes(set)
}

// OneOf is any one byte of a string.
func OneOf(bytes string) *Node {
	var set ByteSet
	for i := range len(bytes) {
		set.Add(bytes[i], bytes[i])
	}
	return Bytes(set)
}

// Text is a string as it stands.
func Text(s string) *Node {
	kids := make([]*Node, len(s))
	for i := range len(s) {
		kids[i] = Range(s[i], s[i])
	}
	return Seq(kids...)
}

// specialByte begins what a special token spells: no text holds it.
const specialByte = 0xff

// Special is a special token, by its text; the same text in other tokens is not.
func Special(text string) *Node { return Text(string([]byte{specialByte}) + text) }

// Without is any text that a marker does not occur in.
func Without(marker string) *Node {
	rules := make([]*Node, len(marker)) // by how much of the marker the text ends with
	for i := range rules {
		rules[i] = Rule()
	}
	for i, r := range rules {
		ways := []*Node{Seq()}
		var other ByteSet
		for b := range specialByte {
			switch next := grown(marker, i, byte(b)); next {
			case 0:
				other.Add(byte(b), byte(b))
			case len(marker):
			default:
				ways = append(ways, Seq(Range(byte(b), byte(b)), rules[next]))
			}
		}
		r.Define(Any(append(ways, Seq(Bytes(other), rules[0]))...))
	}
	return rules[0]
}

// grown is how much of a marker a text ends with after a byte, when it ended with
// n bytes of it before.
func grown(marker string, n int, b byte) int {
	s := marker[:n] + string([]byte{b})
	for len(s) > 0 && (len(s) > len(marker) || marker[:len(s)] != s) {
		s = s[1:]
	}
	return len(s)
}

// Seq is one node after another; without any it is the empty text.
func Seq(nodes ...*Node) *Node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return &Node{kind: sequence, kids: nodes}
}

// Any is one of several nodes; without any it is impossible.
func Any(nodes ...*Node) *Node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return &Node{kind: choice, kids: nodes}
}

// Optional is a node or nothing.
func Optional(n *Node) *Node { return Repeat(n, 0, 1) }

// Repeat is a node at least min and at most max times; max -1 is no bound.
func Repeat(n *Node, least, most int) *Node {
	return &Node{kind: repetition, kids: []*Node{n}, min: least, max: most}
}

// Rule is a node that is defined later, so that it may hold itself. Whatever
// holds itself must have a byte before it.
func Rule() *Node { return &Node{kind: rule} }

// Define says what a rule stands for.
func (n *Node) Define(as *Node) { n.kids = []*Node{as} }
