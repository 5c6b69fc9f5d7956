package wire

import (
	"net/http"
	"sync"
	"time"
)

const (
	// pingEvery is the longest silence on a stream: proxies cut idle lines, and a
	// long prompt may take a minute to its first token.
	pingEvery = 10 * time.Second
	// writeLimit is how long one event may take to be written before the client
	// counts as gone.
	writeLimit = 30 * time.Second
)

// Event is one server-sent event; Data is sent as JSON.
type Event struct {
	Name string // "" for one without a name
	Data any
}

// Events writes server-sent events.
//   - Nothing is written before the first event or ping; until then the answer may
//     still become a plain error with its status.
//   - Each event is flushed. A comment, or what PingWith says, goes out when
//     nothing else has for pingEvery.
//   - Close stops the pings and waits for them.
type Events struct {
	w       *writer
	control *http.ResponseController
	stop    chan struct{}
	stopped chan struct{}

	mu      sync.Mutex // guards what follows, and writing
	quiet   *time.Timer
	ping    []byte
	started bool
	err     error // of the first write that failed
}

// Stream makes the exchange's answer a stream of events, to be closed.
func (x *Exchange) Stream() *Events {
	e := &Events{
		w:       x.w,
		control: http.NewResponseController(x.w),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		quiet:   time.NewTimer(pingEvery),
		ping:    []byte(": ping\n\n"),
	}
	x.events = e
	go e.beat()
	return e
}

// beat pings until Close.
func (e *Events) beat() {
	defer close(e.stopped)
	for {
		select {
		case <-e.quiet.C:
			_ = e.write(e.pinging()) // the next event sees the error too
		case <-e.stop:
			return
		}
	}
}

// PingWith fills silences with an event instead of a comment.
func (e *Events) PingWith(event Event) error {
	data, err := encode(event.Data)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ping = frame(event.Name, data)
	return nil
}

func (e *Events) pinging() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ping
}

// Close ends the pings.
func (e *Events) Close() {
	close(e.stop)
	<-e.stopped
	e.quiet.Stop()
}

// Send writes one event; ErrGone when nobody reads it.
func (e *Events) Send(event Event) error {
	data, err := encode(event.Data)
	if err != nil {
		return err
	}
	return e.write(frame(event.Name, data))
}

// SendText writes an event whose data is no JSON, such as [DONE].
func (e *Events) SendText(text string) error { return e.write(frame("", []byte(text))) }

func frame(name string, data []byte) []byte {
	var event []byte
	if name != "" {
		event = append(event, "event: "+name+"\n"...)
	}
	event = append(event, "data: "...)
	event = append(event, data...)
	return append(event, "\n\n"...)
}

// write sends bytes and has them leave at once; ErrGone when they cannot.
func (e *Events) write(b []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	if !e.started {
		e.startLocked()
	}
	if !e.flushLocked(b) {
		e.err = ErrGone
	}
	e.quiet.Reset(pingEvery)
	return e.err
}

func (e *Events) startLocked() {
	e.started = true
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	e.w.WriteHeader(http.StatusOK)
}

func (e *Events) flushLocked(b []byte) bool {
	// A writer without deadlines or flushing is a test's; it has no line to hold.
	_ = e.control.SetWriteDeadline(time.Now().Add(writeLimit))
	defer func() { _ = e.control.SetWriteDeadline(time.Time{}) }()
	if _, err := e.w.Write(b); err != nil {
		return false
	}
	return e.control.Flush() == nil
}
