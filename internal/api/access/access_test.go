package access_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"mneme/internal/api/access"
	"mneme/internal/api/wire"
)

// clock is set by hand.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

// stage is a gate, its time, and what agents take of the disk.
type stage struct {
	t    *testing.T
	gate *access.Gate
	clock
	disk map[string]int64
}

func newStage(t *testing.T, r access.Ring) *stage {
	s := &stage{t: t, clock: clock{time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}, disk: map[string]int64{}}
	s.gate = access.NewGate(r, "box.lan:8080", s.clock.time)
	return s
}

// comes is a request; headers are "Name: value", the first may be a Host.
func (s *stage) comes(method string, d access.Door, headers ...string) (wire.Account, error) {
	r := httptest.NewRequest(method, "http://localhost:8080/x", nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return s.gate.Admit(r, d, func(namespace string) int64 { return s.disk[namespace] })
}

// outcome is an account's name, or status, code and time to wait of a refusal.
func outcome(a wire.Account, err error) string {
	var e *wire.Error
	if errors.As(err, &e) {
		return strings.TrimSuffix(fmt.Sprintf("%d %s %v", e.Status, e.Code, e.Retry), " 0s")
	}
	if err != nil {
		return err.Error()
	}
	return a.Name()
}

func (s *stage) want(want string, a wire.Account, err error) {
	s.t.Helper()
	if got := outcome(a, err); got != want {
		s.t.Errorf("got %q, want %q (%v)", got, want, err)
	}
}

func key(name string, l access.Limits) access.Key {
	return access.Key{Name: name, Digest: access.DigestOf("mk_" + name), Limits: l}
}

func ring(keys ...access.Key) access.Ring {
	admin := access.DigestOf("mk_root")
	return access.Ring{Keys: append([]access.Key{}, keys...), Admin: &admin}
}

// A server without keys is this machine's own: no name that a page could have had
// pointed here, no page of another origin.
func TestWithoutKeys(t *testing.T) {
	s := newStage(t, access.Ring{})
	for _, c := range []struct{ host, origin, want string }{
		{"localhost:8080", "", ""},
		{"LOCALHOST.", "", ""},
		{"a.localhost:1", "", ""},
		{"127.0.0.1:8080", "", ""},
		{"127.9.9.9", "", ""},
		{"[::1]:8080", "", ""},
		{"[::ffff:127.0.0.1]", "", ""},
		{"box.lan:9", "", ""},
		{"evil.example:8080", "", "403 forbidden_host"},
		{"localhost.evil.example", "", "403 forbidden_host"},
		{"evil.example\\localhost", "", "403 forbidden_host"},
		{"0.0.0.0:8080", "", "403 forbidden_host"},
		{"192.168.1.7:8080", "", "403 forbidden_host"},
		{"", "", "403 forbidden_host"},
		{"localhost:8080", "http://localhost:8080", ""},
		{"localhost:8080", "http://localhost:3000", "403 forbidden_origin"},
		{"localhost:8080", "https://evil.example", "403 forbidden_origin"},
		{"localhost:8080", "null", "403 forbidden_origin"},
		{"localhost:8080", "", ""},
	} {
		for _, method := range []string{"GET", "POST"} {
			headers := []string{"Host: " + c.host, "Authorization: Bearer sk-whatever"}
			if c.origin != "" {
				headers = append(headers, "Origin: "+c.origin)
			}
			a, err := s.comes(method, access.Keyed, headers...)
			if got := outcome(a, err); got != c.want {
				t.Errorf("%s, Host %q, Origin %q: %q, want %q", method, c.host, c.origin, got, c.want)
			}
		}
	}
}

// Each door takes its keys, by either header, and says what is missing.
func TestDoors(t *testing.T) {
	s := newStage(t, ring(key("ada", access.Limits{}), key("bob", access.Limits{})))
	const unknown, notThisOne = "401 invalid_api_key", "403 permission_denied"
	for _, c := range []struct {
		header                        string
		keyed, open, watched, special string
	}{
		{"Authorization: Bearer mk_ada", "ada", "", notThisOne, notThisOne},
		{"Authorization: bearer  mk_ada", "ada", "", notThisOne, notThisOne},
		{"X-Api-Key: mk_bob", "bob", "", notThisOne, notThisOne},
		{"Authorization: Bearer mk_root", notThisOne, "", "", ""},
		{"X-Api-Key: mk_root", notThisOne, "", "", ""},
		{"Authorization: Bearer mk_eve", unknown, "", unknown, unknown},
		{"Authorization: Basic mk_ada", unknown, "", unknown, unknown},
		{"Authorization: mk_ada", unknown, "", unknown, unknown},
		{"X-Api-Key: ", unknown, "", unknown, unknown},
		{"X-Other: mk_ada", unknown, "", unknown, unknown},
	} {
		for door, want := range map[access.Door]string{access.Keyed: c.keyed, access.Open: c.open, access.Watch: c.watched, access.Special: c.special} {
			a, err := s.comes("GET", door, c.header)
			if got := outcome(a, err); got != want {
				t.Errorf("%s, door %d: %q, want %q", c.header, door, got, want)
			}
		}
	}
	a, err := s.comes("GET", access.Keyed, "Authorization: Bearer sk-dummy", "X-Api-Key: mk_bob")
	s.want("bob", a, err)
	a, err = s.comes("GET", access.Keyed, "Host: any.example", "Origin: https://page.example", "X-Api-Key: mk_ada")
	s.want("ada", a, err)
	a, err = s.comes("POST", access.Keyed, "Host: any.example", "Origin: https://page.example", "X-Api-Key: mk_ada")
	s.want("403 forbidden_origin", a, err)
}

// Where there is no administrator nobody sees what is theirs; without keys the
// metrics are open.
func TestWithoutAdministrator(t *testing.T) {
	s := newStage(t, access.Ring{Keys: []access.Key{key("ada", access.Limits{})}})
	a, err := s.comes("GET", access.Watch, "X-Api-Key: mk_ada")
	s.want("403 permission_denied", a, err)
	a, err = s.comes("GET", access.Special) // where nothing is
	s.want("", a, err)
	s.gate.Change(access.Ring{})
	a, err = s.comes("GET", access.Watch)
	s.want("", a, err)
	s.gate.Change(access.Ring{Keys: []access.Key{}})
	a, err = s.comes("GET", access.Keyed, "X-Api-Key: mk_ada")
	s.want("401 invalid_api_key", a, err)
}

// Three requests a minute: the fourth is told when it may come, and then it may.
func TestRequests(t *testing.T) {
	s := newStage(t, ring(key("ada", access.Limits{Requests: access.Rate{Amount: 3, Per: time.Minute}}), key("bob", access.Limits{})))
	come := func(want string) {
		t.Helper()
		a, err := s.comes("GET", access.Keyed, "X-Api-Key: mk_ada")
		s.want(want, a, err)
	}
	come("ada")
	come("ada")
	come("ada")
	come("429 rate_limit_exceeded 20s")
	s.now = s.now.Add(5 * time.Second)
	come("429 rate_limit_exceeded 15s")
	a, err := s.comes("GET", access.Keyed, "X-Api-Key: mk_bob")
	s.want("bob", a, err)
	s.now = s.now.Add(15*time.Second - time.Millisecond)
	come("429 rate_limit_exceeded 1ms")
	s.now = s.now.Add(time.Millisecond)
	come("ada")
	s.now = s.now.Add(time.Hour) // no more than full
	for range 3 {
		come("ada")
	}
	come("429 rate_limit_exceeded 20s")
	s.now = s.now.Add(-time.Hour) // a clock that is set back gives nothing
	come("429 rate_limit_exceeded 20s")
}

// A turn may take more tokens than are left; the debt is paid before the next.
func TestTokens(t *testing.T) {
	s := newStage(t, ring(key("ada", access.Limits{Tokens: access.Rate{Amount: 600, Per: time.Minute}})))
	a, err := s.comes("POST", access.Keyed, "X-Api-Key: mk_ada")
	s.want("ada", a, err)
	s.want("ada", a, a.MayCompute())
	a.Spent(599)
	s.want("ada", a, a.MayCompute())
	a.Spent(1)
	s.want("429 rate_limit_exceeded 100ms", a, a.MayCompute())
	s.now = s.now.Add(100 * time.Millisecond)
	s.want("ada", a, a.MayCompute())
	a.Spent(301)
	s.want("429 rate_limit_exceeded 30.1s", a, a.MayCompute())
	if err := a.MayCompute(); err.Error() != "the key ada has used up its tokens (600/m); there are more in 30.1s" {
		t.Error(err)
	}
	again, err := s.comes("GET", access.Keyed, "X-Api-Key: mk_ada") // what takes no tokens may go on
	s.want("ada", again, err)
	s.now = s.now.Add(30100 * time.Millisecond)
	s.want("ada", a, a.MayCompute())
}

// Above its quota a key's agents do not grow.
func TestQuota(t *testing.T) {
	s := newStage(t, ring(key("ada", access.Limits{DiskBytes: 100}), key("bob", access.Limits{})))
	a, err := s.comes("POST", access.Keyed, "X-Api-Key: mk_ada")
	s.want("ada", a, err)
	s.disk["ada"], s.disk["bob"] = 100, 1000
	s.want("ada", a, a.MayGrow())
	s.disk["ada"] = 101
	s.want("403 insufficient_quota", a, a.MayGrow())
	b, err := s.comes("POST", access.Keyed, "X-Api-Key: mk_bob")
	s.want("bob", b, err)
	s.want("bob", b, b.MayGrow())
}

// A key that stays keeps what it had left, under its new limits; one that goes is
// nobody's.
func TestChange(t *testing.T) {
	limited := func(n int64) access.Key {
		return key("ada", access.Limits{Requests: access.Rate{Amount: n, Per: time.Hour}})
	}
	s := newStage(t, ring(limited(10), key("bob", access.Limits{})))
	come := func(name, want string) {
		t.Helper()
		a, err := s.comes("GET", access.Keyed, "X-Api-Key: mk_"+name)
		s.want(want, a, err)
	}
	for range 8 {
		come("ada", "ada")
	}
	s.gate.Change(ring(limited(5)))
	come("bob", "401 invalid_api_key")
	come("ada", "ada")
	come("ada", "ada")
	come("ada", "429 rate_limit_exceeded 12m0s")
	s.gate.Change(ring(key("ada", access.Limits{}))) // no limit
	come("ada", "ada")
	s.gate.Change(ring(limited(1))) // and a new one
	come("ada", "ada")
	come("ada", "429 rate_limit_exceeded 1h0m0s")
}
