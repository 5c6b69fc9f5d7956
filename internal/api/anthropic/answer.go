package anthropic

import (
	"encoding/json"

	"mneme/internal/api/turn"
	"mneme/internal/engine"
)

// Message is an answer; in a stream its beginning.
type Message struct {
	ID           string     `json:"id"`
	Type         string     `json:"type"` // "message"
	Role         string     `json:"role"`
	Model        string     `json:"model"`
	Content      []Block    `json:"content"`
	StopReason   *string    `json:"stop_reason"`
	StopSequence *string    `json:"stop_sequence"`
	Usage        Usage      `json:"usage"`
	Note         *turn.Note `json:"mneme,omitempty"`

	Diagnostics *Diagnostics `json:"diagnostics"`
}

// Block is an element of an answer's content. Of a kind's members all are there,
// of other kinds' none.
type Block struct {
	Type      string          `json:"type"` // "text", "thinking" or "tool_use"
	Text      *string         `json:"text,omitempty"`
	Thinking  *string         `json:"thinking,omitempty"`
	Signature *string         `json:"signature,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
}

// Delta is what is added to a block.
type Delta struct {
	Type      string  `json:"type"`
	Text      *string `json:"text,omitempty"`         // of a text_delta
	Thinking  *string `json:"thinking,omitempty"`     // of a thinking_delta
	Signature *string `json:"signature,omitempty"`    // of a signature_delta
	JSON      *string `json:"partial_json,omitempty"` // of an input_json_delta
}

// End is why the model stopped.
type End struct {
	StopReason   string  `json:"stop_reason"`
	StopSequence *string `json:"stop_sequence"`
}

// Usage is a turn's ledger. All counts are tokens; the first three are the prompt.
type Usage struct {
	Input    int `json:"input_tokens"`                // computed, behind the last mark
	Creation int `json:"cache_creation_input_tokens"` // computed, up to the last mark
	Read     int `json:"cache_read_input_tokens"`     // not computed for this request
	Output   int `json:"output_tokens"`
}

// newUsage splits a prompt of which so many tokens come before the last mark.
func newUsage(u engine.Usage, markedTokens int) Usage {
	creation := max(0, min(markedTokens, u.Prompt)-u.Cached)
	return Usage{Input: u.Prompt - u.Cached - creation, Creation: creation, Read: u.Cached, Output: u.Completion}
}
