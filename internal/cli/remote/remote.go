// Package remote is a running server's agents as the command line asks for them
// over HTTP. It knows the routes and shapes of docs/API.md; what is printed of an
// answer is cli's business.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"mneme/internal/cli/value"
)

// answerLimit is how long an answer may take that is not a file.
const answerLimit = 2 * time.Minute

// Server talks to a running server about its agents.
type Server struct {
	base string // http://host:port
	key  string // shown to it; "" for none
	http *http.Client
}

// At is the server at an address.
func At(a value.Address) *Server {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // elsewhere is something else
	return &Server{base: a.URL(), http: &http.Client{CheckRedirect: stay}}
}

// As shows the server an API key, "" for none.
func (s *Server) As(key string) *Server {
	s.key = key
	return s
}

// Object is what every resource says that it is.
type Object struct {
	Kind string `json:"object"`
}

// Is is what it says that it is.
func (o Object) Is() string { return o.Kind }

// List is a listing of resources.
type List[T any] struct {
	Object
	Data []T `json:"data"`
}

// Agent is the server's view of one agent, as docs/API.md writes it.
type Agent struct {
	Object
	ID     string `json:"id"`
	Model  string `json:"model"`
	Tokens int    `json:"tokens"`
	Turns  int    `json:"turns"`
	Tier   string `json:"tier"`
	Bytes  struct {
		Hot    int64 `json:"hot"`
		Disk   int64 `json:"disk"`
		Shared int64 `json:"shared"`
	} `json:"bytes"`
	Parent   string    `json:"parent"`
	Pinned   bool      `json:"pinned"`
	Created  time.Time `json:"created_at"`
	LastUsed time.Time `json:"last_used_at"`
}

// Turn is one entry of an agent's list of turns.
type Turn struct {
	Turn       int       `json:"turn"`
	Tokens     int       `json:"tokens"`
	Prompt     int       `json:"prompt_tokens"`
	Cached     int       `json:"cached_tokens"`
	Completion int       `json:"completion_tokens"`
	Finish     string    `json:"finish_reason"`
	Created    time.Time `json:"created_at"`
}

// AgentPath is the route of an agent, and of what is below it.
func AgentPath(id string, below ...string) string {
	path := "/v1/agents/" + url.PathEscape(id)
	for _, part := range below {
		path += "/" + part
	}
	return path
}

// Call sends one request, with body as JSON unless it is nil, and returns the
// body of a good answer; a bad one is an error with the server's own words.
func (s *Server) Call(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var text io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(data)
	}
	answer, err := s.send(ctx, method, path, text, -1)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// send gives a good answer, whose body is the caller's to close. A body of -1
// bytes is one whose length net/http finds out.
func (s *Server) send(ctx context.Context, method, path string, body io.Reader, sizeBytes int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, body)
	if err != nil {
		return nil, err
	}
	if sizeBytes >= 0 {
		req.ContentLength = sizeBytes
	}
	if s.key != "" {
		req.Header.Set("Authorization", "Bearer "+s.key)
	}
	answer, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("is a server running? %w", err)
	}
	if answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return nil, answerError(answer.Status, said)
}

// answerError is the message of an error answer, the status where it has none.
func answerError(status string, body []byte) error {
	var shape struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &shape) == nil && shape.Error.Message != "" {
		return fmt.Errorf("%s (%s)", shape.Error.Message, status)
	}
	return fmt.Errorf("server answered %s", status)
}
