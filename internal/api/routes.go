package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"mneme/internal/api/openai"
)

// handler answers one exchange, or says why it cannot.
type handler func(*exchange) error

// route is one path with its methods.
type route struct {
	path    string // a ServeMux pattern without a method; also the metrics label
	early   bool   // works without an engine
	probe   bool   // asked all day long by machines; logged quietly
	methods map[string]handler
}

const (
	get  = http.MethodGet
	post = http.MethodPost
)

func (s *Server) routes() {
	for _, r := range []route{
		{path: "/v1/chat/completions", methods: map[string]handler{post: chatCompletions}},
		{path: "/v1/models", methods: map[string]handler{get: listModels}},
		{path: "/v1/models/{id...}", methods: map[string]handler{get: getModel}},
		{path: "/tokenize", methods: map[string]handler{post: tokenize}},
		{path: "/detokenize", methods: map[string]handler{post: detokenize}},
		{path: "/v1/agents", methods: map[string]handler{get: listAgents, post: createAgent}},
		{path: "/v1/agents/{id}", methods: map[string]handler{get: getAgent, http.MethodDelete: deleteAgent}},
		{path: "/v1/agents/{id}/turns", methods: map[string]handler{get: listTurns}},
		{path: "/v1/agents/{id}/fork", methods: map[string]handler{post: forkAgent}},
		{path: "/v1/agents/{id}/rollback", methods: map[string]handler{post: rollbackAgent}},
		{path: "/v1/agents/{id}/pin", methods: map[string]handler{post: pinning(true)}},
		{path: "/v1/agents/{id}/unpin", methods: map[string]handler{post: pinning(false)}},
		{path: "/v1/agents/{id}/warm", methods: map[string]handler{post: warmAgent}},
		{path: "/v1/agents/{id}/evict", methods: map[string]handler{post: evictAgent}},
		{path: "/v1/agents/{id}/export", methods: map[string]handler{get: exportAgent}},
		{path: "/v1/agents/import", methods: map[string]handler{post: importAgent, get: calledImport(getAgent), http.MethodDelete: calledImport(deleteAgent)}},
		{path: "/healthz", early: true, probe: true, methods: map[string]handler{get: healthz}},
		{path: "/readyz", early: true, probe: true, methods: map[string]handler{get: readyz}},
		{path: "/metrics", early: true, probe: true, methods: map[string]handler{get: metrics}},
		{path: "/version", early: true, methods: map[string]handler{get: version}},
	} {
		s.mux.Handle(r.path, s.serve(r, r.dispatch))
	}
	s.other = s.serve(route{path: "other", early: true}, notFound)
	s.mux.Handle("/", s.other)
}

// calledImport makes h one of the agent named import, whose path is a route of its own.
func calledImport(h handler) handler {
	return func(x *exchange) error {
		x.r.SetPathValue("id", "import")
		return h(x)
	}
}

// detour says whether a path has parts that name no place: empty ones, dots. The
// mux would send the client elsewhere, where it would find something else.
func detour(path string) bool {
	parts := strings.Split(path, "/")
	return slices.Contains(parts, ".") || slices.Contains(parts, "..") || strings.Contains(path, "//")
}

// serve makes an exchange of every request, with its end in all cases.
func (s *Server) serve(r route, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		x := s.begin(r, w, request)
		defer x.tear()
		defer x.end()
		if err := h(x); err != nil {
			x.fail(err)
		}
	})
}

// dispatch finds the handler of the method.
func (r route) dispatch(x *exchange) error {
	method := x.r.Method
	if method == http.MethodHead {
		method = get
	}
	h, ok := r.methods[method]
	switch {
	case !ok:
		return r.wrongMethod(x)
	case x.engine == nil && !r.early:
		return errLoading
	}
	return h(x)
}

func (r route) wrongMethod(x *exchange) error {
	allowed := slices.Sorted(maps.Keys(r.methods))
	if slices.Contains(allowed, get) {
		allowed = append(allowed, http.MethodHead)
	}
	x.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &openai.Error{
		Status:  http.StatusMethodNotAllowed,
		Message: fmt.Sprintf("%s is not allowed on %s; allowed: %s", x.r.Method, x.r.URL.Path, strings.Join(allowed, ", ")),
		Type:    openai.TypeInvalid,
		Code:    "method_not_allowed",
	}
}

func notFound(x *exchange) error {
	return &openai.Error{
		Status:  http.StatusNotFound,
		Message: fmt.Sprintf("there is no %s on this server", x.r.URL.Path),
		Type:    openai.TypeInvalid,
		Code:    "not_found",
	}
}
