package openai

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"mneme/internal/chat"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// Limits of a chat request.
const (
	maxStops       = 16
	maxStopBytes   = 4096
	maxTopLogprobs = 20
	maxInt         = math.MaxInt32
)

// Chat is a decoded POST /v1/chat/completions.
type Chat struct {
	Model          string // "" when omitted
	Messages       []chat.Message
	Sampling       sample.Params
	Seeded         bool // the request chose its seed
	MaxTokens      int  // 0 when not given
	Stop           []string
	IgnoreEOS      bool
	Stream         bool
	IncludeUsage   bool
	Logprobs       bool
	ReturnTokenIDs bool
}

// DecodeChat reads a chat request of a model with vocab tokens. Unknown
// members are ignored, as the vendor does; what this version cannot do is
// refused. Every error is an *Error.
func DecodeChat(body []byte, vocab int) (Chat, error) {
	o, err := Parse(body)
	if err != nil {
		return Chat{}, err
	}
	c := Chat{
		Model:          o.Text("model", ""),
		Messages:       messages(o),
		MaxTokens:      maxTokens(o),
		Stop:           stops(o),
		IgnoreEOS:      o.Bool("ignore_eos", false),
		Stream:         o.Bool("stream", false),
		Logprobs:       o.Bool("logprobs", false),
		ReturnTokenIDs: o.Bool("return_token_ids", false),
		Seeded:         o.Has("seed"),
	}
	c.IncludeUsage = includeUsage(o, c.Stream)
	c.Sampling = sampling(o, vocab)
	c.Sampling.Logprobs = alternatives(o, c.Logprobs)
	refuseUnsupported(o)
	if err := o.Err(); err != nil {
		return Chat{}, err
	}
	return c, checked(c.Sampling)
}

// checked is what sample itself has to say about p.
func checked(p sample.Params) error {
	var at *sample.ParamError
	err := p.Check()
	if errors.As(err, &at) {
		return Invalid(at.Field, "%v", at)
	}
	return err
}

// sampling reads everything that shapes the choice of a token.
func sampling(o *Object, vocab int) sample.Params {
	p := sample.Defaults()
	p.Temperature = o.Number("temperature", p.Temperature, 0, 2)
	p.TopP = o.Number("top_p", p.TopP, 0, 1)
	p.MinP = o.Number("min_p", p.MinP, 0, 1)
	p.TopK = int(o.Int("top_k", int64(p.TopK), -1, maxInt))
	p.PresencePenalty = o.Number("presence_penalty", p.PresencePenalty, -2, 2)
	p.FrequencyPenalty = o.Number("frequency_penalty", p.FrequencyPenalty, -2, 2)
	p.RepetitionPenalty = o.Number("repetition_penalty", p.RepetitionPenalty, 0, 10)
	p.Seed = uint64(o.Int("seed", 0, math.MinInt64, math.MaxInt64))
	p.LogitBias = logitBias(o, vocab)
	return p
}

// logitBias reads {"<token id>": bias}.
func logitBias(o *Object, vocab int) map[token.ID]float64 {
	b := o.Sub("logit_bias")
	if b == nil {
		return nil
	}
	bias := make(map[token.ID]float64, len(b.fields))
	for key := range b.fields {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || id >= int64(vocab) {
			o.Refuse(o.At("logit_bias"), "must name token ids from 0 to "+strconv.Itoa(vocab-1)+", not "+strconv.Quote(clip(key)))
			return nil
		}
		bias[token.ID(id)] = b.Number(key, 0, -100, 100)
	}
	return bias
}

// alternatives is what sample.Params.Logprobs wants: -1 for none.
func alternatives(o *Object, logprobs bool) int {
	n := int(o.Int("top_logprobs", 0, 0, maxTopLogprobs))
	if logprobs {
		return n
	}
	if o.Has("top_logprobs") && n > 0 {
		o.Refuse("top_logprobs", "needs logprobs to be true")
	}
	return -1
}

// maxTokens reads the newer name, then the older one; 0 when neither is there.
func maxTokens(o *Object) int {
	older := o.Int("max_tokens", 0, 1, maxInt)
	newer := o.Int("max_completion_tokens", older, 1, maxInt)
	if older != 0 && newer != older {
		o.Refuse("max_tokens", "and max_completion_tokens differ; send one of them")
	}
	return int(newer)
}

// stops reads a string or a list of strings.
func stops(o *Object) []string {
	list, isList := o.fields["stop"].([]any)
	if !isList {
		if !o.Has("stop") {
			return nil
		}
		return []string{o.stop(o.At("stop"), o.fields["stop"])}
	}
	if len(list) > maxStops {
		o.Refuse("stop", "may hold at most "+strconv.Itoa(maxStops)+" strings, not "+strconv.Itoa(len(list)))
	}
	var stops []string
	for i, v := range list {
		stops = append(stops, o.stop(o.element("stop", i), v))
	}
	return stops
}

func (o *Object) stop(path string, v any) string {
	s, ok := v.(string)
	switch {
	case !ok:
		o.Refuse(path, "must be a string, not "+kindOf(v))
	case s == "":
		o.Refuse(path, "must not be empty")
	case len(s) > maxStopBytes:
		o.Refuse(path, "must have at most "+strconv.Itoa(maxStopBytes)+" bytes, not "+strconv.Itoa(len(s)))
	}
	return s
}

func includeUsage(o *Object, stream bool) bool {
	s := o.Sub("stream_options")
	if s == nil {
		return false
	}
	if !stream {
		o.Refuse("stream_options", "is allowed only when stream is true")
	}
	return s.Bool("include_usage", false)
}

// refuseUnsupported answers clearly where the vendor has more than we do.
func refuseUnsupported(o *Object) {
	if o.Int("n", 1, 1, maxInt) != 1 {
		o.Refuse("n", "must be 1: this version gives one choice")
	}
	for _, key := range []string{"tools", "functions"} {
		if len(o.List(key)) > 0 {
			o.Refuse(key, "must be absent or empty: tools are not supported by this version")
		}
	}
	refuseToolChoice(o)
	if f := o.Sub("response_format"); f != nil && f.Text("type", "text") != "text" {
		o.Refuse("response_format.type", `must be "text": other formats are not supported by this version`)
	}
}

func refuseToolChoice(o *Object) {
	if !o.Has("tool_choice") {
		return
	}
	switch o.fields["tool_choice"] {
	case "none", "auto":
	default:
		o.Refuse("tool_choice", `must be absent, "none" or "auto": tools are not supported by this version`)
	}
}

// messages reads the conversation.
func messages(o *Object) []chat.Message {
	o.Require("messages")
	list := o.List("messages")
	if len(list) == 0 {
		o.Refuse("messages", "must hold at least one message")
	}
	messages := make([]chat.Message, len(list))
	for i, v := range list {
		messages[i] = message(o.object(o.element("messages", i), v))
	}
	return messages
}

// roles maps the roles of the wire to those that templates know.
var roles = map[string]string{
	"system":    "system",
	"developer": "system",
	"user":      "user",
	"assistant": "assistant",
	"tool":      "tool",
}

func message(o *Object) chat.Message {
	o.Require("role")
	name := o.Text("role", "user")
	role, known := roles[name]
	if !known {
		o.Refuse(o.At("role"), "must be one of system, developer, user, assistant, tool, not "+strconv.Quote(clip(name)))
	}
	if o.Has("tool_calls") && len(o.List("tool_calls")) > 0 {
		o.Refuse(o.At("tool_calls"), "must be absent or empty: tools are not supported by this version")
	}
	return chat.Message{Role: role, Content: content(o), Name: o.Text("name", "")}
}

// content reads a string, or a list of text parts, which lines up as lines.
func content(o *Object) string {
	o.Require("content")
	parts, isList := o.fields["content"].([]any)
	if !isList {
		return contentText(o)
	}
	if len(parts) == 0 {
		o.Refuse(o.At("content"), "must hold at least one part")
	}
	texts := make([]string, len(parts))
	for i, v := range parts {
		texts[i] = part(o.object(o.element("content", i), v))
	}
	return strings.Join(texts, "\n")
}

func contentText(o *Object) string {
	s, ok := o.fields["content"].(string)
	if !ok {
		o.Refuse(o.At("content"), "must be a string or a list of text parts, not "+kindOf(o.fields["content"]))
	}
	return s
}

func part(o *Object) string {
	o.Require("type")
	if kind := o.Text("type", "text"); kind != "text" {
		o.Refuse(o.At("type"), `must be "text", not `+strconv.Quote(clip(kind))+": this model reads text only, no images, audio or files")
	}
	o.Require("text")
	return o.Text("text", "")
}
