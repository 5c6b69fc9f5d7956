package trace_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mneme/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes posts as an OpenTelemetry collector does.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	posts   []post
	answers []int         // statuses, one a post; then 200
	says    string        // its answers' body
	hold    chan struct{} // posts wait for it
}

type post struct {
	path   string
	header http.Header
	body   string
}

func newCollector(t *testing.T) *collector {
	c := &collector{says: "{}"}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if c.hold != nil {
		<-c.hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts = append(c.posts, post{r.URL.Path, r.Header, string(body)})
	if len(c.answers) > 0 {
		w.WriteHeader(c.answers[0])
		c.answers = c.answers[1:]
	}
	io.WriteString(w, c.says)
}

// open is a tracer of the collector's, with variables beside.
func (c *collector) open(t *testing.T, log io.Writer, variables ...string) *trace.Tracer {
	t.Helper()
	s, err := trace.FromEnv(environ(append(variables, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL)...), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return trace.Open(s, slog.New(slog.NewTextHandler(log, nil)))
}

func environ(variables ...string) func(string) string {
	return func(name string) string {
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// A request that is part of a caller's trace, with a phase, as a collector gets it.
func TestSpans(t *testing.T) {
	c := newCollector(t)
	tracer := c.open(t, t.Output(), "OTEL_SERVICE_NAME=night", "OTEL_RESOURCE_ATTRIBUTES=service.name=day,zone=a%20b", "OTEL_EXPORTER_OTLP_HEADERS=api-key=s%3Dx, Team=ada")
	caller := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Tracestate": {"x=y"}}
	s := tracer.Begin("POST /x", caller, noon)
	s.Set(slog.String("mneme.agent", "ada"), slog.Int("n", 1<<60), slog.Float64("f", 0.5), slog.Bool("b", true), slog.Any("why", []string{"stop"}))
	s.Phase("queue", noon.Add(time.Second), 250*time.Millisecond, slog.Int("choice", 1))
	s.Fail("it broke")
	s.End(noon.Add(2 * time.Second))
	tracer.Close()
	if s.TraceID() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("trace %s", s.TraceID())
	}
	if len(c.posts) != 1 || c.posts[0].path != "/v1/traces" {
		t.Fatalf("posts: %v", c.posts)
	}
	h := c.posts[0].header
	if got := []string{h.Get("Content-Type"), h.Get("Api-Key"), h.Get("Team"), h.Get("User-Agent")}; !reflect.DeepEqual(got, []string{"application/json", "s=x", "ada", "mneme/1.2.3"}) {
		t.Errorf("headers %q", got)
	}
	body := c.posts[0].body
	ids := spanIDs(t, body)
	want := `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"night"}},
			{"key":"service.version","value":{"stringValue":"1.2.3"}},{"key":"zone","value":{"stringValue":"a b"}}]},
		"scopeSpans":[{"scope":{"name":"mneme","version":"1.2.3"},"spans":[
			{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"` + ids[0] + `","traceState":"x=y","parentSpanId":"` + ids[1] + `","flags":257,"name":"queue","kind":1,
				"startTimeUnixNano":"1795435201000000000","endTimeUnixNano":"1795435201250000000","attributes":[{"key":"choice","value":{"intValue":"1"}}],"status":{}},
			{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"` + ids[1] + `","traceState":"x=y","parentSpanId":"b7ad6b7169203331","flags":769,"name":"POST /x","kind":2,
				"startTimeUnixNano":"1795435200000000000","endTimeUnixNano":"1795435202000000000","attributes":[{"key":"mneme.agent","value":{"stringValue":"ada"}},
				{"key":"n","value":{"intValue":"1152921504606846976"}},{"key":"f","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},
				{"key":"why","value":{"arrayValue":{"values":[{"stringValue":"stop"}]}}}],"status":{"message":"it broke","code":2}}]}]}]}`
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(want)); err != nil {
		t.Fatal(err)
	}
	if body != compact.String() {
		t.Errorf("got  %s\nwant %s", body, compact.String())
	}
	if got := tracer.Stats(); got != (trace.Stats{Sent: 2}) {
		t.Errorf("%+v", got)
	}
}

func spanIDs(t *testing.T, body string) (ids []string) {
	t.Helper()
	for _, part := range strings.Split(body, `"spanId":"`)[1:] {
		ids = append(ids, part[:16])
	}
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Fatalf("spans %v in %s", ids, body)
	}
	return ids
}

// What the caller does not want traced is not; neither is anything without settings.
func TestNothing(t *testing.T) {
	c := newCollector(t)
	tracer := c.open(t, t.Output())
	s := tracer.Begin("POST /x", http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}}, noon)
	off := trace.Open(trace.Settings{}, slog.New(slog.DiscardHandler))
	for _, s := range []*trace.Span{s, off.Begin("POST /x", http.Header{}, noon)} {
		if s != nil {
			t.Error("a span")
		}
		s.Set(slog.String("a", "b"))
		s.Phase("queue", noon, time.Second)
		s.Fail("it broke")
		s.End(noon)
		if s.TraceID() != "" {
			t.Error("a trace")
		}
	}
	off.Close()
	tracer.Close()
	if len(c.posts) != 0 || tracer.Stats() != off.Stats() {
		t.Errorf("posts %v, stats %+v", c.posts, tracer.Stats())
	}
}

// A collector that holds its breath keeps nobody waiting: what does not fit in the
// queue is dropped, and Close gives up after a second.
func TestNobodyWaits(t *testing.T) {
	c := newCollector(t)
	c.hold = make(chan struct{})
	defer close(c.hold)
	var log safeBuffer
	tracer := c.open(t, &log, "OTEL_BSP_MAX_QUEUE_SIZE=4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1")
	began := time.Now()
	for range 100 {
		tracer.Begin("GET /x", http.Header{}, noon).End(noon)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("100 spans took %v", took)
	}
	if got := tracer.Stats(); got.Sent != 0 || got.Dropped < 95 {
		t.Errorf("%+v: one is being sent, four wait", got)
	}
	began = time.Now()
	tracer.Close()
	if took := time.Since(began); took < 900*time.Millisecond || took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
	if got := tracer.Stats(); got != (trace.Stats{Dropped: 100}) {
		t.Errorf("%+v", got)
	}
	if said := log.String(); strings.Count(said, "spans are lost") != 1 {
		t.Errorf("the log says %s", said)
	}
}

// safeBuffer is written by a tracer while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// What a collector answers decides whether it is asked again, and what is lost.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []int
		says    string
		posts   int
		want    trace.Stats
		log     string
	}{
		{"busy once", []int{503}, "{}", 2, trace.Stats{Sent: 1}, ""},
		{"wrong key", []int{401}, "{}", 1, trace.Stats{Dropped: 1}, "401 Unauthorized"},
		{"elsewhere", []int{307}, "{}", 1, trace.Stats{Dropped: 1}, "307 Temporary Redirect"},
		{"too old", nil, `{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}`, 1, trace.Stats{Dropped: 1}, "1 refused: too old"},
		{"a warning", nil, `{"partialSuccess":{"errorMessage":"soon"}}`, 1, trace.Stats{Sent: 1}, ""},
		{"no JSON", nil, `ok`, 1, trace.Stats{Sent: 1}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := newCollector(t)
			at.answers, at.says = c.answers, c.says
			var log safeBuffer
			tracer := at.open(t, &log)
			tracer.Begin("GET /x", http.Header{}, noon).End(noon)
			tracer.Close()
			if got := tracer.Stats(); got != c.want || len(at.posts) != c.posts {
				t.Errorf("%+v after %d posts, want %+v after %d", got, len(at.posts), c.want, c.posts)
			}
			if said := log.String(); (said == "") != (c.log == "") || !strings.Contains(said, c.log) {
				t.Errorf("the log says %q, want %q", said, c.log)
			}
		})
	}
}

// Without a collector the span is lost, and the log does not say the secret.
func TestNoCollector(t *testing.T) {
	c := newCollector(t)
	c.Close()
	c.URL = strings.Replace(c.URL, "http://", "http://user:secret@", 1)
	var log safeBuffer
	tracer := c.open(t, &log, "OTEL_EXPORTER_OTLP_TIMEOUT=100")
	tracer.Begin("GET /x", http.Header{}, noon).End(noon)
	tracer.Close()
	if said := log.String(); !strings.Contains(said, "connection refused") || strings.Contains(said, "secret") || tracer.Stats() != (trace.Stats{Dropped: 1}) {
		t.Errorf("%+v, and the log says %s", tracer.Stats(), said)
	}
}

// Spans are sent a delay after the first one, not only at the end.
func TestDelay(t *testing.T) {
	c := newCollector(t)
	tracer := c.open(t, t.Output(), "OTEL_BSP_SCHEDULE_DELAY=1")
	defer tracer.Close()
	tracer.Begin("GET /x", http.Header{}, noon).End(noon)
	for end := time.Now().Add(10 * time.Second); tracer.Stats().Sent == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is sent")
		}
	}
}
