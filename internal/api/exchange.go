package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
)

// statusClientGone is logged and counted when nobody was left to answer.
const statusClientGone = 499

// exchange is one request and its answer on their way through the server.
type exchange struct {
	server *Server
	engine Engine // nil while loading
	route  route
	w      *writer
	r      *http.Request
	began  time.Time

	id      string            // of the request; in the answer's header and the log
	agent   string            // "" without one
	events  *events           // once the answer is a stream
	done    *engine.Completed // once a turn ended well
	failure error             // why the answer is an error
	gone    bool              // the client went away
	bug     bool              // the handler panicked
	torn    bool              // the answer ends before its end
}

// begin names the request, its answer carries the name.
func (s *Server) begin(r route, w http.ResponseWriter, request *http.Request) *exchange {
	x := &exchange{
		server: s,
		engine: s.attached(),
		route:  r,
		w:      &writer{ResponseWriter: w},
		r:      request,
		began:  s.options.Clock(),
		id:     s.requestID(request),
	}
	w.Header().Set("X-Request-Id", x.id)
	x.expectBody()
	return x
}

// end is deferred: it answers for a panic, then writes the log line and counts.
func (x *exchange) end() {
	if p := recover(); p != nil {
		x.bug = true
		x.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}
	x.server.meter.request(x.route.path, x.status())
	x.server.options.Log.LogAttrs(x.r.Context(), x.level(), "request", x.attrs()...)
}

// tear is deferred before end: what was sent of a torn answer must not look like
// the whole, so net/http is told to break the connection.
func (x *exchange) tear() {
	if x.torn {
		panic(http.ErrAbortHandler)
	}
}

// status is what the client got, or 499.
func (x *exchange) status() int {
	if x.gone {
		return statusClientGone
	}
	return x.w.status
}

func (x *exchange) level() slog.Level {
	switch {
	case x.bug:
		return slog.LevelError
	case x.failure != nil && !x.gone && refusal(x.failure, x.agent).Status == http.StatusInternalServerError:
		return slog.LevelError
	case x.done != nil && x.done.PublishErr != nil:
		return slog.LevelError
	case x.route.probe:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

func (x *exchange) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("id", x.id),
		slog.String("method", x.r.Method),
		slog.String("route", x.route.path),
		slog.Int("status", x.status()),
	}
	if x.agent != "" {
		attrs = append(attrs, slog.String("agent", x.agent))
	}
	if x.done != nil {
		attrs = append(attrs, turnAttrs(x.done)...)
	}
	if x.failure != nil {
		attrs = append(attrs, slog.String("error", x.failure.Error()))
	}
	return append(attrs, millis("total_ms", x.server.options.Clock().Sub(x.began)))
}

func turnAttrs(done *engine.Completed) []slog.Attr {
	attrs := []slog.Attr{
		slog.Int("prompt", done.Usage.Prompt),
		slog.Int("cached", done.Usage.Cached),
		slog.Int("completion", done.Usage.Completion),
		slog.String("start", string(done.Start)),
		slog.String("finish", string(done.Finish)),
		millis("ttft_ms", done.TimeToFirst),
	}
	if done.PublishErr != nil {
		attrs = append(attrs, slog.String("publish_error", done.PublishErr.Error()))
	}
	return attrs
}

// millis has its unit in its name, and no more digits than microseconds.
func millis(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, float64(d.Microseconds())/1000)
}

// completed enters a turn in the ledger: the metrics and the log line say what
// its usage says.
func (x *exchange) completed(done engine.Completed) {
	x.done = &done
	x.server.meter.turn(done)
}

// fail answers with err, in the form the answer has already taken.
func (x *exchange) fail(err error) {
	x.failure = err
	e := refusal(err, x.agent)
	if x.deserted(err, e) {
		x.leave()
		return
	}
	if e.Status == http.StatusInternalServerError {
		e.Message += "; the server's log says more about request " + x.id
	}
	switch {
	case x.w.status == 0:
		x.refuse(e)
	case x.events != nil:
		_ = x.events.send(e.Body()) // nobody else is there to be told
	}
}

// deserted says whether nobody waits for the answer. A body that stops coming
// ends the request's context too, but its client may listen.
func (x *exchange) deserted(err error, e *openai.Error) bool {
	return errors.Is(err, errGone) || x.r.Context().Err() != nil && e.Status != http.StatusRequestTimeout
}

// leave ends the exchange of a client that does not listen any more; should
// somebody listen after all, it is not an empty 200.
func (x *exchange) leave() {
	x.gone = true
	if x.w.status == 0 {
		x.w.WriteHeader(statusClientGone)
	}
}

func (x *exchange) refuse(e *openai.Error) {
	setRetry(x.w.Header(), e)
	if err := x.json(e.Status, e.Body()); err != nil {
		x.gone = true
	}
}

// json answers with value as the whole body.
func (x *exchange) json(status int, value any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(status)
	if _, err := x.w.Write(append(body, '\n')); err != nil {
		return errGone
	}
	return nil
}

// encode is json.Marshal that leaves <, > and & as they are.
func encode(value any) ([]byte, error) {
	var b lineBuffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, fmt.Errorf("encode %T: %w", value, err)
	}
	return b.line(), nil
}

// lineBuffer collects what json.Encoder writes, which ends in a newline.
type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func (b lineBuffer) line() []byte { return b[:len(b)-1] }

// object reads the body as a JSON object with none but the known members.
func (x *exchange) object(known ...string) (*openai.Object, error) {
	body, err := x.body()
	if err != nil {
		return nil, err
	}
	o, err := openai.Parse(body)
	if err != nil {
		return nil, err
	}
	o.Only(known...)
	return o, nil
}

// writer remembers the status.
type writer struct {
	http.ResponseWriter
	status int // 0 until the header is written
}

func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
