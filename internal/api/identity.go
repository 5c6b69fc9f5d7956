package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
)

// namespace is everybody's until there are keys.
const namespace engine.Namespace = "default"

const (
	agentHeader   = "X-Agent-ID"
	requestHeader = "X-Request-Id"

	maxAgentID   = 256
	maxRequestID = 128
)

// nameAgent takes the agent from its header, if the request names one.
func (x *exchange) nameAgent() error {
	given := x.r.Header.Values(agentHeader)
	switch len(given) {
	case 0:
		return nil
	case 1:
		return x.setAgent(given[0], agentHeader)
	default:
		return openai.Invalid(agentHeader, "%s is given %d times; a request has one agent", agentHeader, len(given))
	}
}

// pathAgent takes the agent from the path.
func (x *exchange) pathAgent() error { return x.setAgent(x.r.PathValue("id"), "id") }

// setAgent checks a name that stood in param and has the answer carry it.
func (x *exchange) setAgent(id, param string) error {
	err := checkAgent(id, param)
	if err == nil {
		x.isAbout(id)
	}
	return err
}

// isAbout has the answer carry an agent's name.
func (x *exchange) isAbout(id string) {
	x.agent = id
	x.w.Header().Set(agentHeader, id)
}

// checkAgent refuses what no agent may be called.
func checkAgent(id, param string) error {
	switch {
	case !isName(id, maxAgentID):
		return openai.Invalid(param, "%s must be 1 to %d characters of A-Z a-z 0-9 . _ : -, not %q", param, maxAgentID, clip(id))
	case id == "." || id == "..":
		return openai.Invalid(param, "%s must not be %q: in a URL that is no name", param, id)
	}
	return nil
}

// requestID is the client's when it is a name, else a new one.
func (s *Server) requestID(r *http.Request) string {
	if id := r.Header.Get(requestHeader); isName(id, maxRequestID) {
		return id
	}
	return "req-" + s.options.NewID()
}

// isName says whether s is 1 to most characters of [A-Za-z0-9._:-].
func isName(s string, most int) bool {
	return s != "" && len(s) <= most && strings.IndexFunc(s, isOutside) < 0
}

func isOutside(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("._:-", r)
}

func randomID() string {
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(fmt.Sprintf("api: no randomness: %v", err))
	}
	return hex.EncodeToString(b[:])
}

// clip keeps a message short when a value is long.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
