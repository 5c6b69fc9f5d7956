package trace_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"mneme/internal/trace"
)

// The variables of OpenTelemetry: those about traces go before the general ones.
func TestFromEnv(t *testing.T) {
	usual := func(endpoint string) trace.Settings {
		return trace.Settings{
			Endpoint: endpoint, Headers: http.Header{}, Timeout: 10 * time.Second, Delay: 5 * time.Second, Queue: 2048, Batch: 512,
			Attributes: map[string]string{"service.name": "mneme"}, Version: "1",
		}
	}
	everything := trace.Settings{
		Endpoint: "https://b/traces", Headers: http.Header{"K": {"v"}}, Timeout: 7 * time.Millisecond, Delay: 8 * time.Millisecond, Queue: 9, Batch: 10,
		Attributes: map[string]string{"service.name": "s", "a": "b"}, Version: "1",
	}
	for _, c := range []struct {
		variables []string
		want      trace.Settings
	}{
		{nil, trace.Settings{}},
		{[]string{"OTEL_SERVICE_NAME=s"}, trace.Settings{}},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:4318"}, usual("http://a:4318/v1/traces")},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:4318/base/"}, usual("http://a:4318/base/v1/traces")},
		{[]string{"OTEL_TRACES_EXPORTER=otlp"}, usual("http://localhost:4318/v1/traces")},
		{[]string{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"}, trace.Settings{}},
		{[]string{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"}, trace.Settings{}},
		{[]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://b/traces",
			"OTEL_EXPORTER_OTLP_HEADERS=x=y", "OTEL_EXPORTER_OTLP_TRACES_HEADERS=k=v", "OTEL_EXPORTER_OTLP_TIMEOUT=6", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=7",
			"OTEL_BSP_SCHEDULE_DELAY=8", "OTEL_BSP_MAX_QUEUE_SIZE=9", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=10", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
			"OTEL_SERVICE_NAME=s", "OTEL_RESOURCE_ATTRIBUTES=a=b,",
		}, everything},
	} {
		got, err := trace.FromEnv(environ(c.variables...), "1")
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", c.variables, got, err, c.want)
		}
	}
}

// What is impossible is said with its name, but for what may be secret.
func TestFromEnvRefuses(t *testing.T) {
	const to = "OTEL_EXPORTER_OTLP_ENDPOINT=http://a"
	for _, c := range []struct{ variable, want string }{
		{"OTEL_TRACES_EXPORTER=zipkin", `OTEL_TRACES_EXPORTER is "zipkin", not otlp or none`},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=a:4318", `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is "a:4318", not an http or https URL`},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc", not http/json: spans are sent in JSON over HTTP, to a port that is 4318 by custom`},
		{"OTEL_EXPORTER_OTLP_TIMEOUT=10s", `OTEL_EXPORTER_OTLP_TIMEOUT is "10s", not a whole number from 1 to 1048576`},
		{"OTEL_BSP_MAX_QUEUE_SIZE=0", `OTEL_BSP_MAX_QUEUE_SIZE is "0", not a whole number from 1 to 1048576`},
		{"OTEL_EXPORTER_OTLP_HEADERS=secret", `OTEL_EXPORTER_OTLP_HEADERS is "…", not name=value, separated by commas, values percent-encoded`},
		{"OTEL_EXPORTER_OTLP_HEADERS=key=%zz", `OTEL_EXPORTER_OTLP_HEADERS is "…", not name=value, separated by commas, values percent-encoded`},
	} {
		got, err := trace.FromEnv(environ(c.variable, to), "1")
		if err == nil || err.Error() != c.want || got.Endpoint != "" {
			t.Errorf("%s: %+v, %v", c.variable, got, err)
		}
	}
}
