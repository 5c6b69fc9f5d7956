package sample

import (
	"errors"
	"math"

	"mneme/internal/token"
)

// ErrNoToken says that every logit is NaN or minus infinity.
var ErrNoToken = errors.New("sample: no token has a usable logit")

// Choice is the token picked, with what the model thought of it.
type Choice struct {
	ID      token.ID
	Logprob float64       // 0 without Params.Logprobs
	Top     []Alternative // the likeliest first; at most Params.Logprobs
}

// Alternative is a token with its log-probability.
type Alternative struct {
	ID      token.ID
	Logprob float64
}

// Sampler picks tokens by one set of parameters.
//   - Its buffers are working memory, not state: Next is a function of its
//     arguments, and of where its constraint stands. One goroutine at a time.
//   - After the first call a step allocates nothing without logprobs.
type Sampler struct {
	params  Params
	values  []float64 // [vocabulary] adjusted logits
	counts  []int32   // [vocabulary] zero between calls
	ranking ranking
	within  Constraint // nil: anything goes
	masked  []float32  // [vocabulary]
}

// Constraint says which tokens may come next.
type Constraint interface {
	Allows(token.ID) bool
	Mask() []uint64 // a bit for each id; not changed by who reads it
	Take(token.ID)  // it has come
}

// Within holds the sampler's tokens to a constraint, which moves with each that
// Next picks.
func (s *Sampler) Within(c Constraint) *Sampler {
	s.within = c
	return s
}

// New takes parameters that Check accepts.
func New(p Params) *Sampler { return &Sampler{params: p} }

// Next picks the token at absolute position pos. history is the prompt, of
// promptLen tokens, and the answer so far. logits, [vocabulary], is only read;
// a NaN counts as minus infinity, and such tokens are never picked. In this
// order: penalties and bias, temperature, top_k, top_p, min_p, one random number
// from (Seed, pos). Of equal tokens the lower id goes first.
func (s *Sampler) Next(logits []float32, pos int, history []token.ID, promptLen int) (Choice, error) {
	id := s.pick(logits, pos, history, promptLen)
	if s.within != nil {
		if id == token.None || !s.within.Allows(id) {
			id = s.pickAllowed(logits, pos, history, promptLen)
		}
		if id != token.None {
			s.within.Take(id)
		}
	}
	if id == token.None {
		return Choice{}, ErrNoToken
	}
	choice := Choice{ID: id}
	if s.params.Logprobs >= 0 {
		choice.Logprob, choice.Top = Logprobs(logits, id, s.params.Logprobs)
	}
	return choice, nil
}

// pickAllowed picks among the tokens that the constraint allows. It comes after a
// pick that it did not allow: together they are one from what is allowed, each
// with its share, for the second draws a random number of its own.
func (s *Sampler) pickAllowed(logits []float32, pos int, history []token.ID, promptLen int) token.ID {
	s.masked = append(s.masked[:0], logits...)
	mask := s.within.Mask()
	for i := range s.masked {
		if mask[i>>6]>>(i&63)&1 == 0 {
			s.masked[i] = float32(math.Inf(-1))
		}
	}
	const second = 1 << 40 // positions are below it
	return s.pick(s.masked, pos+second, history, promptLen)
}

func (s *Sampler) pick(logits []float32, pos int, history []token.ID, promptLen int) token.ID {
	if s.params.Temperature == 0 && !s.params.adjusts() {
		return likeliest(logits)
	}
	s.load(logits)
	s.penaliseRepetition(history)
	s.penaliseAnswer(history[promptLen:])
	s.addBias()
	if s.params.Temperature == 0 {
		return likeliest(s.values)
	}
	return s.draw(uniform(s.params.Seed, pos))
}

// likeliest returns the lowest id of the greatest value, None if there is none
// above minus infinity.
func likeliest[F float32 | float64](values []F) token.ID {
	id, best := token.None, F(math.Inf(-1))
	for i, v := range values {
		if v > best {
			id, best = token.ID(i), v
		}
	}
	return id
}

// load copies the logits, NaN as minus infinity.
func (s *Sampler) load(logits []float32) {
	if len(s.values) != len(logits) {
		s.values = make([]float64, len(logits))
		s.counts = make([]int32, len(logits))
	}
	for i, l := range logits {
		if s.values[i] = float64(l); l != l {
			s.values[i] = math.Inf(-1)
		}
	}
}

// penaliseRepetition makes every token of the history less likely, once.
func (s *Sampler) penaliseRepetition(history []token.ID) {
	if s.params.RepetitionPenalty == 1 {
		return
	}
	s.eachOnce(history, func(id token.ID, _ float64) {
		if s.values[id] > 0 {
			s.values[id] /= s.params.RepetitionPenalty
		} else {
			s.values[id] *= s.params.RepetitionPenalty
		}
	})
}

// penaliseAnswer makes the tokens of the answer less likely, by how often they
// are in it.
func (s *Sampler) penaliseAnswer(answer []token.ID) {
	if s.params.PresencePenalty == 0 && s.params.FrequencyPenalty == 0 {
		return
	}
	s.eachOnce(answer, func(id token.ID, times float64) {
		s.values[id] -= s.params.PresencePenalty + float64(times*s.params.FrequencyPenalty)
	})
}

// eachOnce calls do for every different token of ids with its count.
func (s *Sampler) eachOnce(ids []token.ID, do func(id token.ID, times float64)) {
	for _, id := range ids {
		if s.has(id) {
			s.counts[id]++
		}
	}
	for _, id := range ids {
		if s.has(id) && s.counts[id] > 0 {
			do(id, float64(s.counts[id]))
			s.counts[id] = 0
		}
	}
}

func (s *Sampler) addBias() {
	for id, bias := range s.params.LogitBias {
		if s.has(id) {
			s.values[id] += bias
		}
	}
}

func (s *Sampler) has(id token.ID) bool { return id >= 0 && int(id) < len(s.values) }
