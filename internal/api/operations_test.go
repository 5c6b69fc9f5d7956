package api_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"mneme/internal/api"
	"mneme/internal/engine"
	"mneme/internal/store"
)

// shown is an agent of the fake as the server shows it; turns of hi have 24 tokens.
func shown(id string, turns int, tier, parent string, pinned bool) string {
	hot, shared, tokens := 600, 200, 24
	if tier != "hot" {
		hot, shared = 0, 0
	}
	if turns == 0 {
		tokens = 0
	}
	if parent != "" {
		parent = `"parent":"` + parent + `",`
	}
	return fmt.Sprintf(`{"id":%q,"object":"agent","model":"letters","tokens":%d,"turns":%d,"tier":%q,"bytes":{"hot":%d,"disk":1000,"shared":%d},
		%s"pinned":%v,"created_at":"2026-11-23T11:00:00Z","last_used_at":"2026-11-23T11:00:00Z"}`, id, tokens, turns, tier, hot, shared, parent, pinned)
}

// ada has two turns; she is forked, also at an earlier turn, and rolled back.
func TestForkAndRollback(t *testing.T) {
	b := newBench(t)
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada")
	b.chat(`{`+hi+`}`, "X-Agent-ID: ada")
	got := b.do("POST", "/v1/agents/ada/fork", `{"id":"bob"}`)
	b.want(got, 201, shown("bob", 2, "hot", "ada", false))
	if got.header.Get("Location") != "/v1/agents/bob" || got.header.Get("X-Agent-ID") != "bob" {
		t.Errorf("the answer about bob has %v", got.header)
	}
	b.want(b.do("POST", "/v1/agents/ada/fork", `{"id":"cy","turn":1}`), 201, shown("cy", 1, "hot", "ada", false))
	b.want(b.do("POST", "/v1/agents/ada/fork", `{"id":"dan","turn":0}`), 201, shown("dan", 0, "hot", "ada", false))
	b.want(b.do("POST", "/v1/agents/ada/rollback", `{"turn":1}`), 200, shown("ada", 1, "hot", "", false))
	b.want(b.get("/v1/agents/bob"), 200, shown("bob", 2, "hot", "ada", false))
	b.want(b.do("POST", "/v1/agents/ada/fork", `{"id":"eve","turn":7}`), 400,
		`{"error":{"message":"turn: 7 is none of agent ada, which has 1","type":"invalid_request_error","param":"turn","code":null}}`)
}

// An agent is pinned until it is not, and brought to memory.
func TestPinAndWarm(t *testing.T) {
	b := newBench(t)
	b.do("POST", "/v1/agents", `{"id":"ada"}`)
	b.want(b.do("POST", "/v1/agents/ada/pin", ""), 200, shown("ada", 0, "warm", "", true))
	b.want(b.get("/v1/agents/ada"), 200, shown("ada", 0, "warm", "", true))
	b.want(b.do("POST", "/v1/agents/ada/warm", " {}\n"), 200, shown("ada", 0, "hot", "", true))
	b.want(b.do("POST", "/v1/agents/ada/unpin", ""), 200, shown("ada", 0, "hot", "", false))
}

// What an operation cannot do is said as everywhere.
func TestOperationErrors(t *testing.T) {
	b := newBench(t)
	b.do("POST", "/v1/agents", `{"id":"ada"}`)
	for _, c := range []struct {
		path, body string
		status     int
		say        string
	}{
		{"ada/fork", `{}`, 400, "id is required"},
		{"ada/fork", `{"id":"a b"}`, 400, "id must be 1 to 256"},
		{"ada/fork", `{"id":"b","turns":1}`, 400, "turns is not a known field"},
		{"ada/fork", `{"id":"b","turn":-1}`, 400, "turn must be a whole number"},
		{"ada/fork", `{"id":"ada"}`, 409, "agent ada exists already"},
		{"bob/fork", `{"id":"b"}`, 404, "no such agent: bob "},
		{"ada/rollback", `{}`, 400, "turn is required"},
		{"ada/rollback", `{"turn":1.5}`, 400, "turn must be a whole number"},
		{"bob/rollback", `{"turn":1}`, 404, "no such agent: bob "},
		{"ada/pin", `{"for":"1h"}`, 400, "for is not a known field"},
		{"bob/pin", "", 404, "no such agent: bob "},
		{"bob/unpin", "", 404, "no such agent: bob "},
		{"bob/warm", "", 404, "no such agent: bob "},
		{"ada/warm", "now", 400, "not valid JSON"},
	} {
		if got := b.do("POST", "/v1/agents/"+c.path, c.body); got.status != c.status || !strings.Contains(got.body, c.say) {
			t.Errorf("%s %s: %d %s, want %d %s", c.path, c.body, got.status, got.body, c.status, c.say)
		}
	}
	b.alive()
}

// What the engine refuses has a status and a code of its own.
func TestRefusedOperations(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		err       error
		path      string
		status    int
		say, code string
	}{
		{engine.ErrAgentBusy, "ada/rollback", 409, "agent ada has a turn running", "agent_busy"},
		{engine.ErrAgentBusy, "ada/fork", 409, "agent bob has a turn running", "agent_busy"},
		{engine.ErrNotStored, "ada/fork", 409, "the last turn of agent ada is not on disk", "agent_not_stored"},
		{engine.ErrOtherModel, "ada/rollback", 409, "agent ada belongs to another model", "agent_of_other_model"},
		{fmt.Errorf("export: %w", engine.ErrOtherModel), "import", 409, "agent of the export belongs to another model", "agent_of_other_model"},
		{fmt.Errorf("export: %w", engine.ErrOtherModel), "import?id=cy", 409, "agent cy belongs to another model", "agent_of_other_model"},
		{fmt.Errorf("agent ada: %w: small with 0a, served is letters with 0b", engine.ErrOtherModel), "ada/warm", 409, "agent ada belongs to another model: small with 0a, served is letters with 0b", "agent_of_other_model"},
		{&store.DamagedError{Where: "agents/1", Reason: "a bit"}, "ada/warm", 409, "agent ada is damaged on disk", "agent_damaged"},
		{&engine.CapacityError{NeedBytes: 9, PoolBytes: 5}, "ada/warm", 400, "9", "kv_capacity_exceeded"},
		{engine.ErrDraining, "import", 503, "shutting down", "draining"},
		{store.ErrNoSpace, "import", 507, "", "no_space"},
		{errors.New("the disk burns"), "ada/pin", 500, "internal error", "internal_error"},
	} {
		b.fake.refuses = c.err
		body := map[string]string{"ada/fork": `{"id":"bob"}`, "ada/rollback": `{"turn":1}`}[c.path]
		got := b.do("POST", "/v1/agents/"+c.path, body)
		if message, param, code := b.error(got); got.status != c.status || code != c.code || param != "" || !strings.Contains(message, c.say) {
			t.Errorf("%s, %v: %d %s, want %d %s %s", c.path, c.err, got.status, got.body, c.status, c.code, c.say)
		}
	}
}

// An agent leaves as a file and comes back, under its own name or another.
func TestExportAndImport(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := newBench(t)
	b.do("POST", "/v1/agents", `{"id":"ada"}`)
	b.fake.exported, b.fake.imported = []byte("an agent"), "ada"
	got := b.get("/v1/agents/ada/export")
	if got.status != 200 || got.body != "kv=true an agent" || got.header.Get("Content-Type") != "application/octet-stream" ||
		got.header.Get("Content-Disposition") != `attachment; filename="ada.mneme"` {
		t.Errorf("export: %d %q %v", got.status, got.body, got.header)
	}
	if got := b.get("/v1/agents/ada/export?kv=false"); got.status != 200 || got.body != "kv=false an agent" {
		t.Errorf("without KV: %d %q", got.status, got.body)
	}
	b.want(b.do("POST", "/v1/agents/import?id=bob", got.body), 201, shown("bob", 0, "warm", "", false))
	b.want(b.do("POST", "/v1/agents/import?id=bob", got.body), 409, `{"error":{"message":"agent bob exists already","type":"invalid_request_error","param":null,"code":"agent_exists"}}`)
	b.do("DELETE", "/v1/agents/ada", "")
	back := b.do("POST", "/v1/agents/import", got.body)
	b.want(back, 201, shown("ada", 0, "warm", "", false))
	if back.header.Get("Location") != "/v1/agents/ada" || back.header.Get("X-Agent-ID") != "ada" {
		t.Errorf("the answer about ada has %v", back.header)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// An import lies in the folder for it while it is checked, and nothing of it is
// left, however it ends.
func TestImportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	b := newBenchWith(t, api.Options{SpoolDir: dir, ImportLimit: 16})
	for body, status := range map[string]int{"kv=true an agent": 201, "no agent": 400, "kv=true an agent, twice": 413} {
		if got := b.do("POST", "/v1/agents/import?id=bob", body); got.status != status {
			t.Errorf("%q: %d %s", body, got.status, got.body)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%q left behind: %v (%v)", body, left, err)
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if got := b.do("POST", "/v1/agents/import", "kv=true an agent"); got.status != 500 || strings.Contains(got.body, dir) {
		t.Errorf("without the folder: %d %s", got.status, got.body)
	}
}

// An agent may be called import.
func TestAnAgentCalledImport(t *testing.T) {
	b := newBench(t)
	b.do("POST", "/v1/agents", `{"id":"import"}`)
	b.want(b.get("/v1/agents/import"), 200, shown("import", 0, "warm", "", false))
	if got := b.do("DELETE", "/v1/agents/import", ""); got.status != 204 {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
}

func TestTransferErrors(t *testing.T) {
	b := newBenchWith(t, api.Options{BodyLimit: 8, ImportLimit: 16})
	b.fake.imported = "no name"
	b.fake.agents["ada"] = &fakeAgent{}
	for _, c := range []struct {
		method, path, body string
		status             int
		param, say         string
	}{
		{"GET", "bob/export", "", 404, "", "no such agent: bob"},
		{"GET", "ada/export?kv=no", "", 400, "kv", "kv must be true or false, not"},
		{"GET", "ada/export?turn=1", "", 400, "turn", "turn is not a known parameter"},
		{"GET", "ada/export?kv=true&kv=false", "", 400, "kv", "kv is given 2 times"},
		{"POST", "import?id=a%20b", "kv=true an agent", 400, "id", "id must be 1 to 256"},
		{"POST", "import?name=b", "kv=true an agent", 400, "name", "name is not a known parameter"},
		{"POST", "import", "kv=true an agent", 400, "export", "export must be 1 to 256 characters"},
		{"POST", "import", "", 400, "export", `"" is none`},
		{"POST", "import", "kv=true an agent and more", 413, "", "larger than the limit of 16 bytes"},
	} {
		got := b.do(c.method, "/v1/agents/"+c.path, c.body)
		if message, param, _ := b.error(got); got.status != c.status || param != c.param || !strings.Contains(message, c.say) {
			t.Errorf("%s %s: %d %s, want %d %s %s", c.method, c.path, got.status, got.body, c.status, c.param, c.say)
		}
	}
	if len(b.fake.agents) != 1 {
		t.Errorf("there are %d agents, want ada alone", len(b.fake.agents))
	}
}

// An export that fails half way does not look like a whole one.
func TestTornExport(t *testing.T) {
	b := newBench(t)
	b.do("POST", "/v1/agents", `{"id":"ada"}`)
	b.fake.exported, b.fake.exportErr = make([]byte, 1<<20), errors.New("the disk burns")
	answer, err := http.Get(b.http.URL + "/v1/agents/ada/export")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if n, err := io.Copy(io.Discard, answer.Body); err == nil {
		t.Errorf("%d bytes came and a good end", n)
	}
	if got := b.log.String(); !strings.Contains(got, "level=ERROR msg=request id=req-f00d method=GET route=/v1/agents/{id}/export status=200 agent=ada error=\"the disk burns\"") {
		t.Errorf("the log has %s", got)
	}
	b.fake.exported = nil
	if got := b.get("/v1/agents/ada/export"); got.status != 500 {
		t.Errorf("an export that fails at once: %d %s", got.status, got.body)
	}
}
