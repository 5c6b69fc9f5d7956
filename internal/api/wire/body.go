package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"mneme/internal/api/fields"
)

// expectBody bounds how long a request's body may stay out, whether its handler
// reads it or the connection skips it. A request without one waits for nothing.
func (x *Exchange) expectBody() {
	if x.Request.ContentLength != 0 {
		x.bodyDue(time.Now().Add(x.line.BodyPatience))
	}
}

// bodyDue is when the connection gives up reading; the zero time is never. A
// writer without deadlines is a test's; it has no line to hold.
func (x *Exchange) bodyDue(at time.Time) {
	_ = http.NewResponseController(x.w).SetReadDeadline(at)
}

// Body reads the request's body within the limit. Its Content-Type is not
// looked at: curl -d names a form.
func (x *Exchange) Body() ([]byte, error) {
	var b bytes.Buffer
	_, err := x.CopyBody(&b, x.line.BodyLimit)
	return b.Bytes(), err
}

// Object reads the body as a JSON object with none but the known members.
func (x *Exchange) Object(known ...string) (*fields.Object, error) {
	body, err := x.Body()
	if err != nil {
		return nil, err
	}
	o, err := fields.Parse(body)
	if err != nil {
		return nil, err
	}
	o.Only(known...)
	return o, nil
}

// CopyBody writes the request's body, limit bytes at most, to w. Afterwards the
// connection is read to notice that the client went away, which may take any time.
func (x *Exchange) CopyBody(w io.Writer, limit int64) (n int64, err error) {
	if x.Request.ContentLength > limit {
		return 0, tooLarge(limit)
	}
	to := &sink{w: w}
	from := &patient{Exchange: x, began: time.Now()}
	n, err = io.Copy(to, http.MaxBytesReader(x.w.ResponseWriter, from, limit))
	var large *http.MaxBytesError
	switch {
	case to.err != nil:
		return n, fmt.Errorf("put the body aside: %w", to.err)
	case errors.As(err, &large):
		return n, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.Header().Set("Connection", "close")
		return n, from.tooSlow()
	case err != nil:
		return n, Invalid("", "the body ended before it was read: %v", err)
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

// patient reads a body that has to come on, and on the whole not too slowly: a
// connection that sends a byte now and then is there to be held.
type patient struct {
	*Exchange
	began time.Time
	got   int64 // bytes
}

const (
	slackOfBody    = 20      // patiences that a body has, whatever its size,
	leastPerSecond = 1 << 10 // and a second for so many bytes
)

func (p *patient) Read(b []byte) (int, error) {
	p.bodyDue(earlier(time.Now().Add(p.line.BodyPatience), p.end()))
	n, err := p.Request.Body.Read(b)
	p.got += int64(n)
	return n, err
}

// end is when what is still to come comes too late.
func (p *patient) end() time.Time {
	return p.began.Add(slackOfBody*p.line.BodyPatience + time.Duration(p.got/leastPerSecond)*time.Second)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (p *patient) Close() error { return p.Request.Body.Close() }

// tooSlow says what was waited for.
func (p *patient) tooSlow() error {
	e := &Error{Status: http.StatusRequestTimeout, Code: "body_timeout"}
	if time.Now().Before(p.end()) {
		e.Message = fmt.Sprintf("the body stopped after %d bytes: nothing more came for %v", p.got, p.line.BodyPatience)
	} else {
		e.Message = fmt.Sprintf("the body came too slowly: %d bytes in %v", p.got, time.Since(p.began).Round(time.Second))
	}
	return e
}

func tooLarge(limit int64) error {
	return &Error{
		Status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("the body is larger than the limit of %d bytes", limit),
		Code:    "body_too_large",
	}
}
