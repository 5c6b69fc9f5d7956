package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mneme/internal/api"
	"mneme/internal/api/access"
	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/trace"
)

const (
	defaultAddr  = value.Address("127.0.0.1:8080")
	drainLimit   = 30 * time.Second // for turns under way when the server is told to stop
	headerLimit  = 10 * time.Second // to send a request's header
	idleLimit    = 2 * time.Minute  // between requests of a connection
	maxHeaderLen = 64 << 10
)

// serveCommand is `mneme serve` with its flags.
type serveCommand struct {
	world  World
	engine engineFlags
	access accessFlags
	addr   value.Address
	logs   *value.Choice
	log    *slog.Logger
	tracer *trace.Tracer // nil unless OTEL_* says where spans go
}

func newServe(w World) *cobra.Command {
	s := &serveCommand{world: w, addr: defaultAddr, logs: value.OneOf("auto", "text", "json")}
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a model over HTTP", Args: exactly(0, "no arguments, only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	s.engine.register(w, cmd.Flags())
	s.access.register(cmd.Flags())
	cmd.Flags().Var(&s.addr, "addr", "where to listen; port 0 takes a free one")
	cmd.Flags().Var(s.logs, "log-format", "how to log; auto is text on a terminal, else json")
	return cmd
}

// run serves until SIGINT or SIGTERM, then lets turns end; a second signal ends
// the process at once, as the system does by itself.
func (s *serveCommand) run(ctx context.Context) error {
	s.log = newLogger(s.world.Err, s.logs.String())
	s.tracer = s.openTracer()
	defer s.tracer.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	door, err := openEntrance(s.access, s.addr, s.log)
	if err != nil {
		return err
	}
	handler, err := s.newAPI(door.gate)
	if err != nil {
		return err
	}
	listener, err := door.listen()
	if err != nil {
		return err
	}
	server := s.httpServer(handler)
	failed := make(chan error, 1)
	go func() { failed <- door.serve(server, listener) }()
	defer server.Close()
	defer door.watch()()
	base := door.url(listener.Addr())
	fmt.Fprintf(s.world.Err, "mneme listens on %s and loads %s\n", base, s.engine.model)

	rooms, err := wire.Open(ctx, s.engine.settings(s.world), s.log)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	handler.Attach(api.Of(rooms.Engine))
	s.greet(base, rooms)
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop() // from here on a signal ends the process
		err = s.drain(server, rooms)
	}
	return errors.Join(err, rooms.Close())
}

// newAPI makes the HTTP side, which answers that the model is being loaded until
// rooms are attached. An export may be as large as the disk for KV.
func (s *serveCommand) newAPI(gate *access.Gate) (*api.Server, error) {
	settings := s.engine.settings(s.world)
	bounds, err := wire.DiskBoundsOf(settings)
	if err != nil {
		return nil, err
	}
	build := Build()
	responses := filepath.Join(s.engine.data, "responses")
	if settings.KeyFile != "" {
		responses = "" // they would lie there in clear
	}
	return api.New(nil, api.Options{
		Log: s.log, Version: api.VersionInfo{Version: build.Version, Commit: build.Commit},
		Aliases: []string{s.engine.model}, ImportLimit: bounds.Budget, SpoolDir: s.engine.data, ResponsesDir: responses, Access: gate, Trace: s.tracer,
	}), nil
}

// openTracer has spans sent where OTEL_* says; what is wrong there costs the spans only.
func (s *serveCommand) openTracer() *trace.Tracer {
	settings, err := trace.FromEnv(s.world.Getenv, Build().Version)
	if err != nil {
		s.log.Warn("nothing is traced", "error", err)
	}
	if settings.Endpoint != "" {
		s.log.Info("requests are traced", "service", settings.Attributes["service.name"])
	}
	return trace.Open(settings, s.log)
}

// httpServer bounds what a client may hold open without ever cutting a stream.
func (s *serveCommand) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerLimit, IdleTimeout: idleLimit, MaxHeaderBytes: maxHeaderLen,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
}

// unlessStopped drops an error that only says we were told to stop.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// drain waits for the turns under way while the server says to everybody else
// that it goes away; then it closes the listener. When the limit passes, what
// still runs is cancelled and its agents stay at their last published turn.
func (s *serveCommand) drain(server *http.Server, rooms *wire.Rooms) error {
	s.log.Info("stopping", "limit", drainLimit)
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	err := rooms.Engine.Drain(ctx)
	if down := server.Shutdown(ctx); err == nil { // the last answers are on their way
		err = down
	}
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("turns still ran when the time was up; they are cancelled", "limit", drainLimit)
		return nil
	}
	return err
}

// greet prints where the server is and three things to try.
func (s *serveCommand) greet(base string, rooms *wire.Rooms) {
	rooms.LogStart(s.log, base)
	key := ""
	if s.access.apiKeys != "" {
		key = ` -H "Authorization: Bearer $MNEME_API_KEY"`
	}
	fmt.Fprintf(s.world.Err, `
mneme serves %s on %s. Three things to try:

  curl -s%[3]s %[2]s/v1/chat/completions -H 'X-Agent-ID: ada' -d '{"messages":[{"role":"user","content":"My name is Ada. Who are you?"}]}'
  curl -sN%[3]s %[2]s/v1/chat/completions -H 'X-Agent-ID: bob' -d '{"stream":true,"messages":[{"role":"user","content":"Write a line about rain."}]}'
  curl -s%[3]s %[2]s/v1/agents

`, rooms.Engine.Info().Model, base, key)
}
