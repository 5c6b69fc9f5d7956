package responses

import (
	"encoding/json"

	"mneme/internal/api/openai/ask"
	"mneme/internal/api/turn"
	"mneme/internal/engine"
)

// Response is what the outside reads of one.
type Response struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"` // "response"
	Created       int64             `json:"created_at"`
	Status        string            `json:"status"`
	Background    bool              `json:"background"`
	Error         *Failure          `json:"error"`
	Incomplete    *Incomplete       `json:"incomplete_details"`
	Instructions  *string           `json:"instructions"`
	MaxTokens     *int              `json:"max_output_tokens"`
	Model         string            `json:"model"`
	Output        []any             `json:"output"` // items
	ParallelCalls bool              `json:"parallel_tool_calls"`
	Previous      *string           `json:"previous_response_id"`
	Conversation  *Ref              `json:"conversation,omitempty"`
	CacheKey      string            `json:"prompt_cache_key,omitempty"`
	Reasoning     json.RawMessage   `json:"reasoning"`
	ServiceTier   string            `json:"service_tier"` // "default"
	Store         bool              `json:"store"`
	Temperature   float64           `json:"temperature"`
	Text          json.RawMessage   `json:"text"`
	ToolChoice    json.RawMessage   `json:"tool_choice"`
	Tools         []json.RawMessage `json:"tools"`
	TopP          float64           `json:"top_p"`
	Truncation    string            `json:"truncation"` // "disabled": nothing is dropped
	Usage         *Usage            `json:"usage"`
	Metadata      json.RawMessage   `json:"metadata"`
	Note          *turn.Note        `json:"mneme,omitempty"`
	// Diagnostics are there where the request asked for them.
	Diagnostics *ask.Diagnostics `json:"prompt_cache_diagnostics,omitempty"`
}

// The statuses of a response and its items.
const (
	inProgress = "in_progress"
	completed  = "completed"
	incomplete = "incomplete"
	failed     = "failed"
)

// Ref names a conversation.
type Ref struct {
	ID string `json:"id"`
}

// Failure is why a response failed.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Incomplete is why a response ends early.
type Incomplete struct {
	Reason string `json:"reason"` // "max_output_tokens"
}

// Usage is a turn's ledger, in tokens.
type Usage struct {
	Input         int           `json:"input_tokens"`
	InputDetails  InputDetails  `json:"input_tokens_details"`
	Output        int           `json:"output_tokens"`
	OutputDetails OutputDetails `json:"output_tokens_details"`
	Total         int           `json:"total_tokens"`
}

// InputDetails splits Usage.Input.
type InputDetails struct {
	Cached int `json:"cached_tokens"` // not computed for this request
}

// OutputDetails splits Usage.Output.
type OutputDetails struct {
	Reasoning int `json:"reasoning_tokens"`
}

func newUsage(u engine.Usage, thought int) *Usage {
	return &Usage{u.Prompt, InputDetails{u.Cached}, u.Completion, OutputDetails{thought}, u.Prompt + u.Completion}
}

// messageItem is a text in a conversation.
type messageItem struct {
	ID      string     `json:"id,omitempty"`
	Type    string     `json:"type"` // "message"
	Status  string     `json:"status,omitempty"`
	Role    string     `json:"role"`
	Content []textPart `json:"content"`
}

// textPart is a piece of it: input_text, output_text or reasoning_text.
type textPart struct {
	Type        string `json:"type"`
	Text        string `json:"text"`
	Annotations []any  `json:"annotations,omitzero"` // of output_text: none
	Logprobs    []any  `json:"logprobs,omitzero"`    // of output_text: none
}

func outputText(text string) textPart {
	return textPart{Type: "output_text", Text: text, Annotations: []any{}, Logprobs: []any{}}
}

func userText(text string) messageItem {
	return messageItem{Type: "message", Role: "user", Content: []textPart{{Type: "input_text", Text: text}}}
}

// callItem is a function that the model calls.
type callItem struct {
	ID        string `json:"id"`
	Type      string `json:"type"` // "function_call"
	Status    string `json:"status"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"` // JSON as the model wrote it
}

// reasoningItem is what the model thought.
type reasoningItem struct {
	ID      string     `json:"id"`
	Type    string     `json:"type"` // "reasoning"
	Summary []any      `json:"summary"`
	Content []textPart `json:"content,omitempty"`
	Sealed  string     `json:"encrypted_content,omitempty"`
}

// newResponse is a response that has just begun.
func newResponse(d *turn.Desk, r *Request) *Response {
	answer := &Response{
		ID: "resp_" + d.NewID(), Object: "response", Created: d.Now().Unix(), Status: inProgress,
		Instructions: r.Echo.Instructions, MaxTokens: r.Echo.MaxTokens, Model: d.Engine.Info().Model, Output: []any{},
		ParallelCalls: !r.Choice.Single, CacheKey: r.Names.CacheKey, Reasoning: r.Echo.Reasoning, ServiceTier: "default", Store: r.Store,
		Temperature: r.Sampling.Temperature, Text: r.Echo.Text, ToolChoice: r.Echo.Choice, Tools: r.Echo.Tools, TopP: r.Sampling.TopP,
		Truncation: "disabled", Metadata: r.Echo.Metadata,
	}
	if r.Names.Conversation != "" {
		answer.Conversation = &Ref{r.Names.Conversation}
	}
	return answer
}
