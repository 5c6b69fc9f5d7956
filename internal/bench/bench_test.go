package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mneme/internal/bench/durable"
	"mneme/internal/bench/figures"
	"mneme/internal/bench/probe"
)

// fake is a server whose tokens are words, whose template adds 3 tokens to a
// message, and that answers "yes" until max_tokens. It remembers per agent how
// many words it has seen, and shares whole prompts from block to block of 64.
type fake struct {
	mu      sync.Mutex
	agents  map[string]int    // tokens remembered
	cold    map[string]bool   // after evict
	seen    map[string]bool   // prompts, by their first 64-token blocks
	evicted []string          // in order
	deleted []string          // in order
	lies    map[string]string // agent prefix, what is said instead of yes
}

func newFake() *fake {
	return &fake{agents: map[string]int{}, cold: map[string]bool{}, seen: map[string]bool{}, lies: map[string]string{}}
}

func (f *fake) serve(t *testing.T) string {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":"fake","mneme":{"kv_bytes_per_token":10,"context":4096,"kv_format":"q4"}}]}`)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"version":"v0","kernel":"none"}`)
	})
	mux.HandleFunc("POST /tokenize", func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Text string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		_ = json.NewEncoder(w).Encode(map[string]any{"tokens": make([]int, len(strings.Fields(q.Text)))})
	})
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	mux.HandleFunc("GET /v1/agents/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		tier := "hot"
		if f.cold[r.PathValue("id")] {
			tier = "warm"
		}
		fmt.Fprintf(w, `{"tier":%q}`, tier)
	})
	mux.HandleFunc("POST /v1/agents/{id}/evict", func(_ http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.cold[r.PathValue("id")] = true
		f.evicted = append(f.evicted, r.PathValue("id"))
	})
	mux.HandleFunc("DELETE /v1/agents/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.deleted = append(f.deleted, r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Messages  []probe.Message
		MaxTokens int `json:"max_tokens"`
	}
	_ = json.NewDecoder(r.Body).Decode(&q)
	agent := r.Header.Get("X-Agent-ID")
	prompt, cached := f.remember(agent, q.Messages, q.MaxTokens)
	said := "yes"
	for prefix, lie := range f.lies {
		if strings.Contains(agent, prefix) && len(q.Messages) > 1 {
			said = lie
		}
	}
	fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n")
	for range q.MaxTokens {
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\" %s\"},\"token_ids\":[%d]}]}\n\n", said, len(said))
	}
	fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":%d}}}\n\ndata: [DONE]\n\n", prompt, q.MaxTokens, cached)
}

// remember counts a prompt and what of it is known: the agent's own past, else
// the blocks that somebody's prompt had.
func (f *fake) remember(agent string, messages []probe.Message, answer int) (prompt, cached int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var words []string
	for _, m := range messages {
		words = append(words, strings.Fields(m.Content)...)
		prompt += 3
	}
	prompt += len(words)
	if n := f.agents[agent]; agent != "" && len(messages) > 1 && n <= prompt {
		cached = n
	}
	for end := 64; end < prompt && end <= len(words); end += 64 {
		key := strings.Join(words[:end], " ")
		if f.seen[key] {
			cached = max(cached, end)
		}
		f.seen[key] = true
	}
	f.agents[agent] = prompt + answer - 1
	return prompt, cached
}

func small() Options {
	o := DefaultOptions()
	o.Lengths, o.Rounds, o.Seed, o.Patience = []int{100, 200, 5000}, 2, 7, time.Minute
	return o
}

// A whole benchmark against the fake: what it measured, whom it evicted, that
// it cleaned up, and what it prints.
func TestRun(t *testing.T) {
	f := newFake()
	report, err := Run(context.Background(), Running(f.serve(t)), small())
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Check(); err != nil {
		t.Error(err)
	}
	if len(report.FirstToken) != 2 || report.FirstToken[0].Tokens != 100 || report.FirstToken[1].Tokens != 200 {
		t.Fatalf("lengths: %+v, want 100 and 200", report.FirstToken)
	}
	// prompt(1) = 103, then cached = 103+16-1, the second prompt has 3 messages: 100+16+9 words and 9
	if got := report.FirstToken[0].NewTokens; got != 134-118 {
		t.Errorf("new tokens of the second turn: %d, want 16", got)
	}
	if want := []string{"5000 tokens do not fit the context of 4096 and were left out"}; !slices.Equal(report.Notes, want) {
		t.Errorf("notes %q, want %q", report.Notes, want)
	}
	// The fake computes the prompt once and what is behind its last whole block eight times.
	if got, want := report.Shared.AllOf.Median-report.Shared.Alone.Median, float64(7*12); got != want {
		t.Errorf("eight computed %g tokens more than one, want %g", got, want)
	}
	if want := (2 * 2) * 2; len(f.evicted) != want {
		t.Errorf("%d agents evicted, want %d: %q", len(f.evicted), want, f.evicted)
	}
	// per round: 2 lengths of 2 agents, 1 + 2*3 + 2*8 that decode, 1 + 8 that share
	if want := 2 * (2*2 + 23 + 9); len(f.deleted) != want {
		t.Errorf("%d agents deleted, want %d", len(f.deleted), want)
	}
	checkOutput(t, report)
}

func checkOutput(t *testing.T, report Report) {
	t.Helper()
	var table, data bytes.Buffer
	if err := errors.Join(report.Table(&table), report.JSON(&data)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fake, KV q4 (10 bytes per token), kernel none, version v0.", "| 100 tokens ", "| 8 agents together ", "Note: 5000 tokens do not fit"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	var back Report
	if err := json.Unmarshal(data.Bytes(), &back); err != nil || back.Shared != report.Shared || back.Decode != report.Decode {
		t.Errorf("JSON does not read back (%v): %s", err, &data)
	}
}

// A restored turn that answers otherwise than the hot one fails the report.
func TestADifferentAnswerIsNoResult(t *testing.T) {
	f := newFake()
	f.lies["leaves-200"] = "no"
	report, err := Run(context.Background(), Running(f.serve(t)), small())
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Check(); err == nil || !strings.Contains(err.Error(), "at 200 tokens") {
		t.Errorf("check says %v, want a complaint about 200 tokens", err)
	}
}

func TestOptionsAreBounded(t *testing.T) {
	for says, change := range map[string]func(*Options){
		"0 lengths":             func(o *Options) { o.Lengths = nil },
		"9 lengths":             func(o *Options) { o.Lengths = make([]int, 9) },
		"0 rounds":              func(o *Options) { o.Rounds = 0 },
		"21 rounds":             func(o *Options) { o.Rounds = 21 },
		"a prompt of 63 tokens": func(o *Options) { o.Lengths = []int{500, 63} },
	} {
		o := DefaultOptions()
		change(&o)
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := DefaultOptions().Check(); err != nil {
		t.Error(err)
	}
}

// A server whose own flags have keys is not compared with another one.
func TestKeysAreFound(t *testing.T) {
	for want, args := range map[bool][][]string{
		true:  {{"--kv-key-file", "k"}, {"--threads", "2", "--kv-key-file=k"}},
		false: {nil, {"--kv-format", "q8"}, {"--kv-key-files"}},
	} {
		for _, a := range args {
			if got := (&spawned{args: a}).hasKeys(); got != want {
				t.Errorf("%q: %v", a, got)
			}
		}
	}
}

// What lasts is part of the tables and of the judgement.
func TestDurablePart(t *testing.T) {
	r := Report{Load: figures.Load{Before: 0.5, After: 1}, Durable: &durable.Report{Rows: []durable.Row{{Name: "restore", Unit: "x", Value: figures.Spread{Median: 2, Min: 2, Max: 2}}}}}
	var b bytes.Buffer
	if err := errors.Join(r.Table(&b), r.Check()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"load average 0.50 before, 1.00 after", "| restore    |  | 2 x      |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &b)
		}
	}
	r.Durable.Differs = true
	if err := r.Check(); err == nil {
		t.Error("an encrypted answer that differs passes")
	}
}
