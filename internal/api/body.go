package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"mneme/internal/api/openai"
)

// expectBody bounds how long a request's body may stay out, whether its handler
// reads it or the connection skips it. A request without one waits for nothing.
func (x *exchange) expectBody() {
	if x.r.ContentLength != 0 {
		x.bodyDue(time.Now().Add(x.server.options.BodyPatience))
	}
}

// bodyDue is when the connection gives up reading; the zero time is never. A
// writer without deadlines is a test's; it has no line to hold.
func (x *exchange) bodyDue(at time.Time) {
	_ = http.NewResponseController(x.w).SetReadDeadline(at)
}

// body reads the request's body within the limit. Its Content-Type is not
// looked at: curl -d names a form. Afterwards the connection is read to notice
// that the client went away, which may take any time.
func (x *exchange) body() ([]byte, error) {
	limit := x.server.options.BodyLimit
	if x.r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.w.ResponseWriter, patient{x}, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.w.Header().Set("Connection", "close")
		return nil, tooSlow(len(body), x.server.options.BodyPatience)
	case err != nil:
		return nil, openai.Invalid("", "the body ended before it was read: %v", err)
	}
	x.bodyDue(time.Time{})
	return body, nil
}

// patient reads a body that has to come on, however slowly.
type patient struct{ *exchange }

func (p patient) Read(b []byte) (int, error) {
	p.expectBody()
	return p.r.Body.Read(b)
}

func (p patient) Close() error { return p.r.Body.Close() }

func tooSlow(got int, patience time.Duration) error {
	return &openai.Error{
		Status:  http.StatusRequestTimeout,
		Message: fmt.Sprintf("the body stopped after %d bytes: nothing more came for %v", got, patience),
		Type:    openai.TypeInvalid,
		Code:    "body_timeout",
	}
}

func tooLarge(limit int64) error {
	return &openai.Error{
		Status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("the body is larger than the limit of %d bytes", limit),
		Type:    openai.TypeInvalid,
		Code:    "body_too_large",
	}
}
