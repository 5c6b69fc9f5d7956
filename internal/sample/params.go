// Package sample picks the next token from a model's logits, and ends texts at
// stop strings.
//
// It knows penalties, filters, seeded randomness and log-probabilities. A choice
// depends on the logits, the history, the parameters and the position alone:
// there is no hidden state, so a turn that is repeated, resumed or batched with
// others gives the same tokens. It leaves computing logits to model, end tokens
// to token, and when to stop for length to engine.
package sample

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"mneme/internal/token"
)

// Params says how tokens are picked. Defaults leaves the model's distribution
// as it is.
type Params struct {
	Temperature       float64 // 0: always the likeliest token
	TopK              int     // keep the k likeliest; 0 and -1: all
	TopP              float64 // keep the fewest whose mass reaches it, at least one; 1: all
	MinP              float64 // keep those with at least this part of the likeliest's probability; 0: all
	RepetitionPenalty float64 // divides (or multiplies, below zero) logits of tokens in prompt and answer; 1: none
	PresencePenalty   float64 // subtracted once for tokens in the answer; 0: none
	FrequencyPenalty  float64 // subtracted for each time a token is in the answer; 0: none
	LogitBias         map[token.ID]float64
	Seed              uint64
	Logprobs          int // alternatives to report with each token; -1: no logprobs at all
}

// Defaults are the parameters of a request that sets none.
func Defaults() Params {
	return Params{Temperature: 1, TopP: 1, RepetitionPenalty: 1, Logprobs: -1}
}

// ParamError is a parameter that the client has to change.
type ParamError struct{ Field, Problem string }

func (e *ParamError) Error() string { return e.Field + ": " + e.Problem }

// Check refuses what is out of range or not a number, as a *ParamError that
// names the field as the API spells it.
func (p Params) Check() error {
	for _, f := range []struct {
		name      string
		value     float64
		low, high float64
		open      bool // low itself is out of range
	}{
		{"temperature", p.Temperature, 0, 2, false},
		{"top_p", p.TopP, 0, 1, false},
		{"min_p", p.MinP, 0, 1, false},
		{"repetition_penalty", p.RepetitionPenalty, 0, 10, true},
		{"presence_penalty", p.PresencePenalty, -2, 2, false},
		{"frequency_penalty", p.FrequencyPenalty, -2, 2, false},
	} {
		if err := checkRange(f.name, f.value, f.low, f.high, f.open); err != nil {
			return err
		}
	}
	if p.TopK < -1 {
		return &ParamError{"top_k", fmt.Sprintf("%d is less than -1, which stands for all", p.TopK)}
	}
	if p.Logprobs < -1 || p.Logprobs > maxLogprobs {
		return &ParamError{"top_logprobs", fmt.Sprintf("%d is not within 0 to %d", p.Logprobs, maxLogprobs)}
	}
	return p.checkBias()
}

const maxLogprobs = 20

func (p Params) checkBias() error {
	for _, id := range slices.Sorted(maps.Keys(p.LogitBias)) {
		if id < 0 {
			return &ParamError{"logit_bias", fmt.Sprintf("%d is no token", id)}
		}
		name := fmt.Sprintf("logit_bias[%d]", id)
		if err := checkRange(name, p.LogitBias[id], -100, 100, false); err != nil {
			return err
		}
	}
	return nil
}

func checkRange(name string, v, low, high float64, open bool) error {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return &ParamError{name, fmt.Sprintf("%v is not a finite number", v)}
	case open && v <= low:
		return &ParamError{name, fmt.Sprintf("%v is not above %v and at most %v", v, low, high)}
	case v < low || v > high:
		return &ParamError{name, fmt.Sprintf("%v is not within %v to %v", v, low, high)}
	}
	return nil
}

// adjusts tells whether logits change before they are compared.
func (p Params) adjusts() bool {
	return p.RepetitionPenalty != 1 || p.PresencePenalty != 0 || p.FrequencyPenalty != 0 || len(p.LogitBias) > 0
}
