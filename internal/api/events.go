package api

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

// events writes server-sent events.
//   - Nothing is written before the first event or ping; until then the answer may
//     still become a plain error with its status.
//   - Each event is flushed. A comment goes out when nothing else has for
//     pingEvery.
//   - close stops the pings and waits for them.
type events struct {
	w       *writer
	control *http.ResponseController
	stop    chan struct{}
	stopped chan struct{}

	mu      sync.Mutex // guards what follows, and writing
	quiet   *time.Timer
	started bool
	err     error // of the first write that failed
}

// stream makes the exchange's answer a stream of events.
func (x *exchange) stream() *events {
	e := &events{
		w:       x.w,
		control: http.NewResponseController(x.w),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		quiet:   time.NewTimer(pingEvery),
	}
	x.events = e
	go e.beat()
	return e
}

// beat pings until close.
func (e *events) beat() {
	defer close(e.stopped)
	for {
		select {
		case <-e.quiet.C:
			_ = e.write([]byte(": ping\n\n")) // the next event sees the error too
		case <-e.stop:
			return
		}
	}
}

func (e *events) close() {
	close(e.stop)
	<-e.stopped
	e.quiet.Stop()
}

// send writes value as one event.
func (e *events) send(value any) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	return e.write(frame(data))
}

// done writes the event that ends a stream well.
func (e *events) done() error { return e.write(frame([]byte("[DONE]"))) }

func frame(data []byte) []byte {
	event := append([]byte("data: "), data...)
	return append(event, "\n\n"...)
}

// write sends bytes and has them leave at once; errGone when they cannot.
func (e *events) write(b []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	if !e.started {
		e.startLocked()
	}
	if !e.flushLocked(b) {
		e.err = errGone
	}
	e.quiet.Reset(pingEvery)
	return e.err
}

func (e *events) startLocked() {
	e.started = true
	h := e.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	e.w.WriteHeader(http.StatusOK)
}

func (e *events) flushLocked(b []byte) bool {
	// A writer without deadlines or flushing is a test's; it has no line to hold.
	_ = e.control.SetWriteDeadline(time.Now().Add(writeLimit))
	defer func() { _ = e.control.SetWriteDeadline(time.Time{}) }()
	if _, err := e.w.Write(b); err != nil {
		return false
	}
	return e.control.Flush() == nil
}
