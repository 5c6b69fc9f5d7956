package api

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"mneme/internal/api/access"
	"mneme/internal/api/anthropic"
	"mneme/internal/api/openai"
	"mneme/internal/api/resources"
	"mneme/internal/api/responses"
	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// handler answers an exchange, or says why it cannot. e is nil on early routes
// while there is none.
type handler func(x *wire.Exchange, e Engine) error

// route is one path with its methods.
type route struct {
	path      string // a ServeMux pattern without a method; also the metrics label
	early     bool   // works without an engine
	probe     bool   // asked all day long by machines; logged quietly
	vendor    vendor
	operation string // what its turns are in a trace; "": chat
	door      access.Door
	methods   map[string]handler
}

// vendor is whose dialect a path speaks; our own paths speak OpenAI's.
type vendor uint8

const (
	ofOpenAI vendor = iota
	ofAnthropic
)

// line is how exchanges on the route are spelled.
func (r route) line() wire.Route {
	line := wire.Route{Path: r.path, Probe: r.probe, Dialect: openai.Dialect{}, Operation: cmp.Or(r.operation, "chat")}
	if r.vendor == ofAnthropic {
		line.Dialect, line.NamesID = anthropic.Dialect{}, anthropic.RequestHeader
	}
	return line
}

const (
	get  = http.MethodGet
	post = http.MethodPost
	del  = http.MethodDelete
)

func (s *Server) routes() {
	for _, r := range slices.Concat(s.dialects(), s.ours(), s.life()) {
		s.mux.Handle(r.path, s.serve(r, r.dispatch))
	}
	nothing := func(x *wire.Exchange, _ Engine) error { return wire.NotFound(x) }
	s.other = s.serve(route{path: "other"}, nothing)
	s.mux.Handle("/", s.other)
	s.mux.Handle("/v1/messages/", s.serve(route{path: "other", vendor: ofAnthropic}, nothing))
	for _, path := range []string{"/admin", "/admin/"} {
		s.mux.Handle(path, s.serve(route{path: "/admin", door: access.Special}, nothing))
	}
}

// computing is h for those who have tokens left.
func computing(h handler) handler {
	return func(x *wire.Exchange, e Engine) error {
		if err := x.Account.MayCompute(); err != nil {
			return err
		}
		return h(x, e)
	}
}

// growing is h for those whose agents may take more of the disk.
func growing(h handler) handler {
	return func(x *wire.Exchange, e Engine) error {
		if err := x.Account.MayGrow(); err != nil {
			return err
		}
		return h(x, e)
	}
}

// dialects are the routes of vendors.
func (s *Server) dialects() []route {
	return []route{
		{path: "/v1/chat/completions", methods: map[string]handler{post: computing(s.turns(openai.ChatCompletions))}},
		{path: "/v1/completions", operation: "text_completion", methods: map[string]handler{post: computing(s.turns(openai.Completions))}},
		{path: "/v1/messages", vendor: ofAnthropic, methods: map[string]handler{post: computing(s.messages(anthropic.Create))}},
		{path: "/v1/messages/count_tokens", vendor: ofAnthropic, methods: map[string]handler{post: s.messages(anthropic.CountTokens)}},
		{path: "/v1/responses", methods: map[string]handler{post: computing(s.responses(responses.Desk.Create))}},
		{path: "/v1/responses/{id}", methods: map[string]handler{get: s.responses(responses.Desk.Get), del: s.responses(responses.Desk.Delete)}},
		{path: "/v1/models", methods: map[string]handler{get: s.turns(openai.ListModels)}},
		{path: "/v1/models/{id...}", methods: map[string]handler{get: s.turns(openai.GetModel)}},
	}
}

// turns makes a handler of one that takes turns.
func (s *Server) turns(h func(*turn.Desk) error) handler {
	return func(x *wire.Exchange, e Engine) error {
		return h(&turn.Desk{Exchange: x, Engine: e, Room: s.room.Load(), Aliases: s.options.Aliases, Since: s.began, Prints: &s.prints})
	}
}

// messages makes a handler of one that reads the Anthropic dialect.
func (s *Server) messages(h func(*turn.Desk, anthropic.Settings) error) handler {
	settings := anthropic.Settings{Billing: s.options.Billing}
	return s.turns(func(d *turn.Desk) error { return h(d, settings) })
}

// responses makes a handler of one that has stored responses at hand.
func (s *Server) responses(h func(responses.Desk) error) handler {
	return s.turns(func(d *turn.Desk) error { return h(responses.Desk{Desk: d, Shelf: s.shelf.Load()}) })
}

// ours are the routes of what no vendor has.
func (s *Server) ours() []route {
	on := s.resource
	return []route{
		{path: "/tokenize", methods: map[string]handler{post: on(resources.Desk.Tokenize)}},
		{path: "/detokenize", methods: map[string]handler{post: on(resources.Desk.Detokenize)}},
		{path: "/v1/agents", methods: map[string]handler{get: on(resources.Desk.List), post: growing(on(resources.Desk.Create))}},
		{path: "/v1/agents/{id}", methods: map[string]handler{get: on(resources.Desk.Get), del: on(resources.Desk.Delete)}},
		{path: "/v1/agents/{id}/turns", methods: map[string]handler{get: on(resources.Desk.Turns)}},
		{path: "/v1/agents/{id}/turns/{n}/cache", methods: map[string]handler{get: on(resources.Desk.Cache)}},
		{path: "/v1/agents/{id}/fork", methods: map[string]handler{post: growing(on(resources.Desk.Fork))}},
		{path: "/v1/agents/{id}/rollback", methods: map[string]handler{post: on(resources.Desk.Rollback)}},
		{path: "/v1/agents/{id}/pin", methods: map[string]handler{post: on(resources.Desk.Pin)}},
		{path: "/v1/agents/{id}/unpin", methods: map[string]handler{post: on(resources.Desk.Unpin)}},
		{path: "/v1/agents/{id}/warm", methods: map[string]handler{post: on(resources.Desk.Warm)}},
		{path: "/v1/agents/{id}/evict", methods: map[string]handler{post: on(resources.Desk.Evict)}},
		{path: "/v1/agents/{id}/export", methods: map[string]handler{get: on(resources.Desk.Export)}},
		{path: "/v1/agents/import", methods: map[string]handler{
			post: growing(on(resources.Desk.Import)), get: calledImport(on(resources.Desk.Get)), del: calledImport(on(resources.Desk.Delete)),
		}},
	}
}

// resource makes a handler of one of our own.
func (s *Server) resource(h func(resources.Desk) error) handler {
	settings := resources.Settings{ImportLimit: s.options.ImportLimit, SpoolDir: s.options.SpoolDir}
	return func(x *wire.Exchange, e Engine) error {
		return h(resources.Desk{Exchange: x, Engine: e, Prints: &s.prints, Settings: settings})
	}
}

// calledImport makes h one of the agent named import, whose path is a route of its own.
func calledImport(h handler) handler {
	return func(x *wire.Exchange, e Engine) error {
		x.Request.SetPathValue("id", "import")
		return h(x, e)
	}
}

// detour says whether a path has parts that name no place: empty ones, dots. The
// mux would send the client elsewhere, where it would find something else.
func detour(path string) bool {
	parts := strings.Split(path, "/")
	return slices.Contains(parts, ".") || slices.Contains(parts, "..") || strings.Contains(path, "//")
}

// serve makes an exchange of every request that is let in, for the engine there
// is then.
func (s *Server) serve(r route, h handler) http.Handler {
	return s.line.Handler(r.line(), func(x *wire.Exchange) error {
		if err := s.admit(x, r.door); err != nil {
			return err
		}
		return h(x, s.attached())
	})
}

// admit finds out who asks. What is a key's has its name as the namespace.
func (s *Server) admit(x *wire.Exchange, d access.Door) error {
	account, err := s.options.Access.Admit(x.Request, d, s.diskBytes)
	if account != nil {
		x.Account = account
	}
	if key := x.Account.Name(); key != "" {
		x.Namespace = engine.Namespace(key)
	}
	return err
}

// diskBytes is what the agents of a namespace take of the disk.
func (s *Server) diskBytes(namespace string) (total int64) {
	if e := s.attached(); e != nil {
		for _, a := range e.Agents(engine.Namespace(namespace)) {
			total += a.BytesDisk
		}
	}
	return total
}

// dispatch finds the handler of the method.
func (r route) dispatch(x *wire.Exchange, e Engine) error {
	method := x.Request.Method
	if method == http.MethodHead {
		method = get
	}
	h, ok := r.methods[method]
	switch {
	case !ok:
		return r.wrongMethod(x)
	case e == nil && !r.early:
		return wire.ErrLoading
	}
	return h(x, e)
}

func (r route) wrongMethod(x *wire.Exchange) error {
	allowed := slices.Sorted(maps.Keys(r.methods))
	if slices.Contains(allowed, get) {
		allowed = append(allowed, http.MethodHead)
	}
	x.Header().Set("Allow", strings.Join(allowed, ", "))
	return &wire.Error{
		Status:  http.StatusMethodNotAllowed,
		Message: fmt.Sprintf("%s is not allowed on %s; allowed: %s", x.Request.Method, x.Request.URL.Path, strings.Join(allowed, ", ")),
		Code:    "method_not_allowed",
	}
}
