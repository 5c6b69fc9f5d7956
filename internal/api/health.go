package api

import (
	"errors"
	"net/http"
	"runtime"

	"mneme/internal/api/access"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// life are the routes of those who watch the server.
func (s *Server) life() []route {
	return []route{
		{path: "/{$}", door: access.Open, early: true, probe: true, methods: map[string]handler{get: s.front}},
		{path: "/healthz", door: access.Open, early: true, probe: true, methods: map[string]handler{get: healthz}},
		{path: "/readyz", door: access.Open, early: true, probe: true, methods: map[string]handler{get: readyz}},
		{path: "/metrics", door: access.Watch, early: true, probe: true, methods: map[string]handler{get: s.metrics}},
		{path: "/version", door: access.Open, early: true, methods: map[string]handler{get: s.version}},
	}
}

func (s *Server) metrics(x *wire.Exchange, _ Engine) error {
	s.meter.ServeHTTP(x.Writer(), x.Request)
	return nil
}

// front is what clients ask for to see whether anybody is there.
func (s *Server) front(x *wire.Exchange, _ Engine) error {
	return x.JSON(http.StatusOK, frontJSON{"mneme", s.options.Version.Version})
}

type frontJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type statusJSON struct {
	Status string `json:"status"`
}

// healthz says that the process answers.
func healthz(x *wire.Exchange, _ Engine) error { return x.JSON(http.StatusOK, statusJSON{"ok"}) }

// readyz says whether a turn would be taken now, or why not.
func readyz(x *wire.Exchange, e Engine) error {
	if e == nil {
		return wire.ErrLoading
	}
	if err := e.Ready(); err != nil {
		return notReady(err)
	}
	return x.JSON(http.StatusOK, statusJSON{"ready"})
}

// notReady is always a 503 and always has the reason.
func notReady(err error) error {
	if errors.Is(err, engine.ErrDraining) {
		return err
	}
	return &wire.Error{
		Status:  http.StatusServiceUnavailable,
		Message: err.Error(),
		Code:    "not_ready",
	}
}

// versionJSON is the build and, with an engine, what it computes with.
type versionJSON struct {
	Version       string `json:"version"`
	Commit        string `json:"commit,omitempty"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
	Kernel        string `json:"kernel,omitempty"`
	NumericsClass string `json:"numerics_class,omitempty"`
}

func (s *Server) version(x *wire.Exchange, e Engine) error {
	v := versionJSON{
		Version:  s.options.Version.Version,
		Commit:   s.options.Version.Commit,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if e != nil {
		info := e.Info()
		v.Kernel, v.NumericsClass = info.Kernel, info.NumericsClass
	}
	return x.JSON(http.StatusOK, v)
}
