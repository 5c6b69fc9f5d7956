package openai

import (
	"encoding/json"

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
	ObjectCompletion = "chat.completion"
	ObjectChunk      = "chat.completion.chunk"
)

// Completion is the whole answer of a request that does not stream.
type Completion struct {
	Head
	Choices        []Choice   `json:"choices"`
	Usage          Usage      `json:"usage"`
	PromptTokenIDs []token.ID `json:"prompt_token_ids,omitzero"`
	Note           *Note      `json:"mneme,omitempty"`
}

// Choice is the one answer in a Completion.
type Choice struct {
	Index        int        `json:"index"`
	Message      Message    `json:"message"`
	Logprobs     *Logprobs  `json:"logprobs"`
	FinishReason string     `json:"finish_reason"`
	TokenIDs     []token.ID `json:"token_ids,omitzero"`
}

// Message is what the model said. Refusal is always null.
type Message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

// Chunk is one event of a streamed answer.
type Chunk struct {
	Head
	Choices        []ChunkChoice   `json:"choices"` // none in the usage chunk
	Usage          json.RawMessage `json:"usage,omitzero"`
	PromptTokenIDs []token.ID      `json:"prompt_token_ids,omitzero"` // in the first chunk
	Note           *Note           `json:"mneme,omitempty"`
}

// ChunkChoice is what a chunk adds.
type ChunkChoice struct {
	Index        int        `json:"index"`
	Delta        Delta      `json:"delta"`
	Logprobs     *Logprobs  `json:"logprobs"`
	FinishReason *string    `json:"finish_reason"`
	TokenIDs     []token.ID `json:"token_ids,omitzero"`
}

// Delta is new text; the first one has the role, the last one is empty.
type Delta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

// Usage is a turn's ledger. All counts are tokens.
type Usage struct {
	Prompt     int           `json:"prompt_tokens"`
	Completion int           `json:"completion_tokens"`
	Total      int           `json:"total_tokens"`
	Details    PromptDetails `json:"prompt_tokens_details"`
}

// PromptDetails splits Usage.Prompt.
type PromptDetails struct {
	Cached int `json:"cached_tokens"` // not computed for this request
}

// NewUsage fills in the total.
func NewUsage(prompt, cached, completion int) Usage {
	return Usage{prompt, completion, prompt + completion, PromptDetails{cached}}
}

// Raw is u for a Chunk.
func (u Usage) Raw() json.RawMessage {
	raw, err := json.Marshal(u)
	if err != nil {
		panic("openai: usage does not marshal: " + err.Error())
	}
	return raw
}

// NoUsage stands in the chunks before the one with the usage.
var NoUsage = json.RawMessage("null")

// Note is ours: what went wrong beside an answer that is itself complete.
type Note struct {
	PublishError string `json:"publish_error"`
}

// Logprobs has one entry for each generated token.
type Logprobs struct {
	Content []TokenLogprob `json:"content"`
	Refusal *string        `json:"refusal"`
}

// TokenLogprob is one generated token and what else was likely.
type TokenLogprob struct {
	Likely
	Top []Likely `json:"top_logprobs"`
}

// Likely is a token with its log probability.
type Likely struct {
	Token   string  `json:"token"`
	Logprob float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"` // what the token spells, which may be part of a character
}

// leastLogprob stands for a probability of zero, which JSON cannot write.
const leastLogprob = -9999

// NewLikely spells a token; text is spelled as valid UTF-8.
func NewLikely(spelled []byte, logprob float64) Likely {
	bytes := make([]int, len(spelled))
	for i, b := range spelled {
		bytes[i] = int(b)
	}
	return Likely{token.ValidText(string(spelled)), max(logprob, leastLogprob), bytes}
}

// Model is one entry of GET /v1/models.
type Model struct {
	ID      string    `json:"id"`
	Object  string    `json:"object"` // "model"
	Created int64     `json:"created"`
	OwnedBy string    `json:"owned_by"`
	Mneme   ModelNote `json:"mneme"`
}

// ModelNote is what mneme adds to a model.
type ModelNote struct {
	KVBytesPerToken int    `json:"kv_bytes_per_token"`
	Context         int    `json:"context"` // tokens
	KVFormat        string `json:"kv_format"`
	Fingerprint     string `json:"fingerprint"`
}

// List wraps the entries of a listing.
type List[T any] struct {
	Object string `json:"object"` // "list"
	Data   []T    `json:"data"`
}

// NewList never has null for its data.
func NewList[T any](data []T) List[T] {
	if data == nil {
		data = []T{}
	}
	return List[T]{"list", data}
}
