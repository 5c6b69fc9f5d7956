package wire

import (
	"cmp"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mneme/internal/engine"
	"mneme/internal/engine/stream"
)

const timingHeader = "Server-Timing"

// Turn is a turn that an exchange has taken, as far as it came.
type Turn struct {
	Model string    // that it asked
	Began time.Time // when it was submitted
	engine.Completed
}

// Unfinished notes a turn that has failed, or was abandoned, for the trace.
func (x *Exchange) Unfinished(t Turn) { x.turns = append(x.turns, t) }

// Begun has the answer's header say where the time until the first output went,
// if it has not left.
func (x *Exchange) Begun(t engine.Timings) {
	if !x.timed {
		x.setTiming(t, stream.Queue, stream.Restore, stream.Prefill)
	}
}

// timing has the answer say where all of a turn's time went: in its header, or in
// the trailer of a stream. Of several turns the first counts.
func (x *Exchange) timing(t engine.Timings) {
	if !x.timed {
		x.setTiming(t, stream.Phases()...)
	}
	x.timed = true
}

// setTiming sets the header; once that has left, what stands in it is the trailer.
func (x *Exchange) setTiming(t engine.Timings, phases ...stream.Phase) {
	if x.events != nil { // its pings write the header too
		x.events.mu.Lock()
		defer x.events.mu.Unlock()
	}
	name := timingHeader
	if x.w.status != 0 {
		name = http.TrailerPrefix + name
	}
	x.Header().Set(name, serverTiming(t, phases))
}

// serverTiming has milliseconds, to the microsecond.
func serverTiming(t engine.Timings, phases []stream.Phase) string {
	var entries []string
	for _, p := range phases {
		entries = append(entries, p.String()+";dur="+strconv.FormatFloat(float64(t.Of(p).Microseconds())/1000, 'f', -1, 64))
	}
	return strings.Join(entries, ", ")
}

// endSpan says in the trace what the exchange was, and where its time went.
func (x *Exchange) endSpan(now time.Time) {
	if x.span == nil {
		return
	}
	x.span.Set(x.spanAttrs()...)
	if x.done != nil {
		x.span.Set(x.turnSpanAttrs()...)
	}
	for i, t := range x.turns {
		x.addPhases(t, i)
	}
	if x.failure != nil {
		x.span.Set(slog.String("error.type", x.reason()))
		if status := x.status(); status < http.StatusBadRequest || status >= http.StatusInternalServerError {
			x.span.Fail(x.reason()) // what the client did, or left, is no error of ours
		}
	}
	x.span.End(now)
}

// reason is why the exchange failed, in one of few words.
func (x *Exchange) reason() string {
	if x.gone {
		return "client_gone"
	}
	return x.refusal(x.failure).Reason()
}

// spanAttrs have the names of OpenTelemetry where it has one.
func (x *Exchange) spanAttrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("http.request.method", x.Request.Method),
		slog.String("http.route", x.route.Path),
		slog.Int("http.response.status_code", x.status()),
		slog.String("mneme.request_id", x.ID),
	}
	if key := x.Account.Name(); key != "" {
		attrs = append(attrs, slog.String("mneme.key", key))
	}
	if x.Agent != "" {
		attrs = append(attrs, slog.String("mneme.agent", string(x.Agent)))
	}
	return attrs
}

// turnSpanAttrs are about the turns that ended well.
func (x *Exchange) turnSpanAttrs() []slog.Attr {
	var finishes []string
	model := ""
	for _, t := range x.turns {
		if t.Finish != "" {
			finishes, model = append(finishes, string(t.Finish)), cmp.Or(model, t.Model)
		}
	}
	attrs := []slog.Attr{
		slog.String("gen_ai.operation.name", x.route.Operation),
		slog.String("gen_ai.provider.name", "mneme"),
		slog.String("gen_ai.request.model", model),
		slog.String("gen_ai.response.model", model),
		slog.Int("gen_ai.usage.input_tokens", x.done.Usage.Prompt),
		slog.Int("gen_ai.usage.cache_read.input_tokens", x.done.Usage.Cached),
		slog.Int("gen_ai.usage.output_tokens", x.done.Usage.Completion),
		slog.Any("gen_ai.response.finish_reasons", finishes),
		slog.Float64("gen_ai.response.time_to_first_chunk", x.done.TimeToFirst.Seconds()),
		slog.String("mneme.start", string(x.done.Start)),
	}
	if x.done.PublishErr != nil {
		attrs = append(attrs, slog.String("mneme.publish_error", x.done.PublishErr.Error()))
	}
	return attrs
}

// addPhases adds a turn's phases to the trace; of one that has no end, those that
// took time.
func (x *Exchange) addPhases(t Turn, choice int) {
	var attrs []slog.Attr
	if len(x.turns) > 1 {
		attrs = []slog.Attr{slog.Int("mneme.choice", choice)}
	}
	from := t.Began
	for _, p := range stream.Phases() {
		took := t.Timings.Of(p)
		if took > 0 || t.Finish != "" {
			x.span.Phase(p.String(), from, took, attrs...)
		}
		from = from.Add(took)
	}
}
