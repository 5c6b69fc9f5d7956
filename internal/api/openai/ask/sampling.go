package ask

import (
	"errors"
	"math"
	"strconv"

	"mneme/internal/api/fields"
	"mneme/internal/api/turn"
	"mneme/internal/engine"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// Limits of a request.
const (
	maxStops       = 16
	maxStopBytes   = 4096
	MaxTopLogprobs = 20
	MaxInt         = math.MaxInt32 // of counts that have no other bound
)

// Turn reads what requests of all kinds say about their turn.
func Turn(o *fields.Object, vocab int) turn.Ask {
	return turn.Ask{
		Sampling:  sampling(o, vocab),
		Seeded:    o.Has("seed"),
		Stop:      stops(o),
		IgnoreEOS: o.Bool("ignore_eos", false),
		Priority:  int(o.Int("priority", 0, engine.MinPriority, engine.MaxPriority)),
	}
}

// Checked is what sample itself has to say about p.
func Checked(p sample.Params) error {
	var at *sample.ParamError
	err := p.Check()
	if errors.As(err, &at) {
		return fields.Invalid(at.Field, "%v", at)
	}
	return err
}

// sampling reads everything that shapes the choice of a token.
func sampling(o *fields.Object, vocab int) sample.Params {
	p := sample.Defaults()
	p.Temperature = o.Number("temperature", p.Temperature, 0, 2)
	p.TopP = o.Number("top_p", p.TopP, 0, 1)
	p.MinP = o.Number("min_p", p.MinP, 0, 1)
	p.TopK = int(o.Int("top_k", int64(p.TopK), -1, MaxInt))
	p.PresencePenalty = o.Number("presence_penalty", p.PresencePenalty, -2, 2)
	p.FrequencyPenalty = o.Number("frequency_penalty", p.FrequencyPenalty, -2, 2)
	p.RepetitionPenalty = o.Number("repetition_penalty", p.RepetitionPenalty, 0, 10)
	p.Seed = uint64(o.Int("seed", 0, math.MinInt64, math.MaxInt64))
	p.LogitBias = logitBias(o, vocab)
	return p
}

// logitBias reads {"<token id>": bias}.
func logitBias(o *fields.Object, vocab int) map[token.ID]float64 {
	b := o.Sub("logit_bias")
	if b == nil {
		return nil
	}
	keys := b.Keys()
	bias := make(map[token.ID]float64, len(keys))
	for _, key := range keys {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 || id >= int64(vocab) {
			o.Refuse(o.At("logit_bias"), "must name token ids from 0 to "+strconv.Itoa(vocab-1)+", not "+strconv.Quote(fields.Clip(key)))
			return nil
		}
		bias[token.ID(id)] = b.Number(key, 0, -100, 100)
	}
	return bias
}

// stops reads a string or a list of strings.
func stops(o *fields.Object) []string {
	list, isList := o.Value("stop").([]any)
	if !isList {
		if !o.Has("stop") {
			return nil
		}
		return []string{o.ShortText(o.At("stop"), o.Value("stop"), maxStopBytes)}
	}
	return o.Texts(o.At("stop"), list, maxStops, maxStopBytes)
}
