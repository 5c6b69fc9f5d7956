package access

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"mneme/internal/api/fields"
)

// meant refuses what a web page has made a browser send.
//   - Without keys the server's name must be local: else a page of a name that has
//     been pointed at this machine could read answers as its own (DNS rebinding).
//   - Without keys no other origin may ask for anything, with keys not for changes.
//     No answer allows another origin to read it.
func (g *Gate) meant(r *http.Request) error {
	mine := g.ring.Keys == nil
	switch {
	case mine && !g.local(nameIn(r.Host)):
		return forbidden("forbidden_host", fmt.Sprintf("without API keys this server answers to local names only, not to %q", fields.Clip(r.Host)))
	case foreign(r) && (mine || changes(r.Method)):
		return forbidden("forbidden_origin", fmt.Sprintf("web pages of %q may not use this server", fields.Clip(r.Header.Get("Origin"))))
	}
	return nil
}

// nameIn is the name in a Host header, in lower case: without its port, brackets
// and last dot.
func nameIn(host string) string {
	name := (&url.URL{Host: host}).Hostname()
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// local says whether nobody else can have pointed a name at this machine.
func (g *Gate) local(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name != "" && name == nameIn(g.host)
}

// foreign says whether a page of another origin asks.
func foreign(r *http.Request) bool {
	for _, origin := range r.Header.Values("Origin") {
		from, err := url.Parse(origin)
		if err != nil || from.Host == "" || !strings.EqualFold(from.Host, r.Host) {
			return true
		}
	}
	return false
}

func changes(method string) bool { return method != http.MethodGet && method != http.MethodHead }
