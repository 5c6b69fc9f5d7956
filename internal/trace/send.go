package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	firstPause = 500 * time.Millisecond // before a batch is sent again; then twice as long each time
	maxAnswer  = 64 << 10               // bytes that are read of an answer
)

// sender posts batches of spans to a collector.
type sender struct {
	endpoint string
	shown    string // the endpoint as a log may have it
	header   http.Header
	client   *http.Client
}

func newSender(s Settings) *sender {
	header := http.Header{}
	maps.Copy(header, s.Headers)
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "mneme/"+s.Version)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone(), CheckRedirect: stay}
	return &sender{s.Endpoint, shown(s.Endpoint), header, client}
}

// shown is a URL without what may be secret.
func shown(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// busyError is why a batch may be taken later.
type busyError struct {
	after time.Duration // which the collector asks for; 0 when it does not say
	cause error
}

func (e *busyError) Error() string { return e.cause.Error() }

// partialError says that a collector has refused some spans.
type partialError struct {
	refused int
	message string
}

func (e *partialError) Error() string { return fmt.Sprintf("%d refused: %s", e.refused, e.message) }

// send posts a batch, again and again until ctx is done where that may help. It
// says how many spans the collector does not have, and why.
func (s *sender) send(ctx context.Context, batch []sdk.ReadOnlySpan) (refused int, err error) {
	body, err := json.Marshal(newPayload(batch))
	if err != nil {
		return len(batch), err
	}
	for pause := firstPause; ; pause *= 2 {
		var busy *busyError
		var partial *partialError
		switch err := s.post(ctx, body); {
		case err == nil:
			return 0, nil
		case errors.As(err, &partial):
			return min(partial.refused, len(batch)), err
		case !errors.As(err, &busy):
			return len(batch), err
		}
		select {
		case <-time.After(max(pause, busy.after)):
		case <-ctx.Done():
			return len(batch), busy.cause
		}
	}
}

// post sends a body once.
func (s *sender) post(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = s.header
	answer, err := s.client.Do(r)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // without the URL, which may hold a secret
		}
		return &busyError{cause: err}
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer)) // it may say why not; half of that will do
	switch answer.StatusCode {
	case http.StatusOK:
		return taken(said)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return &busyError{time.Duration(seconds) * time.Second, errors.New(answer.Status)}
	}
	return errors.New(answer.Status)
}

// taken reads whether all of a batch was taken.
func taken(said []byte) error {
	var answer struct {
		PartialSuccess struct {
			RejectedSpans json.Number `json:"rejectedSpans"` // a number, or one in quotes
			ErrorMessage  string      `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	if json.Unmarshal(said, &answer) != nil {
		return nil // it was 200, in whatever words
	}
	if n, _ := answer.PartialSuccess.RejectedSpans.Int64(); n > 0 {
		return &partialError{int(n), answer.PartialSuccess.ErrorMessage}
	}
	return nil
}
