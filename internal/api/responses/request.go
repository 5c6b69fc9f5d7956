package responses

import (
	"encoding/json"
	"slices"
	"strconv"

	"mneme/internal/api/fields"
	"mneme/internal/api/openai/ask"
	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
)

// Request is a decoded POST /v1/responses.
type Request struct {
	turn.Ask
	Model        string // "" when omitted
	Instructions string
	Items        []Item          // the input
	Input        json.RawMessage // the same as a list of JSON
	Tools        []talk.Tool
	Choice       talk.Choice
	Format       talk.Format
	Variables    map[string]json.RawMessage
	Names        wire.Names
	Stream       bool
	Store        bool
	Sealed       bool   // reasoning items carry what a client can send back
	Earlier      string // the answer whose conversation this one is compared with; "" for none
	Echo         Echo
}

// Echo is what a response repeats of its request.
type Echo struct {
	Instructions *string
	MaxTokens    *int
	Tools        []json.RawMessage // those that can be called
	Choice       json.RawMessage
	Text         json.RawMessage
	Reasoning    json.RawMessage
	Metadata     json.RawMessage
}

// sealedReasoning is what include asks for to have reasoning items carry their
// text.
const sealedReasoning = "reasoning.encrypted_content"

// Decode reads a request to a model with vocab tokens. Members that are unknown,
// and tools that run elsewhere, are ignored. Every error is a *fields.Error.
func Decode(body []byte, vocab int) (Request, error) {
	o, err := fields.Parse(body)
	if err != nil {
		return Request{}, err
	}
	r := Request{
		Ask:          ask.Turn(o, vocab),
		Model:        o.Text("model", ""),
		Instructions: o.Text("instructions", ""),
		Names:        ask.Names(o),
		Stream:       o.Bool("stream", false),
		Store:        o.Bool("store", true),
		Sealed:       slices.Contains(o.List("include"), any(sealedReasoning)),
		Earlier:      ask.Earlier(o),
		Echo:         echo(o),
	}
	r.MaxTokens = int(o.Int("max_output_tokens", 0, 1, ask.MaxInt))
	r.Sampling.Logprobs = -1
	r.input(o)
	r.talk(o)
	refuseElsewhere(o)
	if err := o.Err(); err != nil {
		return Request{}, err
	}
	return r, ask.Checked(r.Sampling)
}

// input reads a text or a list of items.
func (r *Request) input(o *fields.Object) {
	o.Require("input")
	if text, ok := o.Value("input").(string); ok {
		r.Items = []Item{{kind: message, role: "user", text: text}}
		r.Input, _ = json.Marshal([]messageItem{userText(text)}) // texts only
		return
	}
	r.Items, r.Input = items(o, "input"), o.Raw("input")
}

// talk reads what the answer may be.
func (r *Request) talk(o *fields.Object) {
	for _, t := range o.Objects("tools") {
		if t.Text("type", "function") == "function" {
			r.Tools = append(r.Tools, ask.Function(t))
		}
	}
	ask.Unique(o, r.Tools)
	r.Choice = choice(o)
	if text := o.Sub("text"); text != nil {
		r.Format = ask.Format(text.Sub("format"))
	}
	effort := ""
	if reasoning := o.Sub("reasoning"); reasoning != nil {
		effort = reasoning.Text("effort", "")
	}
	r.Variables = ask.Variables(o, effort)
}

// choice leaves the choice of a tool that runs elsewhere to the model.
func choice(o *fields.Object) talk.Choice {
	if c, ok := o.Value("tool_choice").(map[string]any); ok {
		if kind, isText := c["type"].(string); isText && kind != "function" {
			return talk.Choice{Single: !o.Bool("parallel_tool_calls", true)}
		}
	}
	return ask.Choice(o)
}

// refuseElsewhere says clearly what cannot be done here.
func refuseElsewhere(o *fields.Object) {
	if o.Bool("background", false) {
		o.Refuse("background", "must be false: a response is made while its request waits")
	}
	if o.Has("prompt") {
		o.Refuse("prompt", "must be absent: this server keeps no prompts; send input")
	}
	if o.Has("conversation") && o.Has("previous_response_id") {
		o.Refuse("previous_response_id", "and conversation exclude each other: both say what came before")
	}
	switch t := o.Text("truncation", "disabled"); t {
	case "disabled", "auto":
	default:
		o.Refuse("truncation", "must be disabled or auto, not "+strconv.Quote(fields.Clip(t)))
	}
}

func echo(o *fields.Object) Echo {
	e := Echo{
		Tools:     []json.RawMessage{},
		Choice:    rawOr(o, "tool_choice", `"auto"`),
		Text:      objectOr(o, "text", `{"format":{"type":"text"}}`),
		Reasoning: objectOr(o, "reasoning", `{"effort":null,"summary":null}`),
		Metadata:  objectOr(o, "metadata", `{}`),
	}
	if o.Has("instructions") {
		text := o.Text("instructions", "")
		e.Instructions = &text
	}
	if n := int(o.Int("max_output_tokens", 0, 1, ask.MaxInt)); n > 0 {
		e.MaxTokens = &n
	}
	var tools []json.RawMessage
	_ = json.Unmarshal(o.Raw("tools"), &tools) // none, or read before
	for i, t := range o.Objects("tools") {
		if t.Text("type", "function") == "function" && i < len(tools) {
			e.Tools = append(e.Tools, tools[i])
		}
	}
	return e
}

// objectOr is a member that must be an object, as it was written.
func objectOr(o *fields.Object, key, fallback string) json.RawMessage {
	if raw := o.RawObject(key); raw != nil {
		return raw
	}
	return json.RawMessage(fallback)
}

func rawOr(o *fields.Object, key, fallback string) json.RawMessage {
	if raw := o.Raw(key); raw != nil {
		return raw
	}
	return json.RawMessage(fallback)
}
