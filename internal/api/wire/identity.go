package wire

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mneme/internal/api/fields"
	"mneme/internal/engine"
)

// everybody is the namespace of all until there are keys.
const everybody engine.Namespace = "default"

const (
	agentHeader   = "X-Agent-ID"
	requestHeader = "X-Request-Id"

	maxAgentID   = 256
	maxRequestID = 128
	memberSign   = '~' // before the number of a family's second, third … member
)

// NameAgent takes the agent from its header, if the request names one.
func (x *Exchange) NameAgent() error {
	given := x.Request.Header.Values(agentHeader)
	switch len(given) {
	case 0:
		return nil
	case 1:
		return x.SetAgent(given[0], agentHeader)
	default:
		return Invalid(agentHeader, "%s is given %d times; a request has one agent", agentHeader, len(given))
	}
}

// PathAgent takes the agent from the path.
func (x *Exchange) PathAgent() error { return x.SetAgent(x.Request.PathValue("id"), "id") }

// SetAgent checks a name that stood in param and has the answer carry it. It may
// be the name of a family's member, which answers have told.
func (x *Exchange) SetAgent(id, param string) error {
	err := CheckAgent(familyOf(id), param)
	if err == nil {
		x.IsAbout(engine.AgentID(id))
	}
	return err
}

// IsAbout has the answer carry an agent's name, and errors be about it.
func (x *Exchange) IsAbout(id engine.AgentID) {
	x.Agent = id
	x.Header().Set(agentHeader, string(id))
}

// CheckAgent refuses what no agent may be called; the name stood in param.
func CheckAgent(id, param string) error {
	switch {
	case !isName(id, maxAgentID):
		return Invalid(param, "%s must be 1 to %d characters of A-Z a-z 0-9 . _ : -, not %q", param, maxAgentID, fields.Clip(id))
	case id == "." || id == "..":
		return Invalid(param, "%s must not be %q: in a URL that is no name", param, id)
	}
	return nil
}

// familyOf is the name without the number of a member: ada of ada~2.
func familyOf(id string) string {
	family, number, found := strings.Cut(id, string(memberSign))
	if n, err := strconv.Atoi(number); !found || err != nil || n < 2 || strconv.Itoa(n) != number {
		return id
	}
	return family
}

// OnlyQuery is the value of the one parameter that the URL may have, "" when it
// has none.
func (x *Exchange) OnlyQuery(name string) (string, error) {
	values, err := url.ParseQuery(x.Request.URL.RawQuery)
	if err != nil {
		return "", Invalid("", "the URL's parameters do not read: %v", err)
	}
	for other, given := range values {
		switch {
		case other != name:
			return "", Invalid(fields.Clip(other), "%s is not a known parameter; known: %s", fields.Clip(other), name)
		case len(given) > 1:
			return "", Invalid(name, "%s is given %d times", name, len(given))
		}
	}
	return values.Get(name), nil
}

// requestID is the client's when it is a name, else a new one.
func (l *Line) requestID(r *http.Request) string {
	if id := r.Header.Get(requestHeader); isName(id, maxRequestID) {
		return id
	}
	return "req-" + l.NewID()
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
