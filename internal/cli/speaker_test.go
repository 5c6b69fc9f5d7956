package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"mneme/internal/kv"
)

// speaker is the client of one agent. It sends all that was said, every time.
//   - A turn is answered when the whole body, or [DONE], has come.
//   - A turn that was cut off is asked again, in the same words.
//   - When the talk is long the next agent takes its place.
type speaker struct {
	name       string
	generation int
	seed       uint64
	streams    bool

	messages  []map[string]string // of the answered turns
	turns     []reply             // answered
	cut       bool                // the last request was not answered,
	published bool                // but is among the agent's turns
	begun     bool                // the last request's stream has come
	tokens    int                 // so far
	ask       ask                 // the last request
}

// ask is what a turn asks for.
type ask struct {
	messages  []map[string]string
	maxTokens int
	stream    bool
}

// reply is a whole answer.
type reply struct {
	text                       string
	ids                        []int
	logprobs                   []float64
	prompt, cached, completion int
}

func (s *speaker) id() string { return fmt.Sprintf("%s-%d", s.name, s.generation) }

var words = strings.Fields("the rain in spain stays mainly on a plain and nobody there has seen an owl, a boat or any honey since")

// next makes the next request; the same one until it is answered.
func (s *speaker) next() ask {
	r := rand.New(rand.NewPCG(s.seed, uint64(s.generation<<16+len(s.turns))))
	n := 3 + r.IntN(12)
	if r.IntN(3) == 0 {
		n += 60
	}
	question := []string{s.id()}
	for range n {
		question = append(question, words[r.IntN(len(words))])
	}
	return ask{
		messages:  append(slices.Clip(s.messages), says("user", strings.Join(question, " "))),
		maxTokens: 60 + r.IntN(200),
		stream:    s.streams,
	}
}

// leastCached is the formula of an unchanged history. When the turn that was
// cut off is published, asking it again rolls the agent back: then the block
// with the prompt's end may be computed again.
func (s *speaker) leastCached(prompt int) int {
	if len(s.turns) == 0 {
		return 0
	}
	last := s.turns[len(s.turns)-1]
	least := last.prompt + last.completion - 1
	if s.published {
		least = min(least, (prompt-1)/kv.BlockTokens*kv.BlockTokens)
	}
	return least
}

func (s *speaker) answered(a ask, got reply) {
	s.messages = append(a.messages, says("assistant", got.text))
	s.turns = append(s.turns, got)
	s.cut, s.published, s.begun = false, false, false
}

func (s *speaker) retire() {
	s.generation++
	s.messages, s.turns = nil, nil
}

// phase is how far a turn had come when it was cut off.
type phase string

const (
	inPrefill phase = "prefill"
	inDecode  phase = "decode"
	inPublish phase = "publishing"
	unseen    phase = "unseen" // not streamed, or not begun
)

func (s *speaker) phase() phase {
	switch {
	case !s.begun:
		return unseen
	case s.tokens == 0:
		return inPrefill
	case s.tokens < s.ask.maxTokens:
		return inDecode
	}
	return inPublish
}

// mustTalk is a turn on a server that nobody kills.
func (s *speaker) mustTalk(ctx context.Context, t *testing.T, url string) reply {
	t.Helper()
	a := s.next()
	got, err := s.talk(ctx, url, a, &life{})
	if err != nil {
		t.Fatal(err)
	}
	s.answered(a, got)
	return got
}

// talk sends a request and reads the whole answer.
func (s *speaker) talk(ctx context.Context, url string, a ask, l *life) (reply, error) {
	s.ask, s.begun, s.tokens, s.cut = a, false, 0, true
	l.saw(asked)
	return a.send(ctx, url, s.id(), func(tokens int) {
		if !s.begun {
			s.begun = true
			l.saw(begun)
		}
		for range tokens {
			s.tokens++
			l.saw(heard)
		}
		if tokens > 0 && s.tokens == a.maxTokens {
			l.saw(heardLast)
		}
	})
}

// onlyText keeps the random model to printable ASCII, so that its answers can
// be sent back as they were.
var onlyText = func() map[string]int {
	bias := map[string]int{"60": -100} // no "<", which begins special tokens
	for id := range 259 {
		if id < ' ' || id > '~' {
			bias[fmt.Sprint(id)] = -100
		}
	}
	return bias
}()

// send asks greedily; heard is told of the tokens of each event of a stream.
func (a ask) send(ctx context.Context, url, agent string, heard func(tokens int)) (reply, error) {
	request := map[string]any{
		"messages": a.messages, "max_tokens": a.maxTokens, "temperature": 0, "ignore_eos": true,
		"return_token_ids": true, "logprobs": true, "logit_bias": onlyText, "stream": a.stream,
	}
	if a.stream {
		request["stream_options"] = map[string]any{"include_usage": true}
	}
	body, err := json.Marshal(request)
	if err != nil {
		return reply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("X-Agent-ID", agent)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	got, err := a.read(resp, heard)
	if err == nil && (len(got.ids) != a.maxTokens || got.completion != a.maxTokens || len(got.logprobs) != a.maxTokens) {
		err = fmt.Errorf("asked for %d tokens, got %d ids, %d logprobs and a usage of %d", a.maxTokens, len(got.ids), len(got.logprobs), got.completion)
	}
	return got, err
}

func (a ask) read(resp *http.Response, heard func(tokens int)) (got reply, err error) {
	if a.stream && resp.StatusCode == http.StatusOK {
		return got, got.readEvents(resp.Body, heard)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return got, err
	}
	if resp.StatusCode != http.StatusOK {
		return got, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return got, got.add(body)
}

// readEvents reads a stream; without [DONE] it is an error.
func (r *reply) readEvents(body io.Reader, heard func(tokens int)) error {
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			return nil
		}
		before := len(r.ids)
		if err := r.add(data); err != nil {
			return err
		}
		heard(len(r.ids) - before)
	}
	return errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}

// piece is a whole answer or an event of a stream.
type piece struct {
	answer
	Choices []struct {
		Message, Delta struct{ Content string }
		IDs            []int `json:"token_ids"`
		Logprobs       struct{ Content []struct{ Logprob float64 } }
	}
	Note  json.RawMessage `json:"mneme"` // a turn that was not published
	Error json.RawMessage `json:"error"`
}

func (r *reply) add(data []byte) error {
	var p piece
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("%s: %w", data, err)
	}
	if p.Note != nil || p.Error != nil {
		return fmt.Errorf("answer with a problem: %s", data)
	}
	for _, c := range p.Choices {
		r.text += c.Message.Content + c.Delta.Content
		r.ids = append(r.ids, c.IDs...)
		for _, l := range c.Logprobs.Content {
			r.logprobs = append(r.logprobs, l.Logprob)
		}
	}
	if u := p.Usage; u.Prompt > 0 {
		r.prompt, r.cached, r.completion = u.Prompt, u.Details.Cached, u.Completion
	}
	return nil
}

// differs says where an answer is not the same bits as an uninterrupted one; how
// much was cached is another matter.
func (r reply) differs(want reply) error {
	for i := range min(len(r.ids), len(want.ids)) {
		if r.ids[i] != want.ids[i] || r.logprobs[i] != want.logprobs[i] {
			return fmt.Errorf("token %d is %d (%v), uninterrupted %d (%v)", i, r.ids[i], r.logprobs[i], want.ids[i], want.logprobs[i])
		}
	}
	if len(r.ids) != len(want.ids) || r.prompt != want.prompt || r.text != want.text {
		return fmt.Errorf("%d tokens on %d, %q; uninterrupted %d on %d, %q", len(r.ids), r.prompt, r.text, len(want.ids), want.prompt, want.text)
	}
	return nil
}
