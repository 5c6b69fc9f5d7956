package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The program sends what OTEL_* asks for, at the latest when it ends; what is wrong
// there keeps it from nothing.
func TestServeTraces(t *testing.T) {
	var mu sync.Mutex
	var got string
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got += r.Header.Get("Key") + string(body)
	}))
	defer collector.Close()
	p := startServe(t, tinyModel(t), t.TempDir(), "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_SERVICE_NAME=night", "OTEL_EXPORTER_OTLP_HEADERS=Key=secret")
	p.ask(p.url(), "ada", says("user", "hello"))
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, part := range []string{"secret", `"stringValue":"night"`, `"name":"POST /v1/chat/completions"`, `"name":"queue"`, `"name":"save"`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in what was sent:\n%s", part, got)
		}
	}
	if strings.Contains(p.said.String(), "secret") {
		t.Errorf("the log says %s", p.said)
	}

	wrong := startServe(t, tinyModel(t), t.TempDir(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	wrong.url()
	if said := wrong.said.String(); !strings.Contains(said, "nothing is traced") || !strings.Contains(said, "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("the log says %s", said)
	}
	wrong.end(syscall.SIGTERM)
}
