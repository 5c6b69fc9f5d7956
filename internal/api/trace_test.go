package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"mneme/internal/api"
	"mneme/internal/engine"
	"mneme/internal/trace"
)

// span is what a collector gets of one.
type span struct {
	TraceID, SpanID, ParentSpanID, Name string
	StartTimeUnixNano, EndTimeUnixNano  int64 `json:",string"`
	Attributes                          []struct {
		Key   string
		Value map[string]any
	}
	Status struct {
		Message string
		Code    int
	}
}

// tracing has a server traced, and gives the spans of what it was asked.
func tracing(t *testing.T, ask func(*bench)) []span {
	t.Helper()
	var got []span
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			ResourceSpans []struct{ ScopeSpans []struct{ Spans []span } }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		got = append(got, body.ResourceSpans[0].ScopeSpans[0].Spans...)
	}))
	defer collector.Close()
	tracer := trace.Open(trace.Settings{Endpoint: collector.URL, Timeout: time.Second, Delay: time.Minute, Queue: 100, Batch: 100}, quiet)
	b := newBenchWith(t, api.Options{Trace: tracer})
	ask(b)
	b.http.Close()
	tracer.Close()
	collector.Close()
	return got
}

// tree draws spans as they hang together, each with its times since noon and its
// attributes.
func tree(spans []span, parent string, depth int) (lines []string) {
	slices.SortStableFunc(spans, func(a, b span) int { return int(a.StartTimeUnixNano - b.StartTimeUnixNano) })
	for _, s := range spans {
		if s.ParentSpanID != parent {
			continue
		}
		since := func(nano int64) time.Duration { return time.Unix(0, nano).Sub(noon) }
		line := fmt.Sprintf("%s%s %v-%v", strings.Repeat("  ", depth), s.Name, since(s.StartTimeUnixNano), since(s.EndTimeUnixNano))
		for _, a := range s.Attributes {
			for _, v := range a.Value {
				line += fmt.Sprintf(" %s=%v", a.Key, v)
			}
		}
		if s.Status.Code != 0 {
			line += fmt.Sprintf(" status=%d %s", s.Status.Code, s.Status.Message)
		}
		lines = append(append(lines, line), tree(spans, s.SpanID, depth+1)...)
	}
	return lines
}

const (
	caller = "0af7651916cd43dd8448eb211c80319c"
	within = "b7ad6b7169203331"
)

// A chat of an agent, in its caller's trace; the log line names the trace.
func TestSpansOfChat(t *testing.T) {
	for _, stream := range []string{"false", "true"} {
		spans := tracing(t, func(b *bench) {
			b.get("/healthz")
			b.chat(`{`+hi+`,"stream":`+stream+`}`, "X-Agent-ID: ada", "traceparent: 00-"+caller+"-"+within+"-01")
			if said := b.log.String(); !strings.Contains(said, "trace_id="+caller) {
				t.Errorf("the log says %s", said)
			}
		})
		for _, s := range spans {
			if s.TraceID != caller {
				t.Errorf("%s is in trace %s", s.Name, s.TraceID)
			}
		}
		want := `POST /v1/chat/completions 0s-0s http.request.method=POST http.route=/v1/chat/completions http.response.status_code=200 mneme.request_id=req-f00d mneme.agent=ada` +
			` gen_ai.operation.name=chat gen_ai.provider.name=mneme gen_ai.request.model=letters gen_ai.response.model=letters` +
			` gen_ai.usage.input_tokens=21 gen_ai.usage.cache_read.input_tokens=0 gen_ai.usage.output_tokens=3` +
			` gen_ai.response.finish_reasons=map[values:[map[stringValue:stop]]] gen_ai.response.time_to_first_chunk=0.04 mneme.start=uncached
  queue 0s-1.5ms
  restore 1.5ms-3.5ms
  prefill 3.5ms-40ms
  decode 40ms-120ms
  save 120ms-123ms`
		if got := strings.Join(tree(spans, within, 0), "\n"); got != want {
			t.Errorf("stream %s:\ngot  %s\nwant %s", stream, got, want)
		}
	}
}

// Two choices have their phases beside each other.
func TestSpansOfChoices(t *testing.T) {
	spans := tracing(t, func(b *bench) { b.chat(`{` + hi + `,"n":2}`) })
	lines := tree(spans, "", 0)
	if len(lines) != 11 || !strings.Contains(lines[0], "gen_ai.response.finish_reasons=map[values:[map[stringValue:stop] map[stringValue:stop]]]") ||
		lines[1] != "  queue 0s-1.5ms mneme.choice=0" || lines[2] != "  queue 0s-1.5ms mneme.choice=1" {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

// What went wrong stands in the span of the request: ours is an error, the client's
// is not. A turn that broke has the phases that it had.
func TestSpansOfFailures(t *testing.T) {
	const chat = "POST /v1/chat/completions 0s-0s http.request.method=POST http.route=/v1/chat/completions http.response.status_code="
	const begun = "\n  queue 0s-1.5ms\n  restore 1.5ms-3.5ms\n  prefill 3.5ms-40ms"
	for _, c := range []struct {
		body string
		set  func(*fake)
		want string
	}{
		{`{`, func(*fake) {}, chat + "400 mneme.request_id=req-f00d error.type=invalid_request"},
		{`{` + hi + `}`, func(f *fake) { f.refuse = engine.ErrQueueFull }, chat + "429 mneme.request_id=req-f00d error.type=queue_full"},
		{`{` + hi + `}`, func(f *fake) { f.refuse = engine.ErrDraining }, chat + "503 mneme.request_id=req-f00d error.type=draining status=2 draining"},
		{`{` + hi + `}`, func(f *fake) { f.panics = true }, chat + "500 mneme.request_id=req-f00d error.type=internal_error status=2 internal_error"},
		{`{` + hi + `,"stream":true}`, func(f *fake) { f.breaks = errors.New("a secret") },
			chat + "200 mneme.request_id=req-f00d error.type=internal_error status=2 internal_error" + begun},
	} {
		spans := tracing(t, func(b *bench) {
			c.set(b.fake)
			b.chat(c.body)
		})
		if got := strings.Join(tree(spans, "", 0), "\n"); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
}

// Every dialect says where the time went: whole answers in the header. A stream's
// header has what is known when it leaves, its trailer all.
func TestServerTiming(t *testing.T) {
	const early = "queue;dur=1.5, restore;dur=2, prefill;dur=36.5"
	const all = early + ", decode;dur=80, save;dur=3"
	for _, c := range []struct{ path, body, header, trailer string }{
		{"/v1/chat/completions", `{` + hi + `}`, all, ""},
		{"/v1/chat/completions", `{` + hi + `,"n":2}`, all, ""},
		{"/v1/completions", `{"prompt":"hi"}`, all, ""},
		{"/v1/completions", `{"prompt":["hi","ho"]}`, all, ""},
		{"/v1/responses", `{"input":"hi"}`, all, ""},
		{"/v1/messages", `{` + hi + `,"max_tokens":9}`, all, ""},
		{"/v1/completions", `{"prompt":"hi","stream":true}`, early, all},
		{"/v1/messages", `{` + hi + `,"max_tokens":9,"stream":true}`, early, all},
		{"/v1/chat/completions", `{` + hi + `,"stream":true}`, "", all}, // its first event leaves before its prompt is computed
		{"/v1/responses", `{"input":"hi","stream":true}`, "", all},
		{"/tokenize", `{"text":"hi"}`, "", ""},
		{"/v1/chat/completions", `{`, "", ""},
	} {
		b := newBench(t)
		answer, err := b.http.Client().Post(b.http.URL+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, answer.Body)
		if header, trailer := answer.Header.Get("Server-Timing"), answer.Trailer.Get("Server-Timing"); header != c.header || trailer != c.trailer {
			t.Errorf("%s %s:\nheader  %q, want %q\ntrailer %q, want %q\n%s", c.path, c.body, header, c.header, trailer, c.trailer, body)
		}
	}
}

func readAll(t *testing.T, body io.ReadCloser) string {
	t.Helper()
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
