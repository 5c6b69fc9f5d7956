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
		Messages  []message
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
func (f *fake) remember(agent string, messages []message, answer int) (prompt, cached int) {
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

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    Spread
		text    string
	}{
		{nil, Spread{}, "0.0"},
		{[]float64{3}, Spread{3, 3, 3}, "3.0"},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}, "2.0 (1.0 to 9.0)"},
		{[]float64{4, 1, 2, 9}, Spread{3, 1, 9}, "3.0 (1.0 to 9.0)"},
	} {
		before := slices.Clone(c.samples)
		got := spread(c.samples)
		if got != c.want || got.text(1) != c.text {
			t.Errorf("spread of %v: %+v %q, want %+v %q", c.samples, got, got.text(1), c.want, c.text)
		}
		if !slices.Equal(before, c.samples) {
			t.Errorf("spread reordered its samples: %v", c.samples)
		}
	}
	// Ratios are taken round by round: the median of ratios, not of quotients of medians.
	if got := ratios([]float64{1, 2, 9}, []float64{2, 8, 9}); !slices.Equal(got, []float64{0.5, 0.25, 1}) {
		t.Errorf("ratios: %v", got)
	}
	if got := (Spread{Median: 1.0 / 30}).inverse(); got != "1 / 30" {
		t.Errorf("inverse: %q", got)
	}
}

// Texts have exactly the size asked for, even where words are several tokens,
// and the same seed makes the same text.
func TestSizedTexts(t *testing.T) {
	count := func(_ context.Context, text string) (int, error) { return (len(text) + 4) / 5, nil }
	for _, want := range []int{1, 20, 500, 2000} {
		a, err := newWords(3).sized(context.Background(), count, want)
		if n, _ := count(context.Background(), a); err != nil || n != want {
			t.Errorf("%d tokens wanted, %d made (%v)", want, n, err)
		}
		if b, _ := newWords(3).sized(context.Background(), count, want); a != b {
			t.Errorf("%d tokens: two texts from one seed", want)
		}
	}
	odd := func(_ context.Context, text string) (int, error) { return 2 * len(strings.Fields(text)), nil }
	if _, err := newWords(3).sized(context.Background(), odd, 7); err == nil {
		t.Error("7 tokens out of words of 2: no error")
	}
}

// A stream that does not carry what is measured is an error, not a zero.
func TestBrokenStreams(t *testing.T) {
	const usage = `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}` + "\n\n"
	const token = `data: {"choices":[{"delta":{"content":"a"},"token_ids":[1]}]}` + "\n\n"
	for _, c := range []struct{ stream, want string }{
		{token + usage, "without [DONE]"},
		{token + "data: [DONE]\n\n", "no usage"},
		{usage + "data: [DONE]\n\n", "no token"},
		{token + token + usage + "data: [DONE]\n\n", "2 token ids, usage says 1"},
		{token + `data: {"error":{"message":"out of room"}}` + "\n\n", "out of room"},
		{"data: {\n\n", "stream event"},
	} {
		if _, err := readStream(strings.NewReader(c.stream), time.Now(), func() {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.stream, err, c.want)
		}
	}
	if a, err := readStream(strings.NewReader(token+usage+"data: [DONE]\n\n"), time.Now(), func() {}); err != nil || a.Text != "a" || a.Prompt != 5 {
		t.Errorf("a good stream: %+v, %v", a, err)
	}
}

// A server that ends at once is reported with its own last words.
func TestSpawnOfWhatDoesNotServe(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := Spawn(ctx, "/bin/sh", nil) // sh takes "serve" for a script's name
	if err == nil || !strings.Contains(err.Error(), "serve") || !strings.Contains(err.Error(), "the server ended") {
		t.Errorf("got %v", err)
	}
}

// A server that is slow but says so is waited for, longer than the patience; one
// that says nothing is not.
func TestSlowIsNotSilent(t *testing.T) {
	const patience, pings = 250 * time.Millisecond, 10
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range pings {
			time.Sleep(patience / 5)
			if r.Header.Get("X-Agent-ID") == "slow" {
				fmt.Fprint(w, ": ping\n\n")
				w.(http.Flusher).Flush()
			}
		}
		fmt.Fprint(w, `data: {"choices":[{"delta":{"content":"a"},"token_ids":[1]}],"usage":{"prompt_tokens":5,"completion_tokens":1}}`+"\n\ndata: [DONE]\n\n")
	}))
	defer s.Close()
	c := newClient(s.URL, patience)
	if a, err := c.chat(context.Background(), chat{Agent: "slow"}); err != nil || a.Text != "a" {
		t.Errorf("slow: %+v, %v", a, err)
	}
	for _, err := range []error{
		second(c.chat(context.Background(), chat{Agent: "silent"})),
		c.get(context.Background(), "/v1/models", nil),
	} {
		if err == nil || err.Error() != "the server has said nothing for 250ms" {
			t.Errorf("silent: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
