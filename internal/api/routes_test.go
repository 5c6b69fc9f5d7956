package api_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"mneme/internal/api"
	"mneme/internal/engine"
	"mneme/internal/kv"
)

// chunked sends a chat without saying how long it is.
func (b *bench) chunked(body string) reply {
	b.t.Helper()
	r, err := http.NewRequest("POST", b.http.URL+"/v1/chat/completions", io.MultiReader(strings.NewReader(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	answer, err := b.http.Client().Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(text)}
}

func TestModels(t *testing.T) {
	b := newBench(t)
	model := `{"id":"letters","object":"model","created":1795431600,"owned_by":"mneme",
		"mneme":{"kv_bytes_per_token":12960,"context":4096,"kv_format":"q4","fingerprint":"0123456789abcdef","kv_memory_bytes":10000,
			"agents_fit":[{"tokens":4096,"agents":0}]}}`
	b.want(b.get("/v1/models"), 200, `{"object":"list","data":[`+model+`]}`)
	b.want(b.get("/v1/models/letters"), 200, model)
	b.want(b.get("/v1/models/org/other"), 404, `{"error":{"message":"the model \"org/other\" does not exist here; this server has \"letters\"",
		"type":"invalid_request_error","param":"model","code":"model_not_found"}}`)
}

// How many agents fit is asked for 4,096 tokens and for the context: a window costs
// its length, and each agent has an open block.
func TestAgentsFit(t *testing.T) {
	for context, want := range map[int]string{
		8192: `"kv_memory_bytes":4194304,"agents_fit":[{"tokens":4096,"agents":12},{"tokens":8192,"agents":6}]`,
		512:  `"kv_memory_bytes":4194304,"agents_fit":[{"tokens":512,"agents":50}]`,
	} {
		b := newBench(t)
		b.api.Attach(sized{b.fake, context})
		if got := b.get("/v1/models/letters"); !strings.Contains(got.body, want) {
			t.Errorf("a context of %d: %s, want %s", context, got.body, want)
		}
	}
}

// sized is an engine with a window and a context of so many.
type sized struct {
	*fake
	context int
}

func (s sized) Info() engine.Info {
	info := s.fake.Info()
	info.Context = s.context
	info.KV.Groups = append(info.KV.Groups, kv.Group{Layers: []int{1}, KVHeads: 1, KDim: 64, VDim: 64, Window: 128})
	return info
}

func (s sized) Stats() engine.Stats {
	return engine.Stats{Pool: kv.Stats{TotalBytes: 4 << 20}}
}

func TestTokens(t *testing.T) {
	b := newBench(t)
	b.want(b.do("POST", "/tokenize", `{"text":"ok<|im_end|>"}`), 200, `{"tokens":[82,78,1]}`)
	b.want(b.do("POST", "/tokenize", `{"text":"ok<|im_end|>","parse_special":false,"add_special":false}`), 200, `{"tokens":[82,78,31,95,76,80,66,72,81,71,95,33]}`)
	b.want(b.do("POST", "/tokenize", `{"text":""}`), 200, `{"tokens":[]}`)
	b.want(b.do("POST", "/detokenize", `{"tokens":[82,78,1,98,99,98]}`), 200, `{"text":"ok<|im_end|>é`+"\ufffd"+`"}`)
	b.want(b.do("POST", "/detokenize", `{"tokens":[]}`), 200, `{"text":""}`)
	for _, c := range []struct{ path, body, say string }{
		{"/tokenize", `{}`, "text is required"},
		{"/tokenize", `{"text":7}`, "text must be a string"},
		{"/tokenize", `{"text":"a","add_specials":true}`, "add_specials is not a known field"},
		{"/tokenize", "{\"text\":\"\xc3\"}", "not valid UTF-8 at byte 9"},
		{"/detokenize", `{}`, "tokens is required"},
		{"/detokenize", `{"tokens":"ab"}`, "tokens must be a list"},
		{"/detokenize", `{"tokens":[1,-1]}`, "tokens[1] must be a whole number from 0 to 99, not -1"},
		{"/detokenize", `{"tokens":[1,100]}`, "tokens[1] must be a whole number from 0 to 99, not 100"},
		{"/detokenize", `{"tokens":[1,NaN]}`, "tokens[1]"},
	} {
		got := b.do("POST", c.path, c.body)
		if message, _, _ := b.error(got); got.status != 400 || !strings.Contains(message, c.say) {
			t.Errorf("%s %s: %d %s, want 400 %s", c.path, c.body, got.status, got.body, c.say)
		}
	}
	b.alive()
}

// The life of an agent: made, two turns, evicted, restored, deleted.
func TestAgentsLife(t *testing.T) {
	b := newBench(t)
	b.want(b.get("/v1/agents"), 200, `{"object":"list","data":[]}`)
	made := b.do("POST", "/v1/agents", `{"id":"ada"}`)
	b.want(made, 201, `{"id":"ada","object":"agent","model":"letters","tokens":0,"turns":0,"tier":"warm","bytes":{"hot":0,"disk":1000,"shared":0},
		"pinned":false,"created_at":"2026-11-23T11:00:00Z","last_used_at":"2026-11-23T11:00:00Z"}`)
	if got := made.header.Get("Location"); got != "/v1/agents/ada" {
		t.Errorf("Location %q", got)
	}
	b.want(b.get("/v1/agents/ada/turns"), 200, `{"object":"list","data":[]}`)
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada")
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada")
	b.chat(`{`+hi+`}`, "X-Agent-ID: aaron")
	agent := func(id, turns, rest string) string {
		return `{"id":"` + id + `","object":"agent","model":"letters","tokens":24,"turns":` + turns + `,` + rest + `,
			"pinned":false,"created_at":"2026-11-23T11:00:00Z","last_used_at":"2026-11-23T11:00:00Z"}`
	}
	hot := `"tier":"hot","bytes":{"hot":600,"disk":1000,"shared":200}`
	warm := `"tier":"warm","bytes":{"hot":0,"disk":1000,"shared":0}`
	b.want(b.get("/v1/agents"), 200, `{"object":"list","data":[`+agent("aaron", "1", hot)+`,`+agent("ada", "2", hot)+`]}`)
	b.want(b.get("/v1/agents/ada/turns"), 200, `{"object":"list","data":[
		{"turn":1,"tokens":24,"prompt_tokens":21,"cached_tokens":0,"completion_tokens":3,"finish_reason":"stop","created_at":"2026-11-23T11:00:00Z"},
		{"turn":2,"tokens":24,"prompt_tokens":21,"cached_tokens":20,"completion_tokens":3,"finish_reason":"stop","created_at":"2026-11-23T11:00:00Z"}]}`)
	b.want(b.do("POST", "/v1/agents/ada/evict", ""), 200, agent("ada", "2", warm))
	b.want(b.get("/v1/agents/ada"), 200, agent("ada", "2", warm))
	if got := b.do("DELETE", "/v1/agents/ada", ""); got.status != 204 || got.body != "" {
		t.Errorf("delete: %d %q", got.status, got.body)
	}
	b.want(b.get("/v1/agents/ada"), 404, `{"error":{"message":"no such agent: ada (an agent is there once its first turn has ended)","type":"invalid_request_error","param":null,"code":"agent_not_found"}}`)
}

func TestAgentErrors(t *testing.T) {
	b := newBench(t)
	b.do("POST", "/v1/agents", `{"id":"ada"}`)
	for _, c := range []struct {
		method, path, body string
		status             int
		say                string
	}{
		{"POST", "/v1/agents", `{"id":"ada"}`, 409, "agent ada exists already"},
		{"POST", "/v1/agents", `{}`, 400, "id is required"},
		{"POST", "/v1/agents", `{"id":7}`, 400, "id must be a string"},
		{"POST", "/v1/agents", `{"id":""}`, 400, "id must be 1 to 256 characters"},
		{"POST", "/v1/agents", `{"id":"a/b"}`, 400, `not \"a/b\"`},
		{"POST", "/v1/agents", `{"id":"b","tier":"hot"}`, 400, "tier is not a known field"},
		{"GET", "/v1/agents/b", "", 404, "no such agent: b "},
		{"GET", "/v1/agents/a%20b", "", 400, "id must be 1 to 256 characters"},
		{"DELETE", "/v1/agents/b", "", 404, "no such agent: b "},
		{"GET", "/v1/agents/b/turns", "", 404, "no such agent: b "},
		{"POST", "/v1/agents/b/evict", "", 404, "no such agent: b "},
		{"POST", "/v1/agents/ada/frok", `{"id":"b"}`, 404, "there is no /v1/agents/ada/frok"},
		{"POST", "/v1/agents/ada/evict", `{"now":true}`, 400, "now is not a known field"},
	} {
		if got := b.do(c.method, c.path, c.body); got.status != c.status || !strings.Contains(got.body, c.say) {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.body, got.status, got.body, c.status, c.say)
		}
	}
	b.alive()
}

func TestNoSuchRoute(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/", "/v1", "/v1/embeddings", "/v1/models/", "/v1/agents/", "/metrics/x", "/v1/agents/..", "/v1/agents/%2E%2e", "/v1/agents/./turns", "//v1/agents", "/v1/agents/../agents"} {
		got := b.do("POST", path, `{}`)
		if _, _, code := b.error(got); got.status != 404 && got.status != 405 || code == "" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	b.want(b.get("/v1/embeddings"), 404, `{"error":{"message":"there is no /v1/embeddings on this server","type":"invalid_request_error","param":null,"code":"not_found"}}`)
	got := b.do("PUT", "/v1/agents", `{}`)
	b.want(got, 405, `{"error":{"message":"PUT is not allowed on /v1/agents; allowed: GET, POST, HEAD","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}`)
	if allow := got.header.Get("Allow"); allow != "GET, POST, HEAD" {
		t.Errorf("Allow: %q", allow)
	}
	if got := b.do("HEAD", "/healthz", ""); got.status != 200 {
		t.Errorf("HEAD /healthz: %d", got.status)
	}
}

// A server lives before its engine does, and says why it is not ready.
func TestLoadingReadyDraining(t *testing.T) {
	b := newBench(t)
	loading := newBench(t)
	loading.api = api.New(nil, api.Options{Log: quiet})
	loading.http.Config.Handler = loading.api
	why := `{"error":{"message":"the model is loading","type":"server_error","param":null,"code":"loading"}}`
	loading.want(loading.get("/healthz"), 200, `{"status":"ok"}`)
	loading.want(loading.get("/readyz"), 503, why)
	loading.want(loading.get("/v1/agents"), 503, why)
	if got := loading.get("/metrics").body; !strings.Contains(got, `mneme_requests_refused_total{reason="loading"} 1`+"\n") {
		t.Errorf("of a probe and a request that were refused one counts: %s", got)
	}
	loading.want(loading.chat(`{`+hi+`}`), 503, why)
	if got := loading.get("/metrics"); got.status != 200 || strings.Contains(got.body, "mneme_pool") {
		t.Errorf("metrics while loading: %d %s", got.status, got.body)
	}
	loading.api.Attach(b.fake)
	loading.want(loading.get("/readyz"), 200, `{"status":"ready"}`)
	loading.alive()
	b.fake.ready = engine.ErrDraining
	got := loading.get("/readyz")
	loading.want(got, 503, `{"error":{"message":"server is shutting down","type":"server_error","param":null,"code":"draining"}}`)
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("no Retry-After: %v", got.header)
	}
}

func TestVersion(t *testing.T) {
	b := newBenchWith(t, api.Options{Version: api.VersionInfo{Version: "1.2.3", Commit: "abc"}})
	got := b.get("/version")
	if !regexp.MustCompile(`^{"version":"1.2.3","commit":"abc","go":"go1[^"]+","platform":"\w+/\w+","kernel":"generic","numerics_class":"generic"}\n$`).MatchString(got.body) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// A request id that is no name is replaced; the answer has one in any case.
func TestRequestIDs(t *testing.T) {
	b := newBench(t)
	for given, want := range map[string]string{"a-1": "a-1", "a b": "req-f00d", strings.Repeat("a", 129): "req-f00d", "": "req-f00d"} {
		if got := b.do("GET", "/nowhere", "", "X-Request-Id: "+given); got.header.Get("X-Request-Id") != want {
			t.Errorf("%.20q: %q, want %q", given, got.header.Get("X-Request-Id"), want)
		}
	}
}

// One ledger: what the two turns said in usage, the metrics say in sum.
func TestMetrics(t *testing.T) {
	b := newBench(t)
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada") // 21 computed, 3 out
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada") // 20 cached, 1 computed, 3 out
	b.chat(`{}`)
	b.get("/nowhere")
	got := b.get("/metrics").body
	for _, line := range []string{
		`mneme_requests_total{route="/v1/chat/completions",status="200"} 2`,
		`mneme_requests_total{route="/v1/chat/completions",status="400"} 1`,
		`mneme_requests_total{route="other",status="404"} 1`,
		`mneme_prompt_tokens_computed_total 22`,
		`mneme_prompt_tokens_cached_total 20`,
		`mneme_completion_tokens_total 6`,
		`mneme_time_to_first_token_seconds_count{start="uncached"} 1`,
		`mneme_time_to_first_token_seconds_sum{start="hot"} 0.04`,
		`mneme_time_to_first_token_seconds_count{start="restored"} 0`,
		`mneme_requests_running 2`,
		`mneme_requests_waiting 1`,
		`mneme_store_errors_total 3`,
		`mneme_store_quarantined_total 4`,
		`mneme_turns_preempted_total 5`,
		`mneme_sequences_surplus_total 0`,
		`mneme_blocks_restored_total 6`,
		`mneme_blocks_recomputed_total 7`,
		`mneme_blocks_other_format_total 8`,
		`mneme_agents_overruled_total 9`,
		`mneme_agents_expired_total 10`,
		`mneme_agents_refused_total{reason="agent_of_other_model"} 11`,
		`mneme_agents_refused_total{reason="import_of_other_model"} 12`,
		`mneme_agents_refused_total{reason="import_damaged"} 13`,
		`mneme_restore_bytes_per_second 1.5e+09`,
		`mneme_prefill_tokens_per_second 800`,
		`mneme_requests_refused_total{reason="invalid_request"} 1`,
		`mneme_requests_refused_total{reason="not_found"} 1`,
		`mneme_pool_blocks{form="f16",state="held"} 2`,
		`mneme_pool_blocks{form="q4",state="free"} 10`,
		`mneme_pool_blocks{form="q4",state="reserved"} 0`,
		`mneme_pool_blocks{form="q4",state="held"} 50`,
		`mneme_pool_blocks{form="q4",state="cached"} 20`,
		`mneme_pool_bytes{form="q4",state="held"} 3500`,
		`mneme_pool_bytes{form="none",state="unused"} 2000`,
		`mneme_pool_bytes{form="none",state="overhead"} 400`,
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestLogLine(t *testing.T) {
	b := newBench(t)
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada", "X-Request-Id: r-1")
	want := `level=INFO msg=request id=r-1 method=POST route=/v1/chat/completions status=200 agent=ada prompt=21 cached=0 completion=3 start=uncached finish=stop ttft_ms=40 total_ms=0` + "\n"
	if got := b.log.String(); !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
		t.Errorf("got %s, want one line ...%s", got, want)
	}
	b.get("/healthz")
	if got := b.log.String(); strings.Count(got, "\n") != 1 {
		t.Errorf("a probe is logged: %s", got)
	}
}
