package talk

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"mneme/internal/chat"
	"mneme/internal/chat/reply"
)

// What the model said comes back from clients in other words: calls are parsed
// and written anew, white space goes. Where a message says what the model said,
// it is rendered as the model said it, so that the tokens and their KV stay.

// replayed are the messages with the assistant's as they were said.
func (r *Room) replayed(q Request) []chat.Message {
	messages := slices.Clone(q.Messages)
	if q.Said == nil || !slices.ContainsFunc(messages, said) {
		return messages
	}
	all := q.Said()
	from := 0
	for i, m := range messages {
		if !said(m) {
			continue
		}
		for k := from; k < len(all); k++ {
			if r.means(all[k], m) {
				messages[i].Content, messages[i].ToolCalls, messages[i].Reasoning = all[k], nil, ""
				from = k + 1
				break
			}
		}
	}
	return messages
}

// said tells whether a message may have been the model's, in other words.
func said(m chat.Message) bool {
	return m.Role == "assistant" && (len(m.ToolCalls) > 0 || m.Content != "")
}

// means tells whether a text that the model said is what a message says. Without
// calls the text itself is enough, and templates may treat it as they do.
func (r *Room) means(text string, m chat.Message) bool {
	if len(m.ToolCalls) == 0 {
		return false
	}
	content, reasoning, calls := reply.Whole(r.syntax, false, text)
	if strings.TrimSpace(content) != strings.TrimSpace(m.Content) || len(calls) != len(m.ToolCalls) {
		return false
	}
	if reasoning != "" && strings.TrimSpace(reasoning) != strings.TrimSpace(m.Reasoning) {
		return false // the client leaves it out, or the template does
	}
	for i, c := range calls {
		f := m.ToolCalls[i].Function
		if c.Name != f.Name || !sameJSON([]byte(c.Arguments), []byte(argumentsText(f.Arguments))) {
			return false
		}
	}
	return true
}

// sameJSON compares values, whatever the white space and the order of keys.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := canonical(a)
	y, errY := canonical(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Meant is a call's arguments as JSON, alike for all that are the same values.
func Meant(arguments json.RawMessage) string {
	text := argumentsText(arguments)
	if same, err := canonical([]byte(text)); err == nil {
		return string(same)
	}
	return text
}

func canonical(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(v) // objects by the names of their keys
}
