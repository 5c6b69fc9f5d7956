package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mneme/internal/api"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/engine/reuse"
	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/sample"
	"mneme/internal/store"
	"mneme/internal/token"
)

// The clock of the tokenizer's regular expressions ends by itself, later.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock"))
}

// quiet is a log for tests that do not read it.
var quiet = slog.New(slog.DiscardHandler)

// noon is when everything happens in these tests.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("CET", 3600))

// chatML is the template of the fake's model.
const chatML = `{% for m in messages %}{% if m['name'] == 'nobody' %}{{ raise_exception('nobody is not known here') }}{% endif %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// letters is a tokenizer with a token for each byte: 0 and 1 are <|im_start|>
// and <|im_end|>, 2 newline, 3 space, 4.. the bytes from '!' to '~', then the
// two bytes of é.
var letters = sync.OnceValue(func() *token.Tokenizer {
	v := token.Vocab{
		Tokens: []string{"<|im_start|>", "<|im_end|>", "Ċ", "Ġ"},
		Types:  []int32{3, 3, 1, 1},
		Model:  "gpt2", Pre: "smollm",
		BOS: token.None, EOS: 1, EOT: token.None,
	}
	for c := '!'; c <= '~'; c++ {
		v.Tokens, v.Types = append(v.Tokens, string(c)), append(v.Types, 1)
	}
	v.Tokens, v.Types = append(v.Tokens, "Ã", "©"), append(v.Types, 1, 1)
	t, err := token.New(v)
	if err != nil {
		panic(err)
	}
	return t
})

// fake is an engine that holds real tokens and says what it is told to.
type fake struct {
	mu        sync.Mutex
	agents    map[string]*fakeAgent
	requests  []engine.Request
	reply     string
	refuse    error         // what Submit says
	hold      chan struct{} // outputs after the first wait for it
	breaks    error         // what ends a stream after its first output
	publish   error         // what publishing a turn says
	ready     error
	bare      bool // the model has no template
	abandoned int  // streams closed before their end
	panics    bool
	bug       bool          // reading a stream panics after its first output
	predicted time.Duration // what streams say of their first output
	refuses   error         // what operations on agents say
	exported  []byte        // what Export writes
	exportErr error         // what it says then
	imported  string        // the name in an export that is imported
	family    family
	replies   []string // what later turns say, when there are several
	reports   map[string]map[int]reuse.Report
}

type fakeAgent struct {
	lineage []token.ID
	turns   []engine.TurnInfo
	tier    kv.Tier
	unsaved bool // its last turn could not be published
	parent  engine.AgentID
	pinned  bool
}

func newFake() *fake {
	return &fake{agents: map[string]*fakeAgent{}, reply: "ok", family: newFamily()}
}

func (f *fake) Submit(ctx context.Context, r engine.Request) (api.Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r)
	switch {
	case f.panics:
		panic("the fake has a bug")
	case f.refuse != nil:
		return nil, f.refuse
	}
	prompt := r.Tokens
	if prompt == nil {
		var err error
		if prompt, err = letters().IDs(r.Text, token.Options{ParseSpecial: true}); err != nil {
			return nil, err
		}
	}
	return &fakeStream{fake: f, request: r, prompt: prompt, outputs: f.outputs(r)}, nil
}

// outputs spells the reply, with <|im_end|> after it. Half of an é has no text.
func (f *fake) outputs(r engine.Request) []engine.Output {
	if r.PromptOnly {
		return nil
	}
	if len(f.replies) > 0 {
		f.reply, f.replies = f.replies[0], f.replies[1:]
	}
	ids, _ := letters().IDs(f.reply, token.Options{})
	text := letters().NewStream()
	var outs []engine.Output
	for _, id := range append(ids, 1) {
		out := engine.Output{ID: id}
		if id != 1 {
			out.Text = text.Push(id)
		}
		if r.Sampling.Logprobs >= 0 {
			out.Logprob = -0.25
			out.Top = []sample.Alternative{{ID: id, Logprob: -0.25}, {ID: 2, Logprob: -1.5}}[:r.Sampling.Logprobs]
		}
		outs = append(outs, out)
	}
	if r.MaxTokens > 0 && r.MaxTokens < len(outs) {
		outs = outs[:r.MaxTokens]
	}
	return outs
}

type fakeStream struct {
	fake    *fake
	request engine.Request
	prompt  []token.ID
	outputs []engine.Output
	given   []token.ID
	over    bool
}

// fakeTimings are those of every turn of the fake's; they are known from its first
// output on.
var fakeTimings = engine.Timings{
	Queue: 1500 * time.Microsecond, Restore: 2 * time.Millisecond, Prefill: 36500 * time.Microsecond, Decode: 80 * time.Millisecond, Save: 3 * time.Millisecond,
}

func (s *fakeStream) Timings() engine.Timings {
	return engine.Timings{Queue: fakeTimings.Queue, Restore: fakeTimings.Restore, Prefill: fakeTimings.Prefill}
}

func (s *fakeStream) Prompt() []token.ID { return s.prompt }

func (s *fakeStream) Next(ctx context.Context) (engine.Output, bool) {
	if len(s.given) > 0 {
		if s.fake.bug {
			panic("the parser has a bug")
		}
		if s.fake.breaks != nil || !s.wait(ctx) {
			return engine.Output{}, false
		}
	}
	if len(s.given) == len(s.outputs) {
		return engine.Output{}, false
	}
	out := s.outputs[len(s.given)]
	s.given = append(s.given, out.ID)
	return out, true
}

func (s *fakeStream) wait(ctx context.Context) bool {
	if s.fake.hold == nil {
		return ctx.Err() == nil
	}
	select {
	case <-s.fake.hold:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *fakeStream) Result() (engine.Completed, error) {
	s.over = true
	switch {
	case s.fake.breaks != nil:
		return engine.Completed{}, s.fake.breaks
	case len(s.given) < len(s.outputs):
		s.over = false
		return engine.Completed{}, context.Canceled
	}
	return s.fake.finish(s), nil
}

func (s *fakeStream) Close() {
	if !s.over {
		s.fake.mu.Lock()
		s.fake.abandoned++
		s.fake.mu.Unlock()
	}
}

func (f *fake) finish(s *fakeStream) engine.Completed {
	f.mu.Lock()
	defer f.mu.Unlock()
	done := engine.Completed{
		Finish:      engine.FinishLength,
		Start:       engine.StartUncached,
		Usage:       engine.Usage{Prompt: len(s.prompt), Completion: len(s.given)},
		TimeToFirst: 40 * time.Millisecond,
		Timings:     fakeTimings,
		PublishErr:  f.publish,
	}
	if n := len(s.given); n > 0 && s.given[n-1] == 1 {
		done.Finish = engine.FinishStop
	}
	if s.request.Score != nil {
		done.Prompt = scores(s.prompt, s.request.Score.Alternatives)
	}
	if s.request.Agent == "" {
		return done
	}
	a := f.agents[string(s.request.Agent)]
	if a == nil {
		a = &fakeAgent{}
		f.agents[string(s.request.Agent)] = a
	}
	before := a.lineage
	a.take(&done, s)
	f.note(string(s.request.Agent), before, s, done)
	a.unsaved = f.publish != nil
	return done
}

// scores says of each token of a prompt that it was less likely than the one
// before, and most likely a newline.
func scores(prompt []token.ID, n int) []engine.PromptToken {
	scores := []engine.PromptToken{{ID: prompt[0]}}
	for i, id := range prompt[1:] {
		top := []sample.Alternative{{ID: 2, Logprob: -0.125}, {ID: 98, Logprob: math.Inf(-1)}}[:n]
		scores = append(scores, engine.PromptToken{ID: id, Logprob: -float64(i + 1), Top: top})
	}
	return scores
}

// take makes the turn the agent's newest; its last token has no KV.
func (a *fakeAgent) take(done *engine.Completed, s *fakeStream) {
	for n := 0; n < min(len(a.lineage), len(s.prompt))-1 && a.lineage[n] == s.prompt[n]; n++ {
		done.Usage.Cached, done.Start = n+1, engine.StartHot
	}
	if a.tier == kv.TierWarm && done.Usage.Cached > 0 {
		done.Start = engine.StartRestored
	}
	a.tier = kv.TierHot
	a.lineage = append(slices.Clone(s.prompt), s.given...)
	a.turns = append(a.turns, engine.TurnInfo{
		Turn: len(a.turns) + 1, Tokens: len(a.lineage), Prompt: done.Usage.Prompt, Cached: done.Usage.Cached,
		Completion: done.Usage.Completion, Finish: done.Finish, Created: noon,
	})
	done.Turn = len(a.turns)
}

func (f *fake) info(id string) (engine.AgentInfo, error) {
	a := f.agents[id]
	if a == nil {
		return engine.AgentInfo{}, engine.ErrNoAgent
	}
	i := engine.AgentInfo{
		ID: engine.AgentID(id), Namespace: "default", Model: "letters", Tokens: len(a.lineage), Turns: len(a.turns), Tier: a.tier,
		BytesDisk: 1000, Parent: a.parent, Pinned: a.pinned, Created: noon, LastUsed: noon,
	}
	if a.tier == kv.TierHot {
		i.BytesHot, i.BytesShare = 600, 200
	}
	return i, nil
}

func (f *fake) Agents(namespace engine.Namespace) []engine.AgentInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	var infos []engine.AgentInfo
	for id := range maps.Keys(f.agents) {
		i, _ := f.info(id)
		infos = append(infos, i)
	}
	return infos
}

func (f *fake) Agent(namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.info(string(id))
}

func (f *fake) Turns(namespace engine.Namespace, id engine.AgentID) ([]engine.TurnInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[string(id)] == nil {
		return nil, engine.ErrNoAgent
	}
	return f.agents[string(id)].turns, nil
}

func (f *fake) CreateAgent(namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[string(id)] != nil {
		return engine.AgentInfo{}, engine.ErrAgentExists
	}
	f.agents[string(id)] = &fakeAgent{tier: kv.TierWarm}
	return f.info(string(id))
}

func (f *fake) DeleteAgent(namespace engine.Namespace, id engine.AgentID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[string(id)] == nil {
		return engine.ErrNoAgent
	}
	delete(f.agents, string(id))
	return nil
}

func (f *fake) Evict(ctx context.Context, namespace engine.Namespace, id engine.AgentID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.agents[string(id)] == nil {
		return engine.ErrNoAgent
	}
	if f.agents[string(id)].unsaved {
		return fmt.Errorf("agent %s: %w", id, engine.ErrNotStored)
	}
	f.agents[string(id)].tier = kv.TierWarm
	return nil
}

func (f *fake) Info() engine.Info {
	i := engine.Info{
		Model: "letters", Fingerprint: "0123456789abcdef", Context: 4096, KVFormat: "q4", KVBytesPerToken: 12960,
		KV:     kv.Spec{Format: kv.FormatQ4, Groups: []kv.Group{{Layers: []int{0}, KVHeads: 1, KDim: 64, VDim: 64}}},
		Kernel: "generic", NumericsClass: "generic", Tokenizer: letters(),
	}
	if !f.bare {
		i.Template = compiled()
	}
	return i
}

var compiled = sync.OnceValue(func() *chat.Template {
	t, err := chat.Compile(chatML, chat.Options{EOS: "<|im_end|>"})
	if err != nil {
		panic(err)
	}
	return t
})

func (f *fake) Stats() engine.Stats {
	return engine.Stats{
		Running: 2, Waiting: 1, StoreErrors: 3, Preempted: 5, Store: store.Stats{Quarantined: 4},
		Restored: 6, Recomputed: 7, RestoreRate: 1.5e9, PrefillRate: 800, OtherFormat: 8, ShareOverruled: 9, Expired: 10,
		Refused: engine.Refused{Agents: 11, Imports: 12, Damaged: 13},
		Pool: kv.Stats{TotalBytes: 10_000, UnusedBytes: 2_000, Classes: []kv.ClassStats{
			{Group: 0, Form: quant.KVF16, BlockBytes: 400, Total: 4, Free: 1, Reserved: 1, Held: 2},
			{Group: 0, Form: quant.KVQ4, BlockBytes: 100, Total: 40, Free: 10, Held: 20, Cached: 10},
			{Group: 1, Form: quant.KVQ4, BlockBytes: 50, Total: 40, Free: 0, Held: 30, Cached: 10},
		}},
	}
}

func (f *fake) Ready() error { return f.ready }

// bench is a server over a fake, on a real connection, with its log.
type bench struct {
	t    *testing.T
	fake *fake
	api  *api.Server
	http *httptest.Server
	log  *syncBuffer
}

func newBench(t *testing.T) *bench { return newBenchWith(t, api.Options{}) }

func newBenchWith(t *testing.T, o api.Options) *bench {
	t.Helper()
	return newBenchIDs(t, o, func() string { return "f00d" })
}

func newBenchIDs(t *testing.T, o api.Options, newID func() string) *bench {
	t.Helper()
	b := &bench{t: t, fake: newFake(), log: &syncBuffer{}}
	o.Log = slog.New(slog.NewTextHandler(b.log, nil))
	o.Clock = func() time.Time { return noon }
	o.NewID = newID
	b.api = api.New(b.fake, o)
	b.http = httptest.NewServer(b.api)
	t.Cleanup(b.http.Close)
	return b
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are "Name: value".
func (b *bench) do(method, path, body string, headers ...string) reply {
	b.t.Helper()
	r, err := http.NewRequest(method, b.http.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	answer, err := b.http.Client().Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{answer.StatusCode, answer.Header, string(text)}
}

func (b *bench) get(path string) reply { return b.do("GET", path, "") }

func (b *bench) chat(body string, headers ...string) reply {
	b.t.Helper()
	return b.do("POST", "/v1/chat/completions", body, headers...)
}

// want compares the answer with a status and a JSON body, spaces between
// members aside.
func (b *bench) want(got reply, status int, body string) {
	b.t.Helper()
	var want bytes.Buffer
	if err := json.Compact(&want, []byte(body)); err != nil {
		b.t.Fatalf("bad expectation: %v", err)
	}
	if got.status != status || strings.TrimSuffix(got.body, "\n") != want.String() {
		b.t.Errorf("got  %d %s\nwant %d %s", got.status, got.body, status, want.String())
	}
}

// error is the message, param and code of an error body.
func (b *bench) error(got reply) (message, param, code string) {
	b.t.Helper()
	var body struct {
		Error struct{ Message, Type, Param, Code string }
	}
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || body.Error.Message == "" || body.Error.Type == "" {
		b.t.Errorf("not an error body (%v): %d %s", err, got.status, got.body)
	}
	return body.Error.Message, body.Error.Param, body.Error.Code
}

// alive asserts that the server still answers a good request.
func (b *bench) alive() {
	b.t.Helper()
	if got := b.chat(`{"messages":[{"role":"user","content":"hi"}]}`); got.status != 200 || !strings.Contains(got.body, `"content":"ok"`) {
		b.t.Errorf("a good request afterwards: %d %s", got.status, got.body)
	}
}

// syncBuffer is a bytes.Buffer for a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
