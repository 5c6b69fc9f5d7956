package responses

import "strings"

// first is the index of an item's only part.
var first = new(int)

// speaking is a message that is being said.
type speaking struct {
	id   string
	text strings.Builder
}

func (s *speaking) item(status string, parts ...textPart) messageItem {
	if parts == nil {
		parts = []textPart{}
	}
	return messageItem{ID: s.id, Type: "message", Status: status, Role: "assistant", Content: parts}
}

func (s *speaking) begin(c *composer) error {
	if err := c.tell(event{Type: "response.output_item.added", Item: s.item(inProgress)}); err != nil {
		return err
	}
	part := outputText("")
	return c.tell(event{Type: "response.content_part.added", ItemID: s.id, ContentIndex: first, Part: &part})
}

func (s *speaking) more(c *composer, text string) error {
	s.text.WriteString(text)
	return c.tell(event{Type: "response.output_text.delta", ItemID: s.id, ContentIndex: first, Delta: &text, Logprobs: []any{}})
}

func (s *speaking) end(c *composer, status string) error {
	text := s.text.String()
	part := outputText(text)
	if err := c.tell(event{Type: "response.output_text.done", ItemID: s.id, ContentIndex: first, Text: &text, Logprobs: []any{}}); err != nil {
		return err
	}
	if err := c.tell(event{Type: "response.content_part.done", ItemID: s.id, ContentIndex: first, Part: &part}); err != nil {
		return err
	}
	return c.done(s.item(status, part))
}

// thinking is reasoning that is being told.
type thinking struct {
	id   string
	text strings.Builder
}

func (t *thinking) item() reasoningItem {
	return reasoningItem{ID: t.id, Type: "reasoning", Summary: []any{}}
}

func (t *thinking) begin(c *composer) error {
	if err := c.tell(event{Type: "response.output_item.added", Item: t.item()}); err != nil {
		return err
	}
	return c.tell(event{Type: "response.content_part.added", ItemID: t.id, ContentIndex: first, Part: &textPart{Type: "reasoning_text"}})
}

func (t *thinking) more(c *composer, text string) error {
	t.text.WriteString(text)
	return c.tell(event{Type: "response.reasoning_text.delta", ItemID: t.id, ContentIndex: first, Delta: &text})
}

func (t *thinking) end(c *composer, _ string) error {
	text := t.text.String()
	part := textPart{Type: "reasoning_text", Text: text}
	if err := c.tell(event{Type: "response.reasoning_text.done", ItemID: t.id, ContentIndex: first, Text: &text}); err != nil {
		return err
	}
	if err := c.tell(event{Type: "response.content_part.done", ItemID: t.id, ContentIndex: first, Part: &part}); err != nil {
		return err
	}
	item := t.item()
	item.Content = []textPart{part}
	if c.sealed {
		item.Sealed = seal(text)
	}
	return c.done(item)
}

// calling is a call that is being written.
type calling struct {
	id, callID, name string
	arguments        strings.Builder
}

func (k *calling) item(status string) callItem {
	return callItem{ID: k.id, Type: "function_call", Status: status, CallID: k.callID, Name: k.name, Arguments: k.arguments.String()}
}

func (k *calling) begin(c *composer) error {
	return c.tell(event{Type: "response.output_item.added", Item: k.item(inProgress)})
}

func (k *calling) more(c *composer, text string) error {
	k.arguments.WriteString(text)
	return c.tell(event{Type: "response.function_call_arguments.delta", ItemID: k.id, Delta: &text})
}

// end gives a whole call without arguments empty ones.
func (k *calling) end(c *composer, status string) error {
	if k.arguments.Len() == 0 && status == completed {
		if err := k.more(c, "{}"); err != nil {
			return err
		}
	}
	text := k.arguments.String()
	if err := c.tell(event{Type: "response.function_call_arguments.done", ItemID: k.id, Name: k.name, Arguments: &text}); err != nil {
		return err
	}
	return c.done(k.item(status))
}
