// Package trace tells a collector of OpenTelemetry where the time of requests
// went: it reads the OTEL_* settings, makes spans, and sends them as OTLP/HTTP in
// JSON.
// It leaves to its callers what a request is and which phases it has. Nothing here
// waits for the collector, and without settings nothing is made.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// flushLimit is how long Close may take.
const flushLimit = time.Second

// Tracer makes spans and sends them.
//   - A nil one makes none: that is what a server without OTEL_* has.
//   - It never waits for the collector: spans that find the queue full are dropped
//     and counted.
//   - Which requests are traced is the SDK's decision: OTEL_TRACES_SAMPLER, or what
//     the caller's traceparent says.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	queue    *queue
}

// Open starts a tracer; it is nil when the settings name no collector.
func Open(s Settings, log *slog.Logger) *Tracer {
	if s.Endpoint == "" {
		return nil
	}
	q := newQueue(s, log)
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(q), sdk.WithResource(resource.NewSchemaless(s.resource()...)))
	return &Tracer{provider: p, tracer: p.Tracer("mneme", api.WithInstrumentationVersion(s.Version)), queue: q}
}

// Close sends what there is, for a second at most.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what was not sent is counted, and logged
}

// Stats are counts of spans since the start.
type Stats struct {
	Sent    int64
	Dropped int64 // the queue was full, or the collector did not take them
}

// Stats takes the counters.
func (t *Tracer) Stats() Stats {
	if t == nil {
		return Stats{}
	}
	return Stats{Sent: t.queue.sent.Load(), Dropped: t.queue.dropped.Load()}
}

// Span is a request that is traced; a nil one is a request that is not.
type Span struct {
	tracer *Tracer
	ctx    context.Context
	span   api.Span
}

// Begin begins the span of a request, as a part of the trace that its header
// names; nil when the request is not traced.
func (t *Tracer) Begin(name string, header http.Header, at time.Time) *Span {
	if t == nil {
		return nil
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(header))
	ctx, span := t.tracer.Start(ctx, name, api.WithSpanKind(api.SpanKindServer), api.WithTimestamp(at))
	if !span.IsRecording() {
		return nil
	}
	return &Span{t, ctx, span}
}

// TraceID is the trace's name, 32 hex digits; "" when there is none.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Set notes what is known about the request.
func (s *Span) Set(attrs ...slog.Attr) {
	if s != nil {
		s.span.SetAttributes(attributes(attrs)...)
	}
}

// Phase adds a part of the request, which is over.
func (s *Span) Phase(name string, from time.Time, took time.Duration, attrs ...slog.Attr) {
	if s == nil {
		return
	}
	_, phase := s.tracer.tracer.Start(s.ctx, name, api.WithTimestamp(from), api.WithAttributes(attributes(attrs)...))
	phase.End(api.WithTimestamp(from.Add(took)))
}

// Fail notes that the request failed, and why.
func (s *Span) Fail(why string) {
	if s != nil {
		s.span.SetStatus(codes.Error, why)
	}
}

// End ends the span.
func (s *Span) End(at time.Time) {
	if s != nil {
		s.span.End(api.WithTimestamp(at))
	}
}

func attributes(attrs []slog.Attr) []attribute.KeyValue {
	list := make([]attribute.KeyValue, len(attrs))
	for i, a := range attrs {
		list[i] = keyValue(a)
	}
	return list
}

// keyValue is an attribute of text, a number, a truth, or a list of texts.
func keyValue(a slog.Attr) attribute.KeyValue {
	switch v := a.Value.Any().(type) {
	case string:
		return attribute.String(a.Key, v)
	case int64:
		return attribute.Int64(a.Key, v)
	case float64:
		return attribute.Float64(a.Key, v)
	case bool:
		return attribute.Bool(a.Key, v)
	case []string:
		return attribute.StringSlice(a.Key, v)
	}
	panic(fmt.Sprintf("trace: attribute %s is of kind %v", a.Key, a.Value.Kind()))
}
