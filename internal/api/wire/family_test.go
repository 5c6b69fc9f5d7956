package wire_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// Whose a request is: the agent that it names strictly, else the family by the
// first name there is.
func TestIdentity(t *testing.T) {
	long, uuid := strings.Repeat("a", 241), "6f2b0c9e-5f0c-4a58-9a6e-0123456789ab"
	for _, c := range []struct {
		headers       string // Name: value, by lines
		body          wire.Names
		agent, family engine.AgentID
		refused       bool
	}{
		{},
		{headers: "X-Agent-ID: ada\nX-Session-ID: s", agent: "ada"},
		{headers: "X-Agent-ID: ada~2", agent: "ada~2"},
		{headers: "X-Agent-ID: ada~1", refused: true},
		{headers: "X-Agent-ID: ada~02", refused: true},
		{headers: "X-Agent-ID: ada~2~3", refused: true},
		{headers: "X-Agent-ID: a b\nX-Session-ID: s", refused: true},
		{headers: "X-Agent-ID: ada\nX-Agent-ID: ada", refused: true},
		{headers: "X-Claude-Code-Session-Id: " + uuid + "\nX-Session-ID: s", body: wire.Names{User: `{"session_id":"u"}`}, family: engine.AgentID(uuid)},
		{headers: "session-id: c1\nthread-id: c2", body: wire.Names{CacheKey: "k"}, family: "c1"},
		{headers: "thread-id: c2", family: "c2"},
		{headers: "x-session-id: ses_1\nx-session-affinity: ses_1", family: "ses_1"},
		{headers: "X-Session-ID: s", body: wire.Names{Session: "b", CacheKey: "k"}, family: "s"},
		{body: wire.Names{Session: "b", CacheKey: "k", Conversation: "c", Previous: "p"}, family: "b"},
		{body: wire.Names{CacheKey: "k", Conversation: "c", Previous: "p"}, family: "k"},
		{body: wire.Names{Conversation: "c", Previous: "p"}, family: "c"},
		{body: wire.Names{Previous: "resp_1", User: `{"session_id":"u"}`}, family: "resp_1"},
		{body: wire.Names{User: `{"device_id":"d","account_uuid":"","session_id":"u"}`}, family: "u"},
		{body: wire.Names{User: "somebody"}},
		{body: wire.Names{User: `{"session_id":7}`}},
		{body: wire.Names{CacheKey: "my project/main"}, family: "cache-key-38e14526dcc95757"},
		{headers: "X-Session-ID: ..", family: "session-5ec1f7e700f37c3d"},
		{body: wire.Names{Conversation: long}, family: "conversation-ec6e326ef29fe322"},
		{body: wire.Names{Session: "a~2"}, family: "session-9496c93a29f49d60"},
	} {
		r := httptest.NewRequest("POST", "/x", nil)
		for line := range strings.Lines(c.headers) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			r.Header.Add(name, value)
		}
		tally{}.line(time.Time{}).Handler(wire.Route{Dialect: curt{}}, func(x *wire.Exchange) error {
			err := x.NameAgent()
			if x.NameFamily(c.body); (err != nil) != c.refused || err == nil && (x.Agent != c.agent || x.Family != c.family) {
				t.Errorf("%q %+v: agent %q, family %q, %v; want %q, %q, refused %v", c.headers, c.body, x.Agent, x.Family, err, c.agent, c.family, c.refused)
			}
			return x.Empty(http.StatusNoContent)
		}).ServeHTTP(httptest.NewRecorder(), r)
	}
}
