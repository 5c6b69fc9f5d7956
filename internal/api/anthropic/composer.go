package anthropic

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash"

	"mneme/internal/chat/reply"
)

// listener hears of an answer's blocks as they come, one after the other.
type listener interface {
	open(index int, b Block) error
	more(index int, d Delta) error
	shut(index int) error
}

// composer makes blocks of the parts of a reply.
type composer struct {
	to     listener
	newID  func() string
	index  int        // of the open block; of the next one while none is
	kind   reply.Kind // of the open block: Text, Reasoning or CallBegin
	isOpen bool
	called bool      // a tool was called
	seal   hash.Hash // of the open block's reasoning
}

// take puts parts into blocks.
func (c *composer) take(parts ...reply.Part) error {
	for _, p := range parts {
		if err := c.part(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *composer) part(p reply.Part) error {
	switch p.Kind {
	case reply.CallBegin:
		c.called = true
		return c.begin(reply.CallBegin, Block{Type: "tool_use", ID: "toolu_" + c.newID(), Name: p.Text, Input: json.RawMessage("{}")})
	case reply.Arguments:
		return c.to.more(c.index, Delta{Type: "input_json_delta", JSON: &p.Text})
	case reply.CallEnd:
		return c.end()
	case reply.Reasoning:
		return c.think(p.Text)
	}
	if err := c.within(reply.Text, Block{Type: "text", Text: new(string)}); err != nil {
		return err
	}
	return c.to.more(c.index, Delta{Type: "text_delta", Text: &p.Text})
}

func (c *composer) think(text string) error {
	if !c.isOpen || c.kind != reply.Reasoning {
		c.seal = sha256.New()
	}
	if err := c.within(reply.Reasoning, Block{Type: "thinking", Thinking: new(string), Signature: new(string)}); err != nil {
		return err
	}
	c.seal.Write([]byte(text))
	return c.to.more(c.index, Delta{Type: "thinking_delta", Thinking: &text})
}

// within begins a block unless one of the kind is open.
func (c *composer) within(k reply.Kind, b Block) error {
	if c.isOpen && c.kind == k {
		return nil
	}
	return c.begin(k, b)
}

func (c *composer) begin(k reply.Kind, b Block) error {
	if err := c.end(); err != nil {
		return err
	}
	c.isOpen, c.kind = true, k
	return c.to.open(c.index, b)
}

// end shuts the open block, if there is one. Reasoning is signed first: clients
// send back only what is. Nobody reads the signature.
func (c *composer) end() error {
	if !c.isOpen {
		return nil
	}
	if c.kind == reply.Reasoning {
		signature := base64.StdEncoding.EncodeToString(c.seal.Sum(nil))
		if err := c.to.more(c.index, Delta{Type: "signature_delta", Signature: &signature}); err != nil {
			return err
		}
	}
	at := c.index
	c.isOpen, c.index = false, c.index+1
	return c.to.shut(at)
}

// content collects blocks.
type content struct {
	blocks []Block
	input  []byte // of the open block
}

func (c *content) open(_ int, b Block) error {
	c.blocks, c.input = append(c.blocks, b), nil
	return nil
}

func (c *content) more(index int, d Delta) error {
	b := &c.blocks[index]
	switch {
	case d.Text != nil:
		*b.Text += *d.Text
	case d.Thinking != nil:
		*b.Thinking += *d.Thinking
	case d.Signature != nil:
		b.Signature = d.Signature
	default:
		c.input = append(c.input, *d.JSON...)
	}
	return nil
}

// shut sets the input of a call; one that was cut keeps {}.
func (c *content) shut(index int) error {
	if json.Valid(c.input) {
		c.blocks[index].Input = c.input
	}
	return nil
}
