package responses

import (
	"cmp"

	"mneme/internal/api/wire"
	"mneme/internal/chat/reply"
)

// event is one event of a stream; which members it has depends on its type.
type event struct {
	Type         string    `json:"type"`
	Sequence     int       `json:"sequence_number"`
	Response     *Response `json:"response,omitempty"`
	ItemID       string    `json:"item_id,omitempty"`
	OutputIndex  *int      `json:"output_index,omitempty"`
	ContentIndex *int      `json:"content_index,omitempty"`
	Item         any       `json:"item,omitempty"`
	Part         *textPart `json:"part,omitempty"`
	Delta        *string   `json:"delta,omitempty"`
	Text         *string   `json:"text,omitempty"`
	Name         string    `json:"name,omitempty"`
	Arguments    *string   `json:"arguments,omitempty"`
	Logprobs     []any     `json:"logprobs,omitzero"`
}

// composer makes a response of what a model says, and tells it as events in their
// order: every item is added, told in pieces, and done before the next begins.
type composer struct {
	response *Response
	newID    func() string
	sealed   bool
	emit     func(event) error // nil: nobody listens
	sequence int

	open  opened // the item that is being said; nil between items
	calls int
}

// opened is an item that is being said.
type opened interface {
	begin(c *composer) error
	more(c *composer, text string) error
	end(c *composer, status string) error // completed or incomplete
}

// tell emits an event about the response or, with an item's id, about the item.
func (c *composer) tell(e event) error {
	e.Sequence = c.sequence
	c.sequence++
	if c.emit == nil {
		return nil
	}
	if e.Response == nil {
		at := len(c.response.Output)
		e.OutputIndex = &at
	}
	return c.emit(e)
}

// begin tells that the response is there and is being made.
func (c *composer) begin() error {
	if err := c.tell(event{Type: "response.created", Response: c.response}); err != nil {
		return err
	}
	return c.tell(event{Type: "response.in_progress", Response: c.response})
}

// take adds parts.
func (c *composer) take(parts []reply.Part) error {
	for _, p := range parts {
		if err := c.part(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *composer) part(p reply.Part) error {
	var err error
	switch p.Kind {
	case reply.Reasoning:
		if _, goesOn := c.open.(*thinking); !goesOn {
			err = c.start(&thinking{id: "rs_" + c.newID()})
		}
	case reply.Text:
		if _, goesOn := c.open.(*speaking); !goesOn {
			err = c.start(&speaking{id: "msg_" + c.newID()})
		}
	case reply.CallBegin:
		c.calls++
		return c.start(&calling{id: "fc_" + c.newID(), callID: "call_" + c.newID(), name: p.Text})
	case reply.CallEnd:
		return c.stop(completed)
	}
	if err != nil {
		return err
	}
	return c.open.more(c, p.Text)
}

// start begins an item behind the one before.
func (c *composer) start(item opened) error {
	if err := c.stop(completed); err != nil {
		return err
	}
	c.open = item
	return item.begin(c)
}

// stop ends the item that is being said.
func (c *composer) stop(status string) error {
	if c.open == nil {
		return nil
	}
	item := c.open
	c.open = nil
	return item.end(c, status)
}

// done tells that an item is whole, which makes it one of the output.
func (c *composer) done(item any) error {
	err := c.tell(event{Type: "response.output_item.done", Item: item})
	c.response.Output = append(c.response.Output, item)
	return err
}

// finish ends the response; one without items has an empty text.
func (c *composer) finish(status string) error {
	if c.open == nil && len(c.response.Output) == 0 {
		if err := c.start(&speaking{id: "msg_" + c.newID()}); err != nil {
			return err
		}
	}
	if err := c.stop(status); err != nil {
		return err
	}
	c.response.Status = status
	if status == incomplete {
		c.response.Incomplete = &Incomplete{"max_output_tokens"}
	}
	return nil
}

// last tells how the response ended.
func (c *composer) last() error {
	return c.tell(event{Type: "response." + c.response.Status, Response: c.response})
}

// broken is the event that ends a stream which went wrong.
func (c *composer) broken(e *wire.Error) wire.Event {
	c.response.Status, c.response.Error = failed, &Failure{cmp.Or(e.Code, "server_error"), e.Message}
	return wire.Event{Name: "response.failed", Data: event{Type: "response.failed", Sequence: c.sequence, Response: c.response}}
}
