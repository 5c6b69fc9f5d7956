package pace

import (
	"testing"
	"time"
)

// Steps of 30 ms decode, prompts of 1,000 tokens per second come on top; a few
// tokens say nothing.
func TestSteps(t *testing.T) {
	const ms = time.Millisecond
	now := time.Unix(1000, 0)
	s := NewSteps(time.Minute)
	if s.Decode(now) != 0 || s.Prompts(now) != 0 {
		t.Error("something is known of nothing")
	}
	s.Add(0, 100, 100*ms, now)
	s.Add(3, 0, 30*ms, now)
	s.Add(3, 70, 100*ms, now)
	s.Add(3, 2, 90*ms, now)
	s.Add(0, 5, 90*ms, now)
	if d, p := s.Decode(now), s.Prompts(now); d.Round(ms) != 30*ms || p < 999 || p > 1001 {
		t.Errorf("decoding takes %v, prompts %v per second; want 30ms and 1000", d, p)
	}
	s.Add(3, 64, 20*ms, now) // quicker than decoding alone: a quarter of it is believed
	if p := s.Prompts(now); p < 1000 {
		t.Errorf("after a quick step %v per second, want more", p)
	}
	if later := now.Add(2 * time.Minute); s.Decode(later) != 0 || s.Prompts(later) != 0 {
		t.Error("two minutes later something is known still")
	}
}

// A budget that follows the measured rate comes to the target, whatever part of a
// step does not depend on its tokens.
func TestStepsFindTheTarget(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, fixed := range []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond} {
		s, took := NewSteps(time.Minute), time.Duration(0)
		tokens := 64
		for range 30 {
			took = fixed + time.Duration(tokens)*1500*time.Microsecond
			s.Add(2, tokens, took, now)
			tokens = max(16, int((100*time.Millisecond-s.Decode(now)).Seconds()*s.Prompts(now)))
		}
		if took < 95*time.Millisecond || took > 105*time.Millisecond {
			t.Errorf("with %v beside the tokens steps come to %v, want 100ms", fixed, took)
		}
	}
}
