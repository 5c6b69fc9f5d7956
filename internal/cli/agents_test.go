package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// agentServer answers as docs/API.md says, for one agent.
func agentServer(t *testing.T) (addr string, calls *[]string) {
	calls = new([]string)
	const ada = `{"id":"ada","object":"agent","model":"tiny","tokens":700,"turns":2,"tier":"hot","bytes":{"hot":2097152,"disk":1048576,"shared":1024},"pinned":false,` +
		`"created_at":"2026-11-24T10:00:00Z","last_used_at":"2026-11-24T11:00:00Z"}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*calls = append(*calls, r.Method+" "+r.URL.Path)
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/agents":
			w.Write([]byte(`{"object":"list","data":[` + ada + `]}`))
		case "GET /v1/agents/ada":
			w.Write([]byte(ada))
		case "GET /v1/agents/ada/turns":
			w.Write([]byte(`{"object":"list","data":[{"turn":1,"tokens":640,"prompt_tokens":600,"cached_tokens":0,"completion_tokens":41,"finish_reason":"stop","created_at":"2026-11-24T10:00:00Z"}]}`))
		case "POST /v1/agents/ada/evict", "DELETE /v1/agents/ada":
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"error":{"message":"no such agent: bob","type":"invalid_request_error","param":null,"code":"not_found"}}`))
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), calls
}

func TestAgents(t *testing.T) {
	addr, calls := agentServer(t)
	s := newStage(t, "MNEME_ADDR="+addr)
	for _, c := range []struct{ line, out, err, call string }{
		{line: "agents ls", call: "GET /v1/agents", out: "" +
			"AGENT  TURNS  TOKENS  TIER  MEMORY   SHARED   DISK     LAST USED\n" +
			"ada    2      700     hot   2.0 MiB  1.0 KiB  1.0 MiB  2026-11-24 11:00:00Z\n"},
		{line: "agents show ada", call: "GET /v1/agents/ada", out: "" +
			"agent      ada\nmodel      tiny\nturns      2\ntokens     700\ntier       hot\n" +
			"memory     2.0 MiB, 1.0 KiB of it shared\ndisk       1.0 MiB\ncreated    2026-11-24 10:00:00Z\nlast used  2026-11-24 11:00:00Z\n"},
		{line: "agents turns ada", call: "GET /v1/agents/ada/turns", out: "" +
			"TURN  PROMPT  CACHED  NEW  ANSWER  TOKENS  ENDED BY  AT\n" +
			"1     600     0       600  41      640     stop      2026-11-24 10:00:00Z\n"},
		{line: "agents evict ada", call: "POST /v1/agents/ada/evict"},
		{line: "agents rm ada", call: "DELETE /v1/agents/ada"},
		{line: "agents show bob", call: "GET /v1/agents/bob", err: "mneme agents show: no such agent: bob (404 Not Found)\n"},
		{line: "agents rm b:c", call: "DELETE /v1/agents/b:c", err: "mneme agents rm: no such agent: bob (404 Not Found)\n"},
	} {
		*calls = nil
		code := s.run(strings.Fields(c.line)...)
		if s.out.String() != c.out || s.err.String() != c.err || (code == exitDone) != (c.err == "") {
			t.Errorf("%s: exit %d\nout %q\nwant %q\nerr %q\nwant %q", c.line, code, &s.out, c.out, &s.err, c.err)
		}
		if len(*calls) != 1 || (*calls)[0] != c.call {
			t.Errorf("%s called %q, want %q", c.line, *calls, c.call)
		}
	}
}

// A long name does not widen every row; --json has it all.
func TestLongAgents(t *testing.T) {
	long := strings.Repeat("a", 39) + strings.Repeat("b", 217)
	addr := answering(t, http.StatusOK, `{"object":"list","data":[{"id":"ada","object":"agent"},{"id":"`+long+`","object":"agent"}]}`)
	s := newStage(t)
	if code := s.run("agents", "ls", "--addr", addr); code != exitDone || !strings.Contains(s.out.String(), "\n"+long[:39]+"…  0 ") || !strings.Contains(s.out.String(), "\nada"+strings.Repeat(" ", 39)+"0 ") {
		t.Errorf("exit %d:\n%s", code, &s.out)
	}
	if code := s.run("agents", "ls", "--addr", addr, "--json"); code != exitDone || !strings.Contains(s.out.String(), long) {
		t.Errorf("exit %d:\n%s", code, &s.out)
	}
}

// What is no agent is not printed as one: another resource, another server, a
// way to somewhere else.
func TestNoEmptyAgents(t *testing.T) {
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{200, `{"object":"list","data":[]}`, `server's answer is "list", want "agent"`},
		{200, `{}`, `server's answer is "", want "agent"`},
		{200, `<html>`, "server's answer: invalid character"},
		{301, "", "server answered 301 Moved Permanently"},
	} {
		s := newStage(t, "MNEME_ADDR="+answering(t, c.status, c.body))
		for _, line := range []string{"agents show ada", "agents show ada --json"} {
			if code := s.run(strings.Fields(line)...); code != exitFailed || s.out.Len() > 0 || !strings.Contains(s.err.String(), c.want) {
				t.Errorf("%d %s, %s: exit %d, %q, %q; want %q", c.status, c.body, line, code, &s.out, &s.err, c.want)
			}
		}
		if code := s.run("agents", "rm", "ada"); (code == exitDone) != (c.status == 200) {
			t.Errorf("%d, rm: exit %d", c.status, code)
		}
	}
}

// answering is a server that says the same to everybody.
func answering(t *testing.T, status int, body string) (addr string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/v1/agents")
		w.WriteHeader(status)
		w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestAgentsAsJSON(t *testing.T) {
	addr, _ := agentServer(t)
	s := newStage(t)
	if code := s.run("agents", "ls", "--addr", addr, "--json"); code != exitDone || !strings.HasPrefix(s.out.String(), `{"object":"list"`) {
		t.Errorf("exit %d: %q", code, &s.out)
	}
}

func TestAgentsWithoutAServer(t *testing.T) {
	s := newStage(t)
	if code := s.run("agents", "ls", "--addr", "127.0.0.1:1"); code != exitFailed || !strings.Contains(s.err.String(), "is a server running?") {
		t.Errorf("exit %d: %q", code, &s.err)
	}
}
