package openai

import (
	"encoding/json"

	"mneme/internal/api/openai/ask"
	"mneme/internal/api/turn"
	"mneme/internal/engine"
	"mneme/internal/token"
)

// Head is what an answer and each of its chunks begin with.
type Head struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"` // Unix seconds
	Model       string `json:"model"`
	Fingerprint string `json:"system_fingerprint"`
}

// The objects a Head can stand before.
const (
	objectChat  = "chat.completion"
	objectChunk = "chat.completion.chunk"
	objectText  = "text_completion" // whole or in pieces
)

// doneText ends a stream well.
const doneText = "[DONE]"

// newHead begins an answer; the id begins with prefix.
func newHead(d *turn.Desk, prefix, object string) Head {
	info := d.Engine.Info()
	return Head{
		ID:          prefix + d.NewID(),
		Object:      object,
		Created:     d.Now().Unix(),
		Model:       info.Model,
		Fingerprint: "fp_" + info.Fingerprint[:min(12, len(info.Fingerprint))],
	}
}

// ids is a copy of ids when the request asked for them, else nil.
func (f Form) ids(ids []token.ID) []token.ID {
	if !f.ReturnTokenIDs {
		return nil
	}
	return append([]token.ID{}, ids...)
}

// Completion is the whole answer of a request that does not stream.
type Completion struct {
	Head
	Choices        []Choice   `json:"choices"`
	Usage          Usage      `json:"usage"`
	PromptTokenIDs []token.ID `json:"prompt_token_ids,omitzero"`
	Note           *turn.Note `json:"mneme,omitempty"`
	// Diagnostics are there where the request asked for them.
	Diagnostics *ask.Diagnostics `json:"prompt_cache_diagnostics,omitempty"`
}

// Choice is one of the answers in a Completion.
type Choice struct {
	Index        int        `json:"index"`
	Message      Message    `json:"message"`
	Logprobs     *Logprobs  `json:"logprobs"`
	FinishReason string     `json:"finish_reason"`
	TokenIDs     []token.ID `json:"token_ids,omitzero"`
}

// Message is what the model said. Refusal is always null.
type Message struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"` // null beside calls where there is none
	Refusal   *string    `json:"refusal"`
	Reasoning string     `json:"reasoning_content,omitempty"`
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
}

// ToolCall is a function that the model calls.
type ToolCall struct {
	ID       string   `json:"id"`
	Type     string   `json:"type"` // "function"
	Function Function `json:"function"`
}

// Function is which one, and the arguments: JSON as the model wrote it.
type Function struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Chunk is one event of a streamed answer.
type Chunk struct {
	Head
	Choices        []ChunkChoice    `json:"choices"` // none in the usage chunk
	Usage          json.RawMessage  `json:"usage,omitzero"`
	PromptTokenIDs []token.ID       `json:"prompt_token_ids,omitzero"` // in the first chunk
	Note           *turn.Note       `json:"mneme,omitempty"`
	Diagnostics    *ask.Diagnostics `json:"prompt_cache_diagnostics,omitempty"` // where Note is
}

// ChunkChoice is what a chunk adds.
type ChunkChoice struct {
	Index        int        `json:"index"`
	Delta        Delta      `json:"delta"`
	Logprobs     *Logprobs  `json:"logprobs"`
	FinishReason *string    `json:"finish_reason"`
	TokenIDs     []token.ID `json:"token_ids,omitzero"`
}

// Delta is what was said; the first one has the role, the last one is empty.
type Delta struct {
	Role      string          `json:"role,omitempty"`
	Content   *string         `json:"content,omitempty"`
	Reasoning string          `json:"reasoning_content,omitempty"`
	ToolCalls []ToolCallDelta `json:"tool_calls,omitempty"` // one
}

// ToolCallDelta is a call's beginning, which alone has id, type and name, or a
// piece of its arguments.
type ToolCallDelta struct {
	Index    int           `json:"index"`
	ID       string        `json:"id,omitempty"`
	Type     string        `json:"type,omitempty"` // "function"
	Function FunctionDelta `json:"function"`
}

// FunctionDelta is a piece of a Function.
type FunctionDelta struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// Usage is the ledger of an answer. All counts are tokens.
type Usage struct {
	Prompt     int                `json:"prompt_tokens"`
	Completion int                `json:"completion_tokens"` // of all choices
	Total      int                `json:"total_tokens"`
	Details    PromptDetails      `json:"prompt_tokens_details"`
	Generated  *CompletionDetails `json:"completion_tokens_details,omitempty"` // where there was reasoning
}

// PromptDetails splits Usage.Prompt.
type PromptDetails struct {
	Cached int `json:"cached_tokens"` // not computed for this request
}

// CompletionDetails splits Usage.Completion.
type CompletionDetails struct {
	Reasoning int `json:"reasoning_tokens"`
}

func newUsage(u engine.Usage) Usage {
	return Usage{Prompt: u.Prompt, Completion: u.Completion, Total: u.Prompt + u.Completion, Details: PromptDetails{u.Cached}}
}

// raw is u for an answer that may be without.
func (u Usage) raw() json.RawMessage {
	raw, err := json.Marshal(u)
	if err != nil {
		panic("openai: usage does not marshal: " + err.Error())
	}
	return raw
}

// noUsage stands in the chunks before the one with the usage.
var noUsage = json.RawMessage("null")

// Logprobs has one entry for each generated token.
type Logprobs struct {
	Content []TokenLogprob `json:"content"`
	Refusal *string        `json:"refusal"`
}

// TokenLogprob is one generated token and what else was likely.
type TokenLogprob struct {
	likely
	Top []likely `json:"top_logprobs"`
}

// likely is a token with its log probability.
type likely struct {
	Token   string  `json:"token"`
	Logprob float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"` // what the token spells, which may be part of a character
}

// leastLogprob stands for a probability of zero, which JSON cannot write.
const leastLogprob = -9999

// newLikely spells a token; text is spelled as valid UTF-8.
func newLikely(spelled []byte, logprob float64) likely {
	bytes := make([]int, len(spelled))
	for i, b := range spelled {
		bytes[i] = int(b)
	}
	return likely{token.ValidText(string(spelled)), max(logprob, leastLogprob), bytes}
}
