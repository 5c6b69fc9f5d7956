package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"mneme/internal/cli/value"
)

// client talks to a running server about its agents.
type client struct {
	base string // http://host:port
	http *http.Client
}

func newClient(a value.Address) *client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // elsewhere is something else
	return &client{base: a.URL(), http: &http.Client{Timeout: 2 * time.Minute, CheckRedirect: stay}}
}

// object is what every resource says that it is.
type object struct {
	Kind string `json:"object"`
}

func (o object) kind() string { return o.Kind }

// list is a listing of resources.
type list[T any] struct {
	object
	Data []T `json:"data"`
}

// agent is the server's view of one agent, as docs/API.md writes it.
type agent struct {
	object
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

// turn is one entry of an agent's list of turns.
type turn struct {
	Turn       int       `json:"turn"`
	Tokens     int       `json:"tokens"`
	Prompt     int       `json:"prompt_tokens"`
	Cached     int       `json:"cached_tokens"`
	Completion int       `json:"completion_tokens"`
	Finish     string    `json:"finish_reason"`
	Created    time.Time `json:"created_at"`
}

// agentPath is the route of an agent, and of what is below it.
func agentPath(id string, below ...string) string {
	path := "/v1/agents/" + url.PathEscape(id)
	for _, part := range below {
		path += "/" + part
	}
	return path
}

// call sends one request and returns the body of a good answer; a bad one is an
// error with the server's own words.
func (c *client) call(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("is a server running? %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, answerError(resp.Status, body)
	}
	return body, nil
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
