package talk

import (
	"context"
	"encoding/json"
	"slices"
)

// Place is a point in a conversation: behind a tool, or behind so many bytes of
// a message's content.
type Place struct {
	InTools bool
	Index   int // of the tool, or of the message
	Bytes   int // of the message's content
}

// stranger stands where no conversation goes on.
const stranger = "\ue000"

// Before is how many bytes of the prompt of a conversation come before a place.
// Whatever the template does: a conversation that is another one from there on
// has a prompt that begins alike up to there.
func (r *Room) Before(ctx context.Context, q Request, prompt string, at Place) (int, error) {
	q.Messages = r.replayed(q)
	q.Said = nil
	if at.InTools {
		q.Tools = otherTools(q.Tools, at.Index)
	} else if at.Index < len(q.Messages) {
		m := &q.Messages[at.Index]
		bytes := min(at.Bytes, len(m.Content))
		m.Content = m.Content[:bytes] + stranger + m.Content[bytes:]
	}
	other, err := r.render(ctx, q)
	if err != nil {
		return 0, err
	}
	return common(prompt, other), nil
}

// otherTools are tools that are others behind one.
func otherTools(tools []Tool, index int) []Tool {
	if index < len(tools)-1 {
		return tools[:index+1]
	}
	return append(slices.Clip(tools), Tool{Name: stranger, Parameters: json.RawMessage(`{}`)})
}

// common is the length of what two texts begin with alike.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
