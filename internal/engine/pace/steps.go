package pace

import "time"

// Steps learns what a batch's steps take: those that only decode, and the tokens
// of prompts that others compute besides.
type Steps struct{ decode, prompts *Meter }

// NewSteps makes one whose figures are forgotten after as long as lasts.
func NewSteps(lasts time.Duration) *Steps { return &Steps{NewMeter(lasts), NewMeter(lasts)} }

// fewest tokens of prompts say something of their rate: a step of less takes the
// time to read the weights.
const fewest = 16

// Add takes a step of so many decoding sequences and tokens of prompts. What its
// decoding sequences would have taken alone is not the prompts'.
func (s *Steps) Add(decoding, prompts int, spent time.Duration, now time.Time) {
	switch {
	case prompts == 0 && decoding > 0:
		s.decode.Add(1, spent, now)
	case prompts >= fewest && decoding == 0:
		s.prompts.Add(int64(prompts), spent, now)
	case prompts >= fewest:
		s.prompts.Add(int64(prompts), max(spent-s.Decode(now), spent/4), now)
	}
}

// Decode is the time of a step that only decodes; 0 when it is not known.
func (s *Steps) Decode(now time.Time) time.Duration {
	if rate := s.decode.PerSecond(now); rate > 0 {
		return time.Duration(float64(time.Second) / rate)
	}
	return 0
}

// Prompts is how many tokens of prompts are computed per second; 0 when it is not
// known.
func (s *Steps) Prompts(now time.Time) float64 { return s.prompts.PerSecond(now) }
