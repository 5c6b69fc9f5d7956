package wire

import (
	"log/slog"
	"net/http"
	"time"

	"mneme/internal/engine"
)

// level is how loud the exchange's log line is.
func (x *Exchange) level() slog.Level {
	switch {
	case x.bug:
		return slog.LevelError
	case x.failure != nil && !x.gone && x.refusal(x.failure).Status == http.StatusInternalServerError:
		return slog.LevelError
	case x.done != nil && x.done.PublishErr != nil:
		return slog.LevelError
	case x.route.Probe:
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

func (x *Exchange) attrs(now time.Time) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("id", x.ID),
		slog.String("method", x.Request.Method),
		slog.String("route", x.route.Path),
		slog.Int("status", x.status()),
	}
	if id := x.span.TraceID(); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if key := x.Account.Name(); key != "" {
		attrs = append(attrs, slog.String("key", key))
	}
	if x.Agent != "" {
		attrs = append(attrs, slog.String("agent", string(x.Agent)))
	}
	if x.done != nil {
		attrs = append(attrs, turnAttrs(x.done)...)
	}
	if x.failure != nil {
		attrs = append(attrs, slog.String("error", x.failure.Error()))
	}
	return append(attrs, millis("total_ms", now.Sub(x.began)))
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
