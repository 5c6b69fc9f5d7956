package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"mneme/internal/engine"
	"mneme/internal/trace"
)

// statusClientGone is logged and counted when nobody was left to answer.
const statusClientGone = 499

// Line is what all exchanges of a server share; every field but Trace is set.
type Line struct {
	Log          *slog.Logger
	Meter        Meter
	Trace        *trace.Tracer    // nil where nothing is traced
	BodyLimit    int64            // bytes of a request body
	BodyPatience time.Duration    // how long nothing of a body may come
	Clock        func() time.Time // what the time is
	NewID        func() string    // the random part of ids
}

// Meter counts what exchanges did.
type Meter interface {
	Request(route string, status int) // 499 when the client went away
	Key(name string, status int)      // the same, by whose API key it was
	Spent(key string, tokens int)     // that were computed or generated for a key
	Refused(reason string)            // an Error's Reason
	Turn(engine.Completed)
}

// Route is what an exchange knows of the path it came by.
type Route struct {
	Path      string // a ServeMux pattern without a method
	Probe     bool   // asked all day long by machines; logged quietly, and not traced
	Dialect   Dialect
	NamesID   string // a second header that carries the request's id; "" for none
	Operation string // what its turns are in a trace, such as chat
}

// Dialect is how a vendor spells what went wrong.
type Dialect interface {
	Refusal(*Error) any  // the body of an answer that is an error
	Broken(*Error) Event // what ends a stream that was begun
}

// Exchange is one request and its answer on their way through the server. Its
// answer is one of JSON, Empty, Stream, File, or the handler's error.
type Exchange struct {
	Request   *http.Request
	ID        string           // of the request; in the answer's header and the log
	Namespace engine.Namespace // whose agents and blocks these are
	Account   Account          // who asks
	Agent     engine.AgentID   // "" without one; see SetAgent
	Family    engine.AgentID   // whose member is the agent, once the prompt is known; see NameFamily
	Input     string           // the field that holds the prompt, which may be too long; "" without one

	// Broken is the event that ends the answer's stream when it breaks; nil: the
	// dialect's.
	Broken func(*Error) Event

	line    *Line
	route   Route
	w       *writer
	began   time.Time
	events  *Events           // once the answer is a stream
	done    *engine.Completed // once a turn ended well
	turns   []Turn            // as far as they came
	timed   bool              // the answer says where the time went
	span    *trace.Span       // nil when it is not traced
	failure error             // why the answer is an error
	gone    bool              // the client went away
	bug     bool              // the handler panicked
	torn    bool              // the answer ends before its end
}

// Handler makes an exchange of every request on a route, with its end in all
// cases; h answers it, or says why it cannot.
func (l *Line) Handler(r Route, h func(*Exchange) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		x := l.begin(r, w, request)
		defer x.tear()
		defer x.end()
		if err := h(x); err != nil {
			x.fail(err)
		}
	})
}

// begin names the request, its answer carries the name.
func (l *Line) begin(r Route, w http.ResponseWriter, request *http.Request) *Exchange {
	x := &Exchange{
		Request:   request,
		ID:        l.requestID(request),
		Namespace: everybody,
		Account:   Anyone(),
		line:      l,
		route:     r,
		w:         &writer{ResponseWriter: w},
		began:     l.Clock(),
	}
	if !r.Probe {
		x.span = l.Trace.Begin(request.Method+" "+r.Path, request.Header, x.began)
	}
	x.Header().Set(requestHeader, x.ID)
	if r.NamesID != "" {
		x.Header().Set(r.NamesID, x.ID)
	}
	x.expectBody()
	return x
}

// Now is the server's time.
func (x *Exchange) Now() time.Time { return x.line.Clock() }

// NewID is the random part of an id.
func (x *Exchange) NewID() string { return x.line.NewID() }

// Header is the answer's.
func (x *Exchange) Header() http.Header { return x.w.Header() }

// Writer is the answer for a handler of net/http.
func (x *Exchange) Writer() http.ResponseWriter { return x.w }

// end is deferred: it answers for a panic, then writes the log line and counts.
func (x *Exchange) end() {
	if p := recover(); p != nil {
		x.bug = true
		x.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}
	x.line.Meter.Request(x.route.Path, x.status())
	if key := x.Account.Name(); key != "" {
		x.line.Meter.Key(key, x.status())
	}
	now := x.line.Clock()
	x.line.Log.LogAttrs(x.Request.Context(), x.level(), "request", x.attrs(now)...)
	x.endSpan(now)
}

// tear is deferred before end: what was sent of a torn answer must not look like
// the whole, so net/http is told to break the connection.
func (x *Exchange) tear() {
	if x.torn {
		panic(http.ErrAbortHandler)
	}
}

// status is what the client got, or 499.
func (x *Exchange) status() int {
	if x.gone {
		return statusClientGone
	}
	return x.w.status
}

// Completed enters a turn in the ledger: the metrics and the log line say what
// its usage says. Of several turns the line has the sums, the start of the first
// and the end of the last.
func (x *Exchange) Completed(t Turn) {
	done := t.Completed
	x.turns = append(x.turns, t)
	x.timing(done.Timings)
	x.line.Meter.Turn(done)
	x.Spend(done.Usage.Prompt - done.Usage.Cached + done.Usage.Completion)
	if x.done == nil {
		x.done = &done
		return
	}
	x.done.Usage.Prompt += done.Usage.Prompt
	x.done.Usage.Cached += done.Usage.Cached
	x.done.Usage.Completion += done.Usage.Completion
	x.done.Finish = done.Finish
	x.done.PublishErr = errors.Join(x.done.PublishErr, done.PublishErr)
}

// Unstored enters in the ledger why something of the answer could not be stored.
func (x *Exchange) Unstored(err error) {
	if x.done != nil {
		x.done.PublishErr = errors.Join(x.done.PublishErr, err)
	}
}

// fail answers with err, in the form the answer has already taken.
func (x *Exchange) fail(err error) {
	x.failure = err
	e := x.refusal(err)
	e.Request = x.ID
	if x.deserted(err, e) {
		x.leave()
		return
	}
	if !x.route.Probe { // a probe that is told no asks again, and means nobody
		x.line.Meter.Refused(e.Reason())
	}
	if e.Status == http.StatusInternalServerError {
		e.Message += "; the server's log says more about request " + x.ID
	}
	switch {
	case x.w.status == 0:
		x.refuse(e)
	case x.events != nil:
		_ = x.events.Send(x.broken(e)) // nobody else is there to be told
	}
}

func (x *Exchange) broken(e *Error) Event {
	if x.Broken != nil {
		return x.Broken(e)
	}
	return x.route.Dialect.Broken(e)
}

// deserted says whether nobody waits for the answer. A body that stops coming
// ends the request's context too, but its client may listen.
func (x *Exchange) deserted(err error, e *Error) bool {
	return errors.Is(err, ErrGone) || x.Request.Context().Err() != nil && e.Status != http.StatusRequestTimeout
}

// leave ends the exchange of a client that does not listen any more; should
// somebody listen after all, it is not an empty 200.
func (x *Exchange) leave() {
	x.gone = true
	if x.w.status == 0 {
		x.w.WriteHeader(statusClientGone)
	}
}

func (x *Exchange) refuse(e *Error) {
	if e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests {
		x.Header().Set("Retry-After", strconv.Itoa(e.retrySeconds()))
	}
	if e.Status == http.StatusUnauthorized {
		x.Header().Set("WWW-Authenticate", "Bearer")
	}
	if err := x.JSON(e.Status, x.route.Dialect.Refusal(e)); err != nil {
		x.gone = true
	}
}
