// Package stream is what a caller holds of its turn: outputs in order, then the
// result. It knows no engine; who computes the turn pushes and ends.
package stream

import (
	"context"
	"sync"
	"time"

	"mneme/internal/sample"
	"mneme/internal/token"
)

// FinishReason says why a turn ended.
type FinishReason string

const (
	FinishStop   FinishReason = "stop"   // an end token or a stop string
	FinishLength FinishReason = "length" // max_tokens or the context
)

// Output is one generated token with the text it released.
// Text may be empty (half a character, a possible stop string) or hold what
// earlier tokens kept back.
type Output struct {
	ID      token.ID
	Text    string
	Logprob float64              // when asked for
	Top     []sample.Alternative // when asked for
}

// Usage is the ledger of one turn: all numbers in tokens.
type Usage struct {
	Prompt     int // all prompt tokens
	Cached     int // of these, not computed for this request
	Completion int // generated, the end token included
}

// Completed is a turn's end.
type Completed struct {
	Finish FinishReason
	Usage  Usage
	Turn   int // the agent's turn number; 0 without an agent
	Start  Start
	// TimeToFirst is from Submit to the first sampled token.
	TimeToFirst time.Duration
	Timings     Timings
	// Prompt has an element per prompt token when they were to be scored.
	Prompt []PromptToken
	// PublishErr is set when the turn was answered but could not be stored.
	PublishErr error
}

// PromptToken is a token of the prompt as the model saw it coming; of the first
// one nothing is known, its Logprob is 0.
type PromptToken struct {
	ID      token.ID
	Logprob float64
	Top     []sample.Alternative // the likeliest first
}

// Start is how the first token of a turn came about.
type Start string

const (
	StartUncached Start = "uncached"
	StartHot      Start = "hot"
	StartRestored Start = "restored"
)

// Stream is what a caller holds of its turn.
//   - Outputs come in order, none is lost; the engine never waits for a reader.
//   - After Next said false, Result is final: a turn that ended well is then
//     published, or Result says why not.
type Stream struct {
	prompt []token.ID
	cancel context.CancelFunc

	mu     sync.Mutex
	queue  []Output // from head on not yet read
	head   int
	cached int
	first  time.Duration // when the first output was expected; 0 when that was not known
	began  Timings       // what they were at the first output
	ended  bool
	result Completed
	err    error
	wake   chan struct{} // holds one token when something is new
}

// New is the stream of a turn; cancel abandons the turn.
func New(prompt []token.ID, cancel context.CancelFunc) *Stream {
	return &Stream{prompt: prompt, cancel: cancel, wake: make(chan struct{}, 1)}
}

// Prompt is the prompt's token ids; read only.
func (s *Stream) Prompt() []token.ID { return s.prompt }

// Next waits for the next output; false at the end or when ctx is done.
func (s *Stream) Next(ctx context.Context) (Output, bool) {
	for {
		s.mu.Lock()
		if s.head < len(s.queue) {
			out := s.queue[s.head]
			s.head++
			if s.head == len(s.queue) {
				s.queue, s.head = s.queue[:0], 0
			}
			s.mu.Unlock()
			return out, true
		}
		ended := s.ended
		s.mu.Unlock()
		if ended {
			return Output{}, false
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Output{}, false
		}
	}
}

// Cached is how many of the prompt's tokens were not computed; final from the
// first output on.
func (s *Stream) Cached() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cached
}

// Timings are those of the phases before the first output, from that on.
func (s *Stream) Timings() Timings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began
}

// Begin says how many of the prompt's tokens were not computed, and where the time
// until now went.
func (s *Stream) Begin(cached int, t Timings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cached, s.began = cached, t
}

// Predict says when the first output is expected, from the turn's beginning.
func (s *Stream) Predict(first time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = first
}

// Predicted is when the first output was expected as the turn began; false when
// that was not known.
func (s *Stream) Predicted() (first time.Duration, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, s.first > 0
}

// Result is the turn's end, after Next said false.
func (s *Stream) Result() (Completed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		return Completed{}, context.Canceled
	}
	return s.result, s.err
}

// Close abandons the turn if it still runs.
func (s *Stream) Close() { s.cancel() }

// Push adds an output; the engine never waits for a reader.
func (s *Stream) Push(out Output) {
	s.mu.Lock()
	s.queue = append(s.queue, out)
	s.mu.Unlock()
	s.signal()
}

// End is the turn's end.
func (s *Stream) End(result Completed, err error) {
	s.mu.Lock()
	s.ended, s.result, s.err = true, result, err
	s.mu.Unlock()
	s.cancel()
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
