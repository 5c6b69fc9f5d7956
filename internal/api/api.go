// Package api is the server as HTTP sees it: which path leads to which handler,
// and whether it lives, is ready, or drains.
// It leaves the exchange itself to wire, who may ask to access, vendors' shapes to its dialects (openai, anthropic),
// turns to turn, agents to resources, and numbers to meter; listening, TLS and
// shutdown are the caller's.
package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"mneme/internal/api/access"
	"mneme/internal/api/anthropic"
	"mneme/internal/api/diagnose"
	"mneme/internal/api/meter"
	"mneme/internal/api/resources"
	"mneme/internal/api/responses/shelf"
	"mneme/internal/api/talk"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/trace"
	"mneme/internal/vfs"
)

// Engine is what the routes need of engine.Engine; see Of.
type Engine interface {
	turn.Engine
	resources.Engine
	Ready() error
}

// Stream is a turn under way; engine.Stream is one.
type Stream = turn.Stream

// Of makes an engine fit Engine, whose streams are an interface.
func Of(e *engine.Engine) Engine { return turn.Of(e) }

// Options are the server's settings.
type Options struct {
	Log         *slog.Logger     // default: slog.Default()
	BodyLimit   int64            // bytes of a request body; default 32 MiB
	ImportLimit int64            // bytes of an export to import; default 8 GiB
	SpoolDir    string           // where an export lies while it is checked; default: the system's for temporary files
	Version     VersionInfo      // for /version
	Aliases     []string         // further names a request may give the model
	Access      *access.Gate     // who may ask for what; default: this machine without a key
	Trace       *trace.Tracer    // where spans of requests go; default: nowhere
	Clock       func() time.Time // default: time.Now
	NewID       func() string    // the random part of ids; default: 24 hex digits

	// Billing says what becomes of a client's volatile billing line; default: it is
	// left out of the prompt.
	Billing anthropic.BillingLine
	// ResponsesDir is where responses are kept that requests refer to later; ""
	// keeps them in memory. Nobody else may use it once there is an engine.
	ResponsesDir string
	Files        vfs.FS // where that is; default: the system's

	// BodyPatience is how long nothing of a body may come before the connection
	// is closed; default 30 seconds.
	BodyPatience time.Duration
}

// VersionInfo says which build this is.
type VersionInfo struct {
	Version string // of the project
	Commit  string // it was built from; "" when unknown
}

const (
	defaultBodyLimit    = 32 << 20
	defaultImportLimit  = 8 << 30
	defaultBodyPatience = 30 * time.Second
)

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.BodyLimit <= 0 {
		o.BodyLimit = defaultBodyLimit
	}
	if o.ImportLimit <= 0 {
		o.ImportLimit = defaultImportLimit
	}
	if o.BodyPatience <= 0 {
		o.BodyPatience = defaultBodyPatience
	}
	if o.Files == nil {
		o.Files = vfs.Real()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Access == nil {
		o.Access = access.NewGate(access.Ring{}, "", o.Clock)
	}
	if o.NewID == nil {
		o.NewID = randomID
	}
	return o
}

func randomID() string {
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(fmt.Sprintf("api: no randomness: %v", err))
	}
	return hex.EncodeToString(b[:])
}

// Server answers HTTP for one engine.
//   - Every answer is JSON, SSE, a file, Prometheus text or empty; every error has
//     the vendor's shape.
//   - Without an engine yet it is alive and not ready: what needs one is 503.
//   - A panic in a handler costs its own request only.
type Server struct {
	options Options
	began   time.Time
	engine  atomic.Pointer[Engine]
	room    atomic.Pointer[talk.Room]   // of the engine's model; nil when that has no chat template
	shelf   atomic.Pointer[shelf.Shelf] // there once there is an engine
	prints  diagnose.Log                // of conversations
	mux     *http.ServeMux
	other   http.Handler // what is nowhere
	meter   *meter.Meter
	line    *wire.Line
}

// New makes a server. e may be nil while the model loads; see Attach.
func New(e Engine, o Options) *Server {
	s := &Server{options: o.withDefaults(), mux: http.NewServeMux()}
	s.began = s.options.Clock()
	s.meter = meter.New(s.stats, s.ready, s.options.Trace.Stats)
	s.line = &wire.Line{
		Log:          s.options.Log,
		Meter:        s.meter,
		Trace:        s.options.Trace,
		BodyLimit:    s.options.BodyLimit,
		BodyPatience: s.options.BodyPatience,
		Clock:        s.options.Clock,
		NewID:        s.options.NewID,
	}
	if e != nil {
		s.Attach(e)
	}
	s.routes()
	return s
}

// Attach gives a server the engine it was made without.
func (s *Server) Attach(e Engine) {
	var room *talk.Room
	if info := e.Info(); info.Template != nil {
		room = talk.NewRoom(info.Template, info.Tokenizer)
	}
	s.room.Store(room)
	if s.shelf.Load() == nil {
		s.shelf.Store(s.openShelf())
	}
	s.engine.Store(&e)
}

// openShelf is the folder of responses; without it they are kept in memory.
func (s *Server) openShelf() *shelf.Shelf {
	unread := func(path string, why error) {
		s.options.Log.Warn("a stored response does not read", "path", path, "error", why)
	}
	kept, err := shelf.Open(shelf.Options{FS: s.options.Files, Dir: s.options.ResponsesDir}, unread)
	if err != nil {
		s.options.Log.Error("responses are kept in memory only", "error", err)
		kept, _ = shelf.Open(shelf.Options{}, unread) // memory does not fail
	}
	return kept
}

// attached is the engine, or nil while there is none.
func (s *Server) attached() Engine {
	if e := s.engine.Load(); e != nil {
		return *e
	}
	return nil
}

// ready says why no turn would be taken now, or nil.
func (s *Server) ready() error {
	e := s.attached()
	if e == nil {
		return wire.ErrLoading
	}
	return e.Ready()
}

// stats are the engine's, once there is one.
func (s *Server) stats() (engine.Stats, bool) {
	if e := s.attached(); e != nil {
		return e.Stats(), true
	}
	return engine.Stats{}, false
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if detour(r.URL.Path) {
		s.other.ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}
