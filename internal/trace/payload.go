package trace

import (
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// The request of OTLP/HTTP in JSON, version 1: ids in hex, numbers of 64 bits in
// quotes, kinds and codes as numbers.
type (
	payload struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   described    `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	described struct {
		Attributes []pair `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	span struct {
		TraceID    string `json:"traceId"`
		SpanID     string `json:"spanId"`
		State      string `json:"traceState,omitempty"`
		ParentID   string `json:"parentSpanId,omitempty"`
		Flags      uint32 `json:"flags"`
		Name       string `json:"name"`
		Kind       int    `json:"kind"`
		Start      string `json:"startTimeUnixNano"`
		End        string `json:"endTimeUnixNano"`
		Attributes []pair `json:"attributes,omitempty"`
		Lost       int    `json:"droppedAttributesCount,omitempty"`
		Status     status `json:"status"`
	}
	status struct {
		Message string `json:"message,omitempty"`
		Code    int    `json:"code,omitempty"`
	}
	pair struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string  `json:"stringValue,omitempty"`
		Bool   *bool    `json:"boolValue,omitempty"`
		Int    *string  `json:"intValue,omitempty"`
		Double *float64 `json:"doubleValue,omitempty"`
		Array  *array   `json:"arrayValue,omitempty"`
	}
	array struct {
		Values []value `json:"values"`
	}
)

// Of Span.flags, beside those of the traceparent.
const (
	parentIsKnown  = 0x100 // whether it is remote
	parentIsRemote = 0x200
)

const statusError = 2

// newPayload is a batch, which is all of one process and one scope.
func newPayload(batch []sdk.ReadOnlySpan) payload {
	first := batch[0]
	by := first.InstrumentationScope()
	s := scopeSpans{Scope: scope{by.Name, by.Version}}
	for _, one := range batch {
		s.Spans = append(s.Spans, newSpan(one))
	}
	return payload{[]resourceSpans{{described{pairs(first.Resource().Attributes())}, []scopeSpans{s}}}}
}

func newSpan(s sdk.ReadOnlySpan) span {
	self, parent := s.SpanContext(), s.Parent()
	made := span{
		TraceID: self.TraceID().String(), SpanID: self.SpanID().String(), State: self.TraceState().String(),
		Flags: uint32(self.TraceFlags()) | parentIsKnown, Name: s.Name(), Kind: int(s.SpanKind()),
		Start: nanos(s.StartTime()), End: nanos(s.EndTime()), Attributes: pairs(s.Attributes()), Lost: s.DroppedAttributes(),
	}
	if parent.HasSpanID() {
		made.ParentID = parent.SpanID().String()
	}
	if parent.IsRemote() {
		made.Flags |= parentIsRemote
	}
	if said := s.Status(); said.Code == codes.Error {
		made.Status = status{said.Description, statusError}
	}
	return made
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func pairs(attrs []attribute.KeyValue) []pair {
	list := make([]pair, len(attrs))
	for i, a := range attrs {
		list[i] = pair{string(a.Key), newValue(a.Value)}
	}
	return list
}

// newValue is a value of one of the kinds that keyValue makes.
func newValue(v attribute.Value) value {
	switch v.Type() {
	case attribute.BOOL:
		b := v.AsBool()
		return value{Bool: &b}
	case attribute.INT64:
		n := strconv.FormatInt(v.AsInt64(), 10)
		return value{Int: &n}
	case attribute.FLOAT64:
		f := v.AsFloat64()
		return value{Double: &f}
	case attribute.STRINGSLICE:
		a := array{Values: []value{}}
		for _, text := range v.AsStringSlice() {
			a.Values = append(a.Values, value{String: &text})
		}
		return value{Array: &a}
	}
	text := v.String()
	return value{String: &text}
}
