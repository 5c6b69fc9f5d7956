package anthropic

import (
	"encoding/json"

	"mneme/internal/api/fields"
)

// node is an object with its members as they were written, since schemas and
// arguments are passed on in the order of their keys.
type node struct {
	*fields.Object
	raw map[string]json.RawMessage
}

// newNode pairs an object with its text; what does not fit has been refused by
// who read the object.
func newNode(o *fields.Object, text json.RawMessage) node {
	n := node{Object: o}
	_ = json.Unmarshal(text, &n.raw)
	return n
}

// sub is the object at a key; its Object is nil when there is none.
func (n node) sub(key string) node {
	o := n.Sub(key)
	if o == nil {
		return node{}
	}
	return newNode(o, n.raw[key])
}

// each are the objects in the list at a key.
func (n node) each(key string) []node {
	var texts []json.RawMessage
	_ = json.Unmarshal(n.raw[key], &texts)
	list := n.List(key)
	nodes := make([]node, len(list))
	for i, v := range list {
		nodes[i] = newNode(n.Object.Object(fields.Element(n.At(key), i), v), texts[i])
	}
	return nodes
}

// object is the text of the object at a key, which must be there.
func (n node) object(key string) json.RawMessage {
	n.Require(key)
	if n.Has(key) {
		n.Sub(key) // refuses what is none
	}
	return n.raw[key]
}
