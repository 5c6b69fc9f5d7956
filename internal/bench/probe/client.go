// Package probe is the outside of a server: it asks over HTTP, as users do, and
// times what comes; it starts a server's process on a folder of its own, kills
// it and starts it again; and it makes texts that no server has seen. What is
// measured with it is for its users to know.
package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Client speaks the server's HTTP. It waits as long as the server says
// something, be it that it is still there.
type Client struct {
	base     string
	patience time.Duration // with silence
	http     *http.Client
}

func NewClient(base string, patience time.Duration) *Client {
	return &Client{base: base, patience: patience, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

// listen ends a context when heard has not been called for the client's
// patience.
func (c *Client) listen(ctx context.Context) (_ context.Context, heard func(), stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.patience, func() { cancel(fmt.Errorf("the server has said nothing for %v", c.patience)) })
	return ctx, func() { timer.Reset(c.patience) }, func() { timer.Stop(); cancel(nil) }
}

// Status asks for a path and says how the answer begins.
func (c *Client) Status(ctx context.Context, path string) (int, error) {
	ctx, _, stop := c.listen(ctx)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// Server is what a server says of itself.
type Server struct {
	Model    string `json:"model"`
	Context  int    `json:"context"` // tokens
	KVFormat string `json:"kv_format"`
	KVBytes  int    `json:"kv_bytes_per_token"`
	Version  string `json:"version"`
	Kernel   string `json:"kernel"`
}

// Server asks the server who it is.
func (c *Client) Server(ctx context.Context) (Server, error) {
	var models struct {
		Data []struct {
			ID    string `json:"id"`
			Mneme struct {
				KVBytes  int    `json:"kv_bytes_per_token"`
				Context  int    `json:"context"`
				KVFormat string `json:"kv_format"`
			} `json:"mneme"`
		} `json:"data"`
	}
	if err := c.Get(ctx, "/v1/models", &models); err != nil {
		return Server{}, err
	}
	if len(models.Data) == 0 {
		return Server{}, errors.New("the server has no model")
	}
	var version struct{ Version, Kernel string }
	if err := c.Get(ctx, "/version", &version); err != nil {
		return Server{}, err
	}
	m := models.Data[0]
	return Server{
		Model: m.ID, Context: m.Mneme.Context, KVFormat: m.Mneme.KVFormat, KVBytes: m.Mneme.KVBytes,
		Version: version.Version, Kernel: version.Kernel,
	}, nil
}

// Tokens counts the tokens of a text.
func (c *Client) Tokens(ctx context.Context, text string) (int, error) {
	var answer struct {
		Tokens []int `json:"tokens"`
	}
	err := c.post(ctx, "/tokenize", map[string]any{"text": text}, &answer)
	return len(answer.Tokens), err
}

// Tier is where an agent's KV is: hot, warm or cold.
func (c *Client) Tier(ctx context.Context, agent string) (string, error) {
	var answer struct{ Tier string }
	err := c.Get(ctx, "/v1/agents/"+agent, &answer)
	return answer.Tier, err
}

// Get asks for a path and decodes the answer.
func (c *Client) Get(ctx context.Context, path string, answer any) error {
	return c.Exchange(ctx, http.MethodGet, path, nil, answer)
}

func (c *Client) post(ctx context.Context, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.Exchange(ctx, http.MethodPost, path, data, answer)
}

// Exchange sends a request and decodes the answer; answer may be nil.
func (c *Client) Exchange(ctx context.Context, method, path string, body []byte, answer any) error {
	ctx, _, stop := c.listen(ctx)
	defer stop()
	resp, err := c.send(ctx, method, path, "", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// send returns a good answer, whose body the caller closes, or an error.
func (c *Client) send(ctx context.Context, method, path, agent string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if agent != "" {
		req.Header.Set("X-Agent-ID", agent)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	return resp, nil
}

// Message is one entry of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// User is a conversation of one message.
func User(text string) []Message { return []Message{{"user", text}} }

// Chat is one greedy turn to ask for.
type Chat struct {
	Agent     string
	Messages  []Message
	MaxTokens int
	IgnoreEOS bool // generate MaxTokens whatever the model says
}

// Answer is what came back, with its times since the request was sent.
type Answer struct {
	Text                       string
	Tokens                     []int
	Prompt, Cached, Completion int           // usage, in tokens
	First, Last                time.Duration // of its tokens
}

// event is one server-sent event of a chat, and the shape of its errors.
type event struct {
	Choices []struct {
		Delta    struct{ Content string }
		TokenIDs []int `json:"token_ids"`
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Details    struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
	Error *struct{ Message string }
}

// Chat runs one streamed turn.
func (c *Client) Chat(ctx context.Context, q Chat) (Answer, error) {
	body, err := json.Marshal(map[string]any{
		"messages": q.Messages, "max_tokens": q.MaxTokens, "temperature": 0, "ignore_eos": q.IgnoreEOS,
		"stream": true, "stream_options": map[string]any{"include_usage": true}, "return_token_ids": true,
	})
	if err != nil {
		return Answer{}, err
	}
	ctx, heard, stop := c.listen(ctx)
	defer stop()
	start := time.Now()
	resp, err := c.send(ctx, http.MethodPost, "/v1/chat/completions", q.Agent, body)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	a, err := readStream(resp.Body, start, heard)
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
	}
	return a, err
}

// readStream collects a stream of events up to its [DONE]. heard is told of
// every line, also of those that only say that the server is still there.
func readStream(body io.Reader, start time.Time, heard func()) (Answer, error) {
	var a Answer
	var text strings.Builder
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		heard()
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			a.Text = text.String()
			return a, a.complete()
		}
		var e event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return a, fmt.Errorf("stream event %q: %w", data, err)
		}
		if err := a.add(e, &text, start); err != nil {
			return a, err
		}
	}
	return a, fmt.Errorf("stream ended without [DONE]: %w", errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

// add takes over one event. The first token is the first event that carries
// text or a token id: an event with only the role does not count.
func (a *Answer) add(e event, text *strings.Builder, start time.Time) error {
	if e.Error != nil {
		return fmt.Errorf("error in mid-stream: %s", e.Error.Message)
	}
	for _, choice := range e.Choices {
		if choice.Delta.Content != "" || len(choice.TokenIDs) > 0 {
			a.Last = time.Since(start)
		}
		if a.First == 0 {
			a.First = a.Last
		}
		text.WriteString(choice.Delta.Content)
		a.Tokens = append(a.Tokens, choice.TokenIDs...)
	}
	if u := e.Usage; u != nil {
		a.Prompt, a.Cached, a.Completion = u.Prompt, u.Details.Cached, u.Completion
	}
	return nil
}

// complete checks that the stream carried what is measured.
func (a *Answer) complete() error {
	switch {
	case a.Prompt == 0:
		return errors.New("the stream carried no usage")
	case a.First == 0:
		return errors.New("the stream carried no token")
	case len(a.Tokens) != a.Completion:
		return fmt.Errorf("the stream carried %d token ids, usage says %d", len(a.Tokens), a.Completion)
	}
	return nil
}
