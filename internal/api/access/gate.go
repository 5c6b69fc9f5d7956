package access

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"time"

	"mneme/internal/api/wire"
)

// Door is what stands before a path.
type Door uint8

const (
	Keyed   Door = iota // a key, where there are keys
	Open                // nothing
	Watch               // the administrator's key, where there are keys
	Special             // the administrator's key; without one there is nothing behind it
)

// Gate lets requests in.
//   - Without keys the server is this machine's own: a request must mean it by a
//     local name, and no web page may have made it.
//   - With keys each request is its holder's, within the key's limits.
//   - Safe for concurrent use.
type Gate struct {
	host  string // a name of the server, beside those that are always local
	clock func() time.Time

	mu     sync.Mutex // guards what follows
	ring   Ring
	purses map[string]*purse // by key name
}

// purse is what a key has left.
type purse struct{ requests, tokens bucket }

// NewGate is a gate that a ring opens. host is the name that the server was told
// to listen at, "" for none; the default of clock is time.Now.
func NewGate(r Ring, host string, clock func() time.Time) *Gate {
	g := &Gate{host: host, clock: clock, purses: map[string]*purse{}}
	if clock == nil {
		g.clock = time.Now
	}
	g.Change(r)
	return g
}

// Change has another ring open the gate from now on. A key that stays has what it
// had left.
func (g *Gate) Change(r Ring) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, purses := g.clock(), map[string]*purse{}
	for _, k := range r.Keys {
		p := g.purses[k.Name]
		if p == nil {
			p = &purse{newBucket(k.Limits.Requests, now), newBucket(k.Limits.Tokens, now)}
		}
		p.requests.change(k.Limits.Requests, now)
		p.tokens.change(k.Limits.Tokens, now)
		purses[k.Name] = p
	}
	g.ring, g.purses = r, purses
}

// Admit says whose a request is, or why it may not come in. diskBytes is what the
// agents of a namespace take of the disk.
func (g *Gate) Admit(r *http.Request, d Door, diskBytes func(namespace string) int64) (wire.Account, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.meant(r); err != nil {
		return nil, err
	}
	keys := presented(r)
	switch {
	case d == Special && g.ring.Admin == nil:
		return wire.Anyone(), nil // to find nothing there
	case d == Special, d == Watch && g.ring.Keys != nil:
		return wire.Anyone(), g.administrates(keys)
	case d != Keyed, g.ring.Keys == nil:
		return wire.Anyone(), nil
	}
	holder, err := g.holds(keys)
	if err != nil {
		return nil, err
	}
	v := &visit{gate: g, key: *holder, purse: g.purses[holder.Name], diskBytes: diskBytes}
	return v, v.enterLocked()
}

// presented are the keys that a request brings.
func presented(r *http.Request) (keys []string) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		keys = append(keys, strings.TrimSpace(token))
	}
	return append(keys, r.Header.Get("X-Api-Key"))
}

// holds finds whose key is among those presented.
func (g *Gate) holds(keys []string) (*Key, error) {
	for _, key := range keys {
		switch holder := g.ring.holder(key); {
		case holder != nil:
			return holder, nil
		case g.ring.administrator(key):
			return nil, forbidden("permission_denied", "the administrator's key opens /admin and /metrics, not what belongs to a key")
		}
	}
	return nil, unauthorized(keys, "no API key: send one as \"Authorization: Bearer ...\" or as \"x-api-key\"")
}

// administrates refuses all but the administrator.
func (g *Gate) administrates(keys []string) error {
	for _, key := range keys {
		switch {
		case g.ring.administrator(key):
			return nil
		case g.ring.holder(key) != nil:
			return forbidden("permission_denied", "this needs the administrator's key")
		}
	}
	return unauthorized(keys, "this needs the administrator's key")
}

// unauthorized refuses keys that are nobody's; missing says that there are none.
func unauthorized(keys []string, missing string) error {
	message := missing
	if cmp.Or(keys...) != "" {
		message = "this API key is not known here"
	}
	return &wire.Error{Status: http.StatusUnauthorized, Message: message, Code: "invalid_api_key"}
}

func forbidden(code, message string) error {
	return &wire.Error{Status: http.StatusForbidden, Message: message, Code: code}
}
