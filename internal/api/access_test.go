package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"mneme/internal/api"
	"mneme/internal/api/access"
	"mneme/internal/engine"
)

// newGuarded is a server with keys: of ada, who may do all, of bob, who has used up
// his requests after the first, of cat, who has 25 tokens a minute, of dan, whose
// agents may have nothing on disk; and of the administrator.
func newGuarded(t *testing.T) *bench {
	key := func(name string, l access.Limits) access.Key {
		return access.Key{Name: name, Digest: access.DigestOf("mk_" + name), Limits: l}
	}
	admin := access.DigestOf("mk_root")
	gate := access.NewGate(access.Ring{Admin: &admin, Keys: []access.Key{
		key("ada", access.Limits{}),
		key("bob", access.Limits{Requests: access.Rate{Amount: 1, Per: time.Minute}}),
		key("cat", access.Limits{Tokens: access.Rate{Amount: 25, Per: time.Minute}}),
		key("dan", access.Limits{DiskBytes: 999}),
	}}, "", func() time.Time { return noon })
	return newBenchWith(t, api.Options{Access: gate})
}

// Who may not come in is told so in the words of the dialect, with the id of the
// request, whatever the path.
func TestRefusalsOfAccess(t *testing.T) {
	b := newGuarded(t)
	b.chat(`{`+hi+`}`, "X-Api-Key: mk_bob")
	openAI := func(message, kind, code string) string {
		return fmt.Sprintf(`{"error":{"message":%q,"type":%q,"param":null,"code":%q}}`, message, kind, code)
	}
	const (
		missing = `no API key: send one as "Authorization: Bearer ..." or as "x-api-key"`
		unknown = "this API key is not known here"
		used    = "the key bob has used up its requests (1/m); there are more in 1m0s"
		admins  = "this needs the administrator's key"
	)
	for _, c := range []struct {
		call, key string
		status    int
		want      string
	}{
		{"POST /v1/chat/completions", "", 401, openAI(missing, "invalid_request_error", "invalid_api_key")},
		{"POST /v1/chat/completions", "mk_eve", 401, openAI(unknown, "invalid_request_error", "invalid_api_key")},
		{"POST /v1/chat/completions", "mk_bob", 429, openAI(used, "rate_limit_error", "rate_limit_exceeded")},
		{"POST /v1/messages", "", 401, failed("authentication_error", missing)},
		{"POST /v1/messages", "mk_eve", 401, failed("authentication_error", unknown)},
		{"POST /v1/messages", "mk_bob", 429, failed("rate_limit_error", used)},
		{"POST /v1/messages", "mk_root", 403, failed("permission_error", "the administrator's key opens /admin and /metrics, not what belongs to a key")},
		{"GET /v1/messages/batches", "mk_ada", 404, failed("not_found_error", "there is no /v1/messages/batches on this server")},
		{"GET /v1/agents", "", 401, openAI(missing, "invalid_request_error", "invalid_api_key")},
		{"PUT /v1/agents", "", 401, openAI(missing, "invalid_request_error", "invalid_api_key")},
		{"GET /nowhere", "", 401, openAI(missing, "invalid_request_error", "invalid_api_key")},
		{"GET //nowhere", "", 401, openAI(missing, "invalid_request_error", "invalid_api_key")},
		{"GET /nowhere", "mk_ada", 404, openAI("there is no /nowhere on this server", "invalid_request_error", "not_found")},
		{"GET /metrics", "", 401, openAI(admins, "invalid_request_error", "invalid_api_key")},
		{"GET /metrics", "mk_ada", 403, openAI(admins, "invalid_request_error", "permission_denied")},
		{"GET /admin/models", "mk_ada", 403, openAI(admins, "invalid_request_error", "permission_denied")},
		{"GET /admin/models", "mk_root", 404, openAI("there is no /admin/models on this server", "invalid_request_error", "not_found")},
		{"GET /admin", "", 401, openAI(admins, "invalid_request_error", "invalid_api_key")},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		got := b.do(method, path, "", "X-Api-Key: "+c.key, "X-Request-Id: r-1")
		b.want(got, c.status, c.want)
		h := got.header
		if h.Get("X-Request-Id") != "r-1" || strings.HasPrefix(path, "/v1/messages") && h.Get("Request-Id") != "r-1" {
			t.Errorf("%s: no request id: %v", c.call, h)
		}
		if (c.status == 401) != (h.Get("WWW-Authenticate") == "Bearer") || (c.status == 429) != (h.Get("Retry-After") == "60") {
			t.Errorf("%s: %v", c.call, h)
		}
	}
}

// Whether the server lives, is ready, and which it is, anybody may know; the
// administrator reads the metrics.
func TestOpenDoors(t *testing.T) {
	b := newGuarded(t)
	for _, path := range []string{"/", "/healthz", "/readyz", "/version"} {
		if got := b.get(path); got.status != 200 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	b.chat(`{`+hi+`}`, "Authorization: Bearer mk_ada") // 21 computed, 3 out
	b.chat(`{}`, "Authorization: Bearer mk_ada")
	got := b.do("GET", "/metrics", "", "Authorization: Bearer mk_root")
	for _, line := range []string{
		`mneme_key_requests_total{key="ada",status="200"} 1`,
		`mneme_key_requests_total{key="ada",status="400"} 1`,
		`mneme_key_tokens_total{key="ada"} 24`,
	} {
		if !strings.Contains(got.body, "\n"+line+"\n") {
			t.Errorf("no line %s in %d %s", line, got.status, got.body)
		}
	}
}

// A key's name is the namespace of all that is done with it; the log has the name
// and never the key.
func TestKeysAreNamespaces(t *testing.T) {
	b := newGuarded(t)
	b.chat(`{`+hi+`}`, "Authorization: Bearer mk_ada", "X-Agent-ID: a-1")
	b.do("POST", "/v1/messages", asks(""), "X-Api-Key: mk_cat")
	var got []engine.Namespace
	for _, r := range b.fake.requests {
		got = append(got, r.Namespace)
	}
	if len(got) != 2 || got[0] != "ada" || got[1] != "cat" {
		t.Errorf("namespaces %q", got)
	}
	if log := b.log.String(); !strings.Contains(log, " status=200 key=ada agent=a-1 ") || strings.Contains(log, "mk_") {
		t.Error(log)
	}
}

// What a turn computes and generates is counted: 24 of 25 leave room for a last
// turn, which is finished. What computes nothing goes on.
func TestTokensAreCounted(t *testing.T) {
	b := newGuarded(t)
	as := "X-Api-Key: mk_cat"
	for range 2 {
		if got := b.chat(`{`+hi+`}`, as); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	for path, body := range map[string]string{"/v1/chat/completions": `{` + hi + `}`, "/v1/completions": `{"prompt":"a"}`, "/v1/messages": asks(""), "/v1/responses": `{"input":"a"}`} {
		if got := b.do("POST", path, body, as); got.status != 429 || got.header.Get("Retry-After") != "58" { // 24 tokens at 25/m
			t.Errorf("%s: %d %v %s", path, got.status, got.header, got.body)
		}
	}
	if got := b.do("POST", "/v1/messages/count_tokens", asks(""), as); got.status != 200 {
		t.Errorf("counting: %d %s", got.status, got.body)
	}
}

// A client that leaves pays for what was begun: the prompt and what it heard.
func TestWhoLeavesPays(t *testing.T) {
	b := newGuarded(t)
	b.fake.hold = make(chan struct{})
	r, _ := http.NewRequest("POST", b.http.URL+"/v1/chat/completions", strings.NewReader(`{`+hi+`,"stream":true}`))
	r.Header.Set("X-Api-Key", "mk_cat")
	answer, err := b.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	const want = `mneme_key_tokens_total{key="cat"} 22` // 21 of the prompt, 1 heard
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := b.do("GET", "/metrics", "", "X-Api-Key: mk_root").body
		if strings.Contains(got, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %s in %s", want, got)
		}
	}
}

// Above its quota a key's agents cannot grow, nor be more; they can be deleted, and
// what is no agent's goes on.
func TestQuotaOfAKey(t *testing.T) {
	b := newGuarded(t)
	as := "X-Api-Key: mk_dan"
	if got := b.chat(`{`+hi+`}`, as, "X-Agent-ID: a"); got.status != 200 { // has 1000 bytes from now on
		t.Fatalf("%d %s", got.status, got.body)
	}
	const message = "the agents of the key dan have 1000 bytes on disk, its quota is 999: delete some, or ask for more"
	for _, c := range []struct{ path, body string }{
		{"/v1/chat/completions", `{` + hi + `}`}, {"/v1/agents", `{"id":"b"}`}, {"/v1/agents/a/fork", `{"id":"b"}`}, {"/v1/agents/import", "x"},
	} {
		b.want(b.do("POST", c.path, c.body, as, "X-Agent-ID: a"), 403, `{"error":{"message":"`+message+`","type":"invalid_request_error","param":null,"code":"insufficient_quota"}}`)
	}
	b.want(b.do("POST", "/v1/messages", asks(""), as, "X-Agent-ID: a", "X-Request-Id: r-1"), 403, failed("permission_error", message))
	if got := b.chat(`{`+hi+`}`, as); got.status != 200 {
		t.Errorf("a turn of no agent: %d %s", got.status, got.body)
	}
	if got := b.do("DELETE", "/v1/agents/a", "", as); got.status != 204 {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	if got := b.chat(`{`+hi+`}`, as, "X-Agent-ID: a"); got.status != 200 {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}

// A server that was told of no keys is this machine's: what a web page makes a
// browser send is refused before anything runs.
func TestNoPageDrivesTheServer(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ host, origin, code string }{
		{"evil.example", "", "forbidden_host"},
		{"evil.example", "http://evil.example", "forbidden_host"},
		{"", "http://evil.example", "forbidden_origin"},
	} {
		for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/healthz", "/metrics", "/nowhere"} {
			r, _ := http.NewRequest("POST", b.http.URL+path, strings.NewReader(`{`+hi+`}`))
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			answer, err := b.http.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode != 403 || path != "/v1/messages" && !strings.Contains(string(text), c.code) || answer.Header.Get("X-Request-Id") == "" || answer.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%+v %s: %d %s", c, path, answer.StatusCode, text)
			}
		}
	}
	if len(b.fake.requests) > 0 {
		t.Errorf("a turn ran: %+v", b.fake.requests)
	}
	b.alive()
}

// A handler's defect is told in the dialect's words, and the server goes on.
func TestPanicsInEachDialect(t *testing.T) {
	b := newBench(t)
	b.fake.panics = true
	b.want(b.chat(`{`+hi+`}`, "X-Request-Id: r-1"), 500, `{"error":{"message":"internal error; the server's log says more about request r-1","type":"server_error","param":null,"code":"internal_error"}}`)
	b.want(b.do("POST", "/v1/messages", asks(""), "X-Request-Id: r-1"), 500, failed("api_error", "internal error; the server's log says more about request r-1"))
	if log := b.log.String(); strings.Count(log, "the fake has a bug") != 2 || !strings.Contains(log, "fake_test.go") {
		t.Errorf("no stack in %s", log)
	}
	b.fake.panics = false
	b.alive()
}

// failed is an Anthropic error about request r-1.
func failed(kind, message string) string {
	return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q},"request_id":"r-1"}`, kind, message)
}
