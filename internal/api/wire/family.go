package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"mneme/internal/engine"
)

// maxFamily leaves room in a member's name for its number.
const maxFamily = 240

// Names are what the body of a request says about whose it is; "" for what it
// does not say.
type Names struct {
	Session      string // session_id
	CacheKey     string // prompt_cache_key
	Conversation string // conversation, or its id
	Previous     string // previous_response_id, or the family of that response
	User         string // metadata.user_id, which may be JSON with a session_id
}

// named is a value that may name a family, and where it comes from.
type named struct{ source, value string }

// clientHeaders are what known clients name a conversation by.
var clientHeaders = []struct{ source, header string }{
	{"claude", "X-Claude-Code-Session-Id"},
	{"codex", "Session-Id"},
	{"codex", "Thread-Id"},
	{"opencode", "X-Session-Affinity"},
	{"session", "X-Session-ID"},
}

// NameFamily takes the family of agents from the first of the names that a
// request has for it, headers before the body. A request that names its agent
// strictly, or has no names, is of no family.
func (x *Exchange) NameFamily(body Names) {
	if x.Agent != "" {
		return
	}
	for _, n := range x.names(body) {
		if n.value != "" {
			x.Family = family(n)
			return
		}
	}
}

// names in the order in which they count.
func (x *Exchange) names(body Names) []named {
	var all []named
	for _, h := range clientHeaders {
		all = append(all, named{h.source, x.Request.Header.Get(h.header)})
	}
	return append(all,
		named{"session", body.Session},
		named{"cache-key", body.CacheKey},
		named{"conversation", body.Conversation},
		named{"response", body.Previous},
		named{"user", sessionIn(body.User)},
	)
}

// sessionIn is the session_id in a user_id that is JSON; any other user_id says
// who asks, not which conversation this is.
func sessionIn(userID string) string {
	var user struct {
		Session string `json:"session_id"`
	}
	if json.Unmarshal([]byte(userID), &user) != nil {
		return ""
	}
	return user.Session
}

// family is the value itself where it can be an agent's name.
func family(n named) engine.AgentID {
	if CheckAgent(n.value, "") == nil && len(n.value) <= maxFamily {
		return engine.AgentID(n.value)
	}
	sum := sha256.Sum256([]byte(n.value))
	return engine.AgentID(n.source + "-" + hex.EncodeToString(sum[:8]))
}
