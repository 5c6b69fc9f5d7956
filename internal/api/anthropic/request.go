package anthropic

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"mneme/internal/api/fields"
	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/sample"
)

// Limits of a request.
const (
	maxStops     = 16
	maxStopBytes = 1024
	maxInt       = math.MaxInt32
)

// Purpose is what a request is read for.
type Purpose uint8

const (
	Answer   Purpose = iota // max_tokens is required
	Counting                // of its tokens only
)

// Settings are the server's.
type Settings struct{ Billing BillingLine }

// Messages is a decoded POST /v1/messages or /v1/messages/count_tokens.
type Messages struct {
	turn.Ask
	Model   string // "" when omitted
	Names   wire.Names
	Stream  bool
	Talk    talk.Request
	Prefill string // what the answer begins with; the model goes on from there
	Earlier string // the answer whose conversation this one is compared with; "" for none
	Mark    Mark
	// Stripped names the volatile lines that are left out of the prompt.
	Stripped []string
}

// Decode reads a request. Unknown members are ignored, as the vendor does for
// those of betas. Every error is a *fields.Error.
func Decode(body []byte, p Purpose, s Settings) (Messages, error) {
	o, err := fields.Parse(body)
	if err != nil {
		return Messages{}, err
	}
	top := newNode(o, body)
	m := Messages{Ask: asked(o), Model: o.Text("model", ""), Names: names(o), Stream: o.Bool("stream", false), Earlier: earlier(o)}
	if p == Answer {
		o.Require("max_tokens")
		m.MaxTokens = int(o.Int("max_tokens", 1, 1, maxInt))
	}
	c := conversation{settings: s}
	c.readTools(top)
	c.readSystem(top)
	c.readMessages(top)
	m.Talk = talk.Request{Messages: c.messages, Tools: c.tools, Choice: choice(o), Format: format(top), Variables: variables(o)}
	m.Prefill, m.Mark, m.Stripped = c.prefill, c.mark, c.stripped
	if err := o.Err(); err != nil {
		return Messages{}, err
	}
	return m, checked(m.Sampling)
}

// names are what a request says about whose it is.
func names(o *fields.Object) wire.Names {
	n := wire.Names{Session: o.Text("session_id", "")}
	if m := o.Sub("metadata"); m != nil {
		n.User = m.Text("user_id", "")
	}
	return n
}

// asked reads what shapes the choice of a token, and where the turn ends.
func asked(o *fields.Object) turn.Ask {
	p := sample.Defaults()
	p.Temperature = o.Number("temperature", p.Temperature, 0, 1)
	p.TopP = o.Number("top_p", p.TopP, 0, 1)
	p.TopK = int(o.Int("top_k", int64(p.TopK), 0, maxInt))
	p.MinP = o.Number("min_p", p.MinP, 0, 1)
	p.RepetitionPenalty = o.Number("repetition_penalty", p.RepetitionPenalty, 0, 10)
	p.Seed = uint64(o.Int("seed", 0, math.MinInt64, math.MaxInt64))
	return turn.Ask{Sampling: p, Seeded: o.Has("seed"), Stop: stops(o), IgnoreEOS: o.Bool("ignore_eos", false), Priority: int(o.Int("priority", 0, engine.MinPriority, engine.MaxPriority))}
}

// checked is what sample itself has to say about p.
func checked(p sample.Params) error {
	var at *sample.ParamError
	err := p.Check()
	if errors.As(err, &at) {
		return fields.Invalid(at.Field, "%v", at)
	}
	return err
}

func stops(o *fields.Object) []string {
	return o.Texts("stop_sequences", o.List("stop_sequences"), maxStops, maxStopBytes)
}

// variables are what templates ask for: whether the model thinks, and how much.
func variables(o *fields.Object) map[string]json.RawMessage {
	v := map[string]json.RawMessage{"enable_thinking": json.RawMessage(strconv.FormatBool(thinks(o)))}
	if c := o.Sub("output_config"); c != nil && c.Has("effort") {
		v["reasoning_effort"] = effort(c)
	}
	return v
}

func thinks(o *fields.Object) bool {
	t := o.Sub("thinking")
	if t == nil {
		return false
	}
	t.Require("type")
	switch kind := t.Text("type", "disabled"); kind {
	case "enabled", "adaptive":
		return true
	case "disabled":
	default:
		t.Refuse(t.At("type"), "must be one of enabled, adaptive, disabled, not "+strconv.Quote(fields.Clip(kind)))
	}
	return false
}

// effort is one of the three that templates know.
func effort(c *fields.Object) json.RawMessage {
	switch c.Text("effort", "") {
	case "low":
		return json.RawMessage(`"low"`)
	case "medium":
		return json.RawMessage(`"medium"`)
	}
	return json.RawMessage(`"high"`)
}

// format is the shape that the answer must have.
func format(top node) talk.Format {
	f := top.sub("output_format") // as the beta had it
	if c := top.sub("output_config"); c.Object != nil && c.Has("format") {
		f = c.sub("format")
	}
	if f.Object == nil {
		return talk.Format{}
	}
	if kind := f.Text("type", ""); kind != "json_schema" {
		f.Refuse(f.At("type"), `must be "json_schema", not `+strconv.Quote(fields.Clip(kind)))
	}
	return talk.Format{Shape: talk.JSONSchema, Schema: f.object("schema"), Strict: true}
}
