package api_test

import (
	"strings"
	"testing"
	"time"

	"mneme/internal/engine"
)

func (s *fakeStream) Predicted() (time.Duration, bool) {
	return s.fake.predicted, s.fake.predicted > 0
}

// each asks the same in every dialect.
func (b *bench) each(fields string, headers ...string) map[string]reply {
	return map[string]reply{
		"chat":      b.chat(`{`+hi+fields+`}`, headers...),
		"texts":     b.complete(`{"prompt":"hi"`+fields+`}`, headers...),
		"messages":  b.messages(asks(fields), headers...),
		"responses": b.respond(`{"input":"hi"`+fields+`}`, headers...),
	}
}

// In every dialect, streamed or not, priority and deadline reach the engine and
// what it predicts reaches the client.
func TestWaitingInEachDialect(t *testing.T) {
	for _, stream := range []string{"", `,"stream":true`} {
		b := newBench(t)
		b.fake.predicted = 1234567 * time.Microsecond
		for dialect, got := range b.each(`,"priority":-3`+stream, "X-Max-TTFT-Ms: 2500") {
			if got.status != 200 || got.header.Get("X-Predicted-TTFT-Ms") != "1235" {
				t.Errorf("%s%s: %d, predicted %q, %s", dialect, stream, got.status, got.header.Get("X-Predicted-TTFT-Ms"), got.body)
			}
		}
		for _, r := range b.fake.requests {
			if r.Priority != -3 || r.MaxFirst != 2500*time.Millisecond {
				t.Errorf("the engine was asked with priority %d, first token within %v", r.Priority, r.MaxFirst)
			}
		}
		if n := len(b.fake.requests); n != 4 {
			t.Errorf("%d requests came, want 4", n)
		}
		b.fake.predicted = 0
		for dialect, got := range b.each(stream) {
			if _, there := got.header["X-Predicted-Ttft-Ms"]; there {
				t.Errorf("%s%s: something is predicted though nothing is known", dialect, stream)
			}
		}
	}
}

// A turn that is not taken now is a 429 that says when it may be.
func TestBusyInEachDialect(t *testing.T) {
	for _, c := range []struct {
		err              *engine.BusyError
		retry, predicted string
		says             string
	}{
		{&engine.BusyError{Why: engine.ErrQueueFull, Retry: 7200 * time.Millisecond}, "8", "", "too many requests waiting"},
		{&engine.BusyError{Why: engine.ErrAgentQueueFull, Retry: time.Millisecond}, "1", "", "too many requests of this agent waiting"},
		{&engine.BusyError{Why: engine.ErrTooLate, Retry: 2 * time.Second, Predicted: 3 * time.Second}, "2", "3000", "the first token would come too late: it is expected in 3s"},
	} {
		b := newBench(t)
		b.fake.refuse = c.err
		for dialect, got := range b.each("") {
			if got.status != 429 || got.header.Get("Retry-After") != c.retry || got.header.Get("X-Predicted-TTFT-Ms") != c.predicted || !strings.Contains(got.body, c.says) {
				t.Errorf("%v, %s: %d, Retry-After %q, predicted %q, %s", c.err, dialect, got.status, got.header.Get("Retry-After"), got.header.Get("X-Predicted-TTFT-Ms"), got.body)
			}
		}
	}
	b := newBench(t)
	b.fake.refuse = &engine.BusyError{Why: engine.ErrTooLate, Retry: time.Second, Predicted: time.Second}
	if _, _, code := b.error(b.chat(`{` + hi + `}`)); code != "deadline" {
		t.Errorf("code %s", code)
	}
}

// A deadline or a priority that is none is refused before anything runs.
func TestBadWaiting(t *testing.T) {
	b := newBench(t)
	for _, value := range []string{"0", "-5", "soon", "1.5", "99999999999"} {
		for dialect, got := range b.each("", "X-Max-TTFT-Ms: "+value) {
			if got.status != 400 || !strings.Contains(got.body, "X-Max-TTFT-Ms must be a whole number of milliseconds") {
				t.Errorf("%s, %s: %d %s", value, dialect, got.status, got.body)
			}
		}
	}
	for _, value := range []string{"11", "-11", `"high"`, "1.5"} {
		for dialect, got := range b.each(`,"priority":` + value) {
			if got.status != 400 || !strings.Contains(got.body, "priority") {
				t.Errorf("%s, %s: %d %s", value, dialect, got.status, got.body)
			}
		}
	}
	if n := len(b.fake.requests); n != 0 {
		t.Errorf("%d requests came through", n)
	}
}

// What panics while an answer is read ends that answer: with an error event where
// it has begun, with a 500 where not; its turn is given up, and others go on.
func TestPanicWhileAnswering(t *testing.T) {
	b := newBench(t)
	b.fake.bug = true
	for dialect, got := range b.each(`,"stream":true`) {
		if got.status != 200 || !strings.Contains(got.body, "internal error") {
			t.Errorf("%s, streamed: %d %s", dialect, got.status, got.body)
		}
	}
	for dialect, got := range b.each("") {
		if got.status != 500 || !strings.Contains(got.body, "internal error") || strings.Contains(got.body, "bug") {
			t.Errorf("%s: %d %s", dialect, got.status, got.body)
		}
	}
	if b.fake.abandoned != 8 {
		t.Errorf("%d turns were given up, want 8", b.fake.abandoned)
	}
	b.fake.bug = false
	b.alive()
}
