package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mneme/internal/cli/value"
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
	addr   value.Address
	logs   *value.Choice
	log    *slog.Logger
}

func newServe(w World) *cobra.Command {
	s := &serveCommand{world: w, addr: defaultAddr, logs: value.OneOf("auto", "text", "json")}
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a model over HTTP", Args: exactly(0, "no arguments, only flags"),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	s.engine.register(w, cmd.Flags())
	cmd.Flags().Var(&s.addr, "addr", "where to listen; port 0 takes a free one")
	cmd.Flags().Var(s.logs, "log-format", "how to log; auto is text on a terminal, else json")
	return cmd
}

// run serves until SIGINT or SIGTERM, then lets turns end; a second signal ends
// the process at once, as the system does by itself.
func (s *serveCommand) run(ctx context.Context) error {
	s.log = newLogger(s.world.Err, s.logs.String())
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	listener, err := net.Listen("tcp", string(s.addr))
	if err != nil {
		return err
	}
	handler := newAPI(s.log, s.engine.model)
	server := s.httpServer(handler)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer server.Close()
	fmt.Fprintf(s.world.Err, "mneme listens on http://%s and loads %s\n", listener.Addr(), s.engine.model)

	rooms, err := Open(ctx, s.engine.settings(s.world), s.log)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	rooms.Attach(handler)
	s.greet(listener.Addr(), rooms)
	select {
	case err = <-failed:
	case <-ctx.Done():
		stop() // from here on a signal ends the process
		err = s.drain(server, rooms)
	}
	return errors.Join(err, rooms.Close())
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
func (s *serveCommand) drain(server *http.Server, rooms *Rooms) error {
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
func (s *serveCommand) greet(at net.Addr, rooms *Rooms) {
	base := value.Address(at.String()).URL()
	rooms.logStart(s.log, base)
	fmt.Fprintf(s.world.Err, `
mneme serves %s on %s. Three things to try:

  curl -s %[2]s/v1/chat/completions -H 'X-Agent-ID: ada' -d '{"messages":[{"role":"user","content":"My name is Ada. Who are you?"}]}'
  curl -sN %[2]s/v1/chat/completions -H 'X-Agent-ID: bob' -d '{"stream":true,"messages":[{"role":"user","content":"Write a line about rain."}]}'
  curl -s %[2]s/v1/agents

`, rooms.Engine.Info().Model, base)
}
