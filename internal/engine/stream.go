package engine

import (
	"context"
	"sync"

	"mneme/internal/token"
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
	ended  bool
	result Completed
	err    error
	wake   chan struct{} // holds one token when something is new
}

func newStream(prompt []token.ID, cancel context.CancelFunc) *Stream {
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

func (s *Stream) push(out Output) {
	s.mu.Lock()
	s.queue = append(s.queue, out)
	s.mu.Unlock()
	s.signal()
}

func (s *Stream) end(result Completed, err error) {
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
