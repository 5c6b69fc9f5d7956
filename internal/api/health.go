package api

import (
	"errors"
	"net/http"
	"runtime"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
)

type statusJSON struct {
	Status string `json:"status"`
}

// healthz says that the process answers.
func healthz(x *exchange) error { return x.json(http.StatusOK, statusJSON{"ok"}) }

// readyz says whether a turn would be taken now, or why not.
func readyz(x *exchange) error {
	if x.engine == nil {
		return errLoading
	}
	if err := x.engine.Ready(); err != nil {
		return notReady(err)
	}
	return x.json(http.StatusOK, statusJSON{"ready"})
}

// notReady is always a 503 and always has the reason.
func notReady(err error) error {
	if errors.Is(err, engine.ErrDraining) {
		return err
	}
	return &openai.Error{
		Status:  http.StatusServiceUnavailable,
		Message: err.Error(),
		Type:    openai.TypeServer,
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

func version(x *exchange) error {
	v := versionJSON{
		Version:  x.server.options.Version.Version,
		Commit:   x.server.options.Version.Commit,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if x.engine != nil {
		info := x.engine.Info()
		v.Kernel, v.NumericsClass = info.Kernel, info.NumericsClass
	}
	return x.json(http.StatusOK, v)
}
