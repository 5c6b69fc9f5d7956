package wire_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// curt is a dialect unlike the others: its errors are bare words, and its streams
// break with an event that has a name.
type curt struct{}

func (curt) Refusal(e *wire.Error) any { return e.Reason() }

func (curt) Broken(e *wire.Error) wire.Event { return wire.Event{Name: "error", Data: e.Reason()} }

// tally counts reasons.
type tally map[string]int

func (tally) Request(string, int)     {}
func (t tally) Refused(reason string) { t[reason]++ }
func (tally) Turn(engine.Completed)   {}
func (tally) Key(string, int)         {}
func (tally) Spent(string, int)       {}
func (t tally) line(now time.Time) *wire.Line {
	return &wire.Line{
		Log: slog.New(slog.DiscardHandler), Meter: t, BodyLimit: 100, BodyPatience: time.Second,
		Clock: func() time.Time { return now }, NewID: func() string { return "f00d" },
	}
}

// A dialect spells what went wrong, before the first byte and after it.
func TestDialect(t *testing.T) {
	reasons := tally{}
	answer := func(h func(*wire.Exchange) error) (int, string) {
		w := httptest.NewRecorder()
		reasons.line(time.Time{}).Handler(wire.Route{Path: "/x", Dialect: curt{}}, h).ServeHTTP(w, httptest.NewRequest("POST", "/x", strings.NewReader("{")))
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		err    error
		status int
		reason string
	}{
		{wire.Invalid("a", "a is bad"), 400, "invalid_request"},
		{engine.ErrQueueFull, 429, "queue_full"},
		{&engine.ContextError{Tokens: 2, Context: 1}, 400, "context_length_exceeded"},
		{errors.New("a bug"), 500, "internal_error"},
	} {
		if status, body := answer(func(*wire.Exchange) error { return c.err }); status != c.status || body != `"`+c.reason+`"`+"\n" {
			t.Errorf("%v: %d %s", c.err, status, body)
		}
		status, body := answer(func(x *wire.Exchange) error {
			events := x.Stream()
			defer events.Close()
			return errors.Join(events.Send(wire.Event{Name: "start", Data: 1}), events.SendText("plain"), c.err)
		})
		if want := "event: start\ndata: 1\n\ndata: plain\n\nevent: error\ndata: \"" + c.reason + "\"\n\n"; status != http.StatusOK || body != want {
			t.Errorf("%v in a stream: %d %s", c.err, status, body)
		}
		if reasons[c.reason] != 2 {
			t.Errorf("%v is counted %d times as %s", c.err, reasons[c.reason], c.reason)
		}
	}
	if status, body := answer(func(x *wire.Exchange) error { _, err := x.Object(); return err }); status != 400 || body != "\"invalid_request\"\n" {
		t.Errorf("half a body: %d %s", status, body)
	}
}

// A URL may have one parameter, once.
func TestOnlyQuery(t *testing.T) {
	for query, want := range map[string]string{
		"": "", "kv=a%20b": "a b", "kv=": "",
		"kv=1&kv=2": "kv is given 2 times", "vk=1": "vk is not a known parameter; known: kv", "kv=%zz": "the URL's parameters do not read",
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/x", nil)
		r.URL.RawQuery = query
		var got string
		tally{}.line(time.Time{}).Handler(wire.Route{Dialect: curt{}}, func(x *wire.Exchange) (err error) {
			if got, err = x.OnlyQuery("kv"); err != nil {
				got = err.Error()
			}
			return x.Empty(http.StatusNoContent)
		}).ServeHTTP(w, r)
		if !strings.HasPrefix(got, want) || want == "" && got != "" || w.Code != http.StatusNoContent {
			t.Errorf("%s: %d %q, want %q", query, w.Code, got, want)
		}
	}
}
