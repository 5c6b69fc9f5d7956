// Package api is the server as HTTP sees it: routes, identity, limits, server-sent
// events, one error shape per dialect, metrics and the request log.
// It knows what a request may ask and what an answer must say. It leaves wire
// shapes to its dialects (openai), prompt text to chat, and turns to engine;
// listening, TLS and shutdown are the caller's.
package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"mneme/internal/engine"
	"mneme/internal/token"
)

// Engine is what the routes need of engine.Engine; see Of.
type Engine interface {
	Submit(ctx context.Context, r engine.Request) (Stream, error)
	Agents(namespace engine.Namespace) []engine.AgentInfo
	Agent(namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error)
	Turns(namespace engine.Namespace, id engine.AgentID) ([]engine.TurnInfo, error)
	CreateAgent(namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error)
	DeleteAgent(namespace engine.Namespace, id engine.AgentID) error
	Evict(ctx context.Context, namespace engine.Namespace, id engine.AgentID) error
	Fork(ctx context.Context, namespace engine.Namespace, from, to engine.AgentID, turn int) (engine.AgentInfo, error)
	Rollback(ctx context.Context, namespace engine.Namespace, id engine.AgentID, turn int) (engine.AgentInfo, error)
	Warm(ctx context.Context, namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error)
	Pin(namespace engine.Namespace, id engine.AgentID, pinned bool) (engine.AgentInfo, error)
	Export(namespace engine.Namespace, id engine.AgentID, withKV bool, w io.Writer) error
	Import(ctx context.Context, namespace engine.Namespace, id engine.AgentID, r io.ReaderAt, sizeBytes int64) (engine.AgentInfo, error)
	Info() engine.Info
	Stats() engine.Stats
	Ready() error
}

// Stream is a turn under way; engine.Stream is one.
type Stream interface {
	Prompt() []token.ID
	Next(ctx context.Context) (engine.Output, bool)
	Result() (engine.Completed, error)
	Close()
}

// Of makes an engine fit Engine, whose streams are an interface.
func Of(e *engine.Engine) Engine { return owned{e} }

type owned struct{ *engine.Engine }

func (o owned) Submit(ctx context.Context, r engine.Request) (Stream, error) {
	s, err := o.Engine.Submit(ctx, r)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Options are the server's settings.
type Options struct {
	Log         *slog.Logger     // default: slog.Default()
	BodyLimit   int64            // bytes of a request body; default 32 MiB
	ImportLimit int64            // bytes of an export to import; default 8 GiB
	Version     VersionInfo      // for /version
	Aliases     []string         // further names a request may give the model
	Clock       func() time.Time // default: time.Now
	NewID       func() string    // the random part of ids; default: 24 hex digits

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
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.NewID == nil {
		o.NewID = randomID
	}
	return o
}

// Server answers HTTP for one engine.
//   - Every answer is JSON, SSE, Prometheus text or empty; every error has the
//     vendor's shape.
//   - Without an engine yet it is alive and not ready: what needs one is 503.
//   - A panic in a handler costs its own request only.
type Server struct {
	options Options
	began   time.Time
	engine  atomic.Pointer[Engine]
	mux     *http.ServeMux
	other   http.Handler // what is nowhere
	meter   *meter
}

// New makes a server. e may be nil while the model loads; see Attach.
func New(e Engine, o Options) *Server {
	s := &Server{options: o.withDefaults(), mux: http.NewServeMux()}
	s.began = s.options.Clock()
	s.meter = newMeter(s)
	if e != nil {
		s.Attach(e)
	}
	s.routes()
	return s
}

// Attach gives a server the engine it was made without.
func (s *Server) Attach(e Engine) { s.engine.Store(&e) }

// attached is the engine, or nil while there is none.
func (s *Server) attached() Engine {
	if e := s.engine.Load(); e != nil {
		return *e
	}
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if detour(r.URL.Path) {
		s.other.ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}
