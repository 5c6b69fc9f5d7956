package api

import (
	"bytes"
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
// looked at: curl -d names a form.
func (x *exchange) body() ([]byte, error) {
	var b bytes.Buffer
	_, err := x.copyBody(&b, x.server.options.BodyLimit)
	return b.Bytes(), err
}

// copyBody writes the request's body, limit bytes at most, to w. Afterwards the
// connection is read to notice that the client went away, which may take any time.
func (x *exchange) copyBody(w io.Writer, limit int64) (n int64, err error) {
	if x.r.ContentLength > limit {
		return 0, tooLarge(limit)
	}
	to := &sink{w: w}
	n, err = io.Copy(to, http.MaxBytesReader(x.w.ResponseWriter, patient{x}, limit))
	var large *http.MaxBytesError
	switch {
	case to.err != nil:
		return n, fmt.Errorf("put the body aside: %w", to.err)
	case errors.As(err, &large):
		return n, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.w.Header().Set("Connection", "close")
		return n, tooSlow(n, x.server.options.BodyPatience)
	case err != nil:
		return n, openai.Invalid("", "the body ended before it was read: %v", err)
	}
	x.bodyDue(time.Time{})
	return n, nil
}

// sink keeps the error of its writer apart from those of the body.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (n int, err error) {
	n, s.err = s.w.Write(b)
	return n, s.err
}

// patient reads a body that has to come on, however slowly.
type patient struct{ *exchange }

func (p patient) Read(b []byte) (int, error) {
	p.expectBody()
	return p.r.Body.Read(b)
}

func (p patient) Close() error { return p.r.Body.Close() }

func tooSlow(got int64, patience time.Duration) error {
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
