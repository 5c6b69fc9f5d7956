package durable

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mneme/internal/bench/figures"
	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

const (
	journalBytes = 100 // of a turn, in the fake's journal
	payloadBytes = 128 // of every frame of the fake
)

// The test's own program is the server that is measured: `serve ...` runs the fake.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fake is a server whose tokens are words. It keeps an agent's number of tokens
// in a journal, a line per turn, and writes frames for what is new.
type fake struct {
	mu    sync.Mutex
	dir   string
	waste bool // writes every tail twice
	lies  bool // with keys, every second answer differs
	key   byte // of the next frame
}

func serve(args []string) error {
	f := &fake{}
	set := flag.NewFlagSet("serve", flag.ContinueOnError)
	addr, keys := set.String("addr", "", ""), set.String("kv-key-file", "", "")
	set.StringVar(&f.dir, "data", "", "")
	set.BoolVar(&f.waste, "waste", false, "")
	set.String("restore", "", "")
	lies, context := set.Bool("lies", false, ""), set.Int("context", 4096, "")
	if err := set.Parse(args); err != nil {
		return err
	}
	f.lies = *lies && *keys != ""
	for _, dir := range []string{"agents", "kv/print"} {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o700); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"data":[{"mneme":{"context":%d}}]}`, *context)
	})
	mux.HandleFunc("POST /tokenize", func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Text string }
		_ = json.NewDecoder(r.Body).Decode(&q)
		_ = json.NewEncoder(w).Encode(map[string]any{"tokens": make([]int, len(strings.Fields(q.Text)))})
	})
	mux.HandleFunc("GET /v1/agents/{id}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"bytes":{"disk":640}}`) })
	mux.HandleFunc("POST /v1/agents/{id}/warm", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/chat/completions", f.chat)
	s := http.Server{Addr: *addr, Handler: mux}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() { <-end; _ = s.Close() }()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var q struct {
		Messages  []struct{ Content string }
		MaxTokens int `json:"max_tokens"`
	}
	_ = json.NewDecoder(r.Body).Decode(&q)
	prompt := 0
	for _, m := range q.Messages {
		prompt += len(strings.Fields(m.Content))
	}
	id := token.ID(1)
	if f.lies && len(q.Messages) > 1 {
		id = 2
	}
	had, err := f.remember(r.Header.Get("X-Agent-ID"), prompt+q.MaxTokens)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for range q.MaxTokens {
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\" yes\"},\"token_ids\":[%d]}]}\n\n", id)
	}
	fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":%d}}}\n\ndata: [DONE]\n\n", prompt, q.MaxTokens, had)
}

// remember makes an agent's tokens durable and says how many there were.
func (f *fake) remember(agent string, tokens int) (had int, err error) {
	if agent == "" {
		return 0, nil
	}
	journal := filepath.Join(f.dir, "agents", agent)
	lines, _ := os.ReadFile(journal)
	if n := len(lines); n > 0 {
		fmt.Sscan(string(lines[n-journalBytes:]), &had)
	}
	var out []byte
	for range tokens/64 - had/64 {
		out = append(out, f.frame(format.Block)...)
	}
	out = append(out, f.frame(format.Tail)...)
	if f.waste {
		out = append(out, f.frame(format.Tail)...)
	}
	return had, errors.Join(
		appendTo(journal, fmt.Appendf(nil, "%-*d\n", journalBytes-1, tokens)),
		appendTo(filepath.Join(f.dir, "kv/print/000001.seg"), out))
}

func (f *fake) frame(kind format.Kind) []byte {
	f.key++
	fr := format.Frame{Kind: kind, Form: quant.KVF16, Tokens: make([]token.ID, 64), PayloadBytes: payloadBytes, Key: kv.Key{f.key}}
	b := make([]byte, fr.Shape().FrameBytes())
	fr.Encode(b, func(dst []byte) { clear(dst) })
	return b
}

func appendTo(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if at, err := f.Seek(0, 2); err == nil && at == 0 && strings.HasSuffix(path, ".seg") {
		data = append(make([]byte, 64), data...)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func small(t *testing.T, args ...string) Options {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	o.Program, o.Args, o.Seed, o.Rounds, o.Agents, o.Tokens, o.Patience = program, args, 7, 1, 5, 300, time.Minute
	return o
}

// fakeFrame is what a frame of the fake takes: its head 96 + 4*64 in whole 64s, its payload.
const fakeFrame = 384 + payloadBytes

// A whole measurement against the fake: its 73 new tokens a turn cost one or two
// blocks, a tail and a line of the journal; nothing is missing from the report.
func TestRun(t *testing.T) {
	report, err := Run(context.Background(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Check(); err != nil {
		t.Error(err)
	}
	var names []string
	for _, row := range report.Rows {
		names = append(names, row.Name+": "+row.About)
	}
	want := []string{
		"bytes written per new token: turns of 73 new tokens",
		"bytes of a turn beside its sealed blocks and one tail: turns of 73 new tokens",
		"start after kill -9: 1 agent on disk", "start after kill -9: 5 agents", "start after kill -9: 5 agents against 1 agent on disk",
		"start after a clean end: 1 agent on disk", "start after a clean end: 5 agents", "start after a clean end: 5 agents against 1 agent on disk",
		"restored first token after 300 tokens: plain", "restored first token after 300 tokens: encrypted", "restored first token after 300 tokens: encrypted against plain",
		"restore to memory: 300 tokens", "plain read to memory: the same bytes, also cached by the system", "restore against plain read: ",
	}
	if !slices.Equal(names, want) {
		t.Errorf("rows %q,\nwant %q", names, want)
	}
	if got, want := report.Rows[1].Value, (figures.Spread{Median: journalBytes, Min: journalBytes, Max: journalBytes}); got != want || !*report.Rows[1].Holds {
		t.Errorf("bytes beside frames %+v, want %+v", got, want)
	}
	least, most := float64(2*fakeFrame+journalBytes)/73, float64(3*fakeFrame+journalBytes)/73
	if got := report.Rows[0].Value; got.Min != least || got.Max != most {
		t.Errorf("bytes per token %+v, want %g to %g", got, least, most)
	}
	var b strings.Builder
	report.Table(&b)
	for _, want := range []string{"| 100 bytes ", "| at most 1024 | yes   |", "| at least 0.5 |", "| at most 1.25 |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &b)
		}
	}
}

// A server that writes its tail twice is found out.
func TestWasteIsSeen(t *testing.T) {
	r := newRun(small(t, "--waste"))
	if err := r.written(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got, want := r.report.Rows[1].Value.Median, float64(fakeFrame+journalBytes); got != want {
		t.Errorf("%g bytes beside frames, want %g", got, want)
	}
}

// Sizes follow from a frame's head alone, in each version.
func TestFrameBytes(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, 64} {
		f := format.Frame{Kind: format.Tail, Form: quant.KVF16, Tokens: make([]token.ID, n), PayloadBytes: 100 * n}
		b := make([]byte, f.Shape().FrameBytes())
		f.Encode(b, func(dst []byte) { clear(dst) })
		if got, err := frameBytes([frameHead]byte(b)); err != nil || got != int64(len(b)) {
			t.Errorf("%d tokens: %d bytes, %v, want %d", n, got, err, len(b))
		}
		b[4] = 2
		if got, err := frameBytes([frameHead]byte(b)); err != nil || got != f.Shape().Under(format.Encrypted).FrameBytes() {
			t.Errorf("%d tokens, encrypted: %d bytes, %v, want %d", n, got, err, f.Shape().Under(format.Encrypted).FrameBytes())
		}
		b[4] = 3
		if _, err := frameBytes([frameHead]byte(b)); err == nil {
			t.Error("a frame of version 3 has a size")
		}
	}
	if _, err := frameBytes([frameHead]byte{}); err == nil {
		t.Error("zeros are a frame")
	}
}

// A server that answers otherwise with keys than without is no result; one whose
// flags have keys is measured alone.
func TestEncryptedAnswers(t *testing.T) {
	r := newRun(small(t, "--lies"))
	if err := r.restores(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.report.Check(); err == nil || !strings.Contains(err.Error(), "answered otherwise") {
		t.Errorf("check says %v", err)
	}
	o := small(t, "--kv-key-file", "mine")
	o.KeyFile = GivenKeys
	r = newRun(o)
	if err := r.restores(context.Background()); err != nil || r.report.Rows[0].About != "with the keys given" || len(r.report.Rows) != 4 {
		t.Errorf("given keys: %v, %+v", err, r.report.Rows)
	}
}

// A conversation that cannot grow for as long as it is measured is refused.
func TestShortContext(t *testing.T) {
	if err := newRun(small(t, "--context", "500")).restores(context.Background()); err == nil || err.Error() != "a context of 500 tokens is too short for 4 turns behind a long one" {
		t.Errorf("%v", err)
	}
}

// What cannot be started ends the measurement with the server's own words.
func TestNoServer(t *testing.T) {
	o := small(t, "--what")
	if _, err := Run(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), "bytes written: the server ended") || !strings.Contains(err.Error(), "-what") {
		t.Errorf("%v", err)
	}
}
