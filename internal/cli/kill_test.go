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
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mneme/internal/kv"
)

const (
	kills        = 30
	fewestCut    = 5    // kills that must hit a turn which was not yet published
	longestTalk  = 2800 // tokens; an agent that has more leaves the talk to a new one
	storyLimit   = 3 * time.Minute
	killPatience = 2 * time.Second // for the moment of a kill to come
)

// TestKillUnderLoad kills a server 30 times while four agents talk to it at
// once. After each restart every acknowledged turn is listed and costs nothing,
// and every answer is the one of a server that was never killed.
func TestKillUnderLoad(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), storyLimit)
	defer cancel()
	k := newKilling(ctx, t, seed)
	for i := range kills {
		k.begin()
		k.everyoneTakesATurn()
		k.killAt(k.nextMoment(i))
	}
	k.begin()
	k.everyoneTakesATurn()
	k.end()
	t.Logf("%d kills: %d hit an unpublished turn, %d a published one that was not answered", kills, k.hitUnpublished, k.hitUnanswered)
	t.Logf("%d turns cut off, as their clients saw it: %v", k.cutTurns, k.cutIn)
	t.Logf("%d turns answered and equal to an uninterrupted server's, %d of them the first after a kill", k.witness.verified.Load(), k.afterKill)
	if k.hitUnpublished < fewestCut {
		t.Errorf("only %d kills hit an unpublished turn, want at least %d", k.hitUnpublished, fewestCut)
	}
	for _, phase := range []phase{inPrefill, inDecode, inPublish} {
		if k.cutIn[phase] == 0 {
			t.Errorf("no turn was cut off in its %s", phase)
		}
	}
}

// The first token after a kill comes from what is on disk: no prompt token but
// the new ones is computed.
func TestFirstTokenAfterKillIsRestored(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	model, data := tinyModel(t), t.TempDir()
	ada := &speaker{name: "ada", seed: 1}
	p := startServe(t, model, data)
	first := ada.mustTalk(ctx, t, p.url())
	p.end(syscall.SIGKILL)

	p = startServe(t, model, data)
	url := p.url()
	const starts, computed = `mneme_time_to_first_token_seconds_count{start="%s"}`, "mneme_prompt_tokens_computed_total"
	before := readMetrics(ctx, t, url)
	second := ada.mustTalk(ctx, t, url)
	after := readMetrics(ctx, t, url)
	for start, want := range map[string]string{"restored": "1", "hot": "0", "uncached": "0"} {
		name := fmt.Sprintf(starts, start)
		if before[name] != "0" || after[name] != want {
			t.Errorf("%s: %q, then %q, want 0, then %s", name, before[name], after[name], want)
		}
	}
	fresh := fmt.Sprint(second.prompt - (first.prompt + first.completion - 1))
	if after[computed] != fresh {
		t.Errorf("%s prompt tokens computed, %s are new", after[computed], fresh)
	}
	if !strings.Contains(p.said.String(), `"start":"restored"`) {
		t.Errorf("the log does not say that the turn was restored:\n%s", p.said)
	}
	if code := p.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("SIGTERM: exit %d, want %d", code, exitDone)
	}
}

// readMetrics gives the value of every metric, as text, by name and labels.
func readMetrics(ctx context.Context, t *testing.T, url string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(string(get(ctx, t, url+"/metrics"))) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			values[name] = value
		}
	}
	return values
}

func get(ctx context.Context, t *testing.T, url string) []byte {
	t.Helper()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s (%v): %s", url, resp.Status, err, body)
	}
	return body
}

// --- the story of the kills ---

// killing is the whole story: the agents, and one life of the server after
// another on one data folder.
type killing struct {
	ctx         context.Context
	t           *testing.T
	model, data string
	rng         *rand.Rand
	speakers    []*speaker
	retired     map[string]int // turns of agents that do not talk any more
	witness     *witness

	program *program
	url     string

	hitUnpublished, hitUnanswered int // kills
	cutTurns, afterKill           int
	cutIn                         map[phase]int
}

func newKilling(ctx context.Context, t *testing.T, seed uint64) *killing {
	k := &killing{
		ctx: ctx, t: t, model: tinyModel(t), data: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 0)),
		retired: map[string]int{}, cutIn: map[phase]int{},
	}
	k.witness = newWitness(ctx, t, k.model)
	for i, name := range []string{"ada", "bob", "cleo", "dan"} {
		k.speakers = append(k.speakers, &speaker{name: name, seed: seed + uint64(i), streams: i%2 == 0})
	}
	return k
}

// begin starts the next server and looks whether every agent is there, with
// the turns that it was answered and at most the one that was cut off.
func (k *killing) begin() {
	k.program = startServe(k.t, k.model, k.data)
	k.url = k.program.url()
	listed := k.listed()
	unpublished, unanswered := 0, 0
	for _, s := range k.speakers {
		s.published = listed[s.id()] > len(s.turns)
		most := len(s.turns)
		switch {
		case s.cut && s.published:
			unanswered++
			most++
		case s.cut:
			unpublished++
		}
		k.wantTurns(listed, s.id(), len(s.turns), most)
	}
	for id, turns := range k.retired {
		k.wantTurns(listed, id, turns, turns)
	}
	k.hitUnpublished += min(unpublished, 1)
	k.hitUnanswered += min(unanswered, 1)
	k.cutTurns += unpublished + unanswered
}

func (k *killing) wantTurns(listed map[string]int, id string, least, most int) {
	k.t.Helper()
	if got := listed[id]; got < least || got > most {
		k.t.Errorf("%s is listed with %d turns; %d were answered, at most %d begun", id, got, least, most)
	}
}

// listed gives the turns of each agent by GET /v1/agents.
func (k *killing) listed() map[string]int {
	var list struct{ Data []agent }
	if err := json.Unmarshal(get(k.ctx, k.t, k.url+"/v1/agents"), &list); err != nil {
		k.t.Fatal(err)
	}
	turns := map[string]int{}
	for _, a := range list.Data {
		turns[a.ID] = a.Turns
	}
	return turns
}

// everyoneTakesATurn checks the first turn after a kill, of all agents at once.
func (k *killing) everyoneTakesATurn() {
	l := &life{}
	k.together(func(s *speaker) { k.oneTurn(s, l) })
	k.stopIfFailed()
	k.afterKill += len(k.speakers)
}

// killAt lets everyone talk and kills the server at a moment.
func (k *killing) killAt(m moment) {
	l := &life{at: m, due: make(chan struct{})}
	var dead sync.WaitGroup
	dead.Go(func() {
		select {
		case <-l.due:
		case <-time.After(killPatience):
		}
		time.Sleep(m.delay)
		l.killed.Store(true)
		k.program.end(syscall.SIGKILL)
	})
	k.together(func(s *speaker) {
		for k.oneTurn(s, l) {
		}
	})
	dead.Wait()
	k.stopIfFailed()
	for _, s := range k.speakers {
		if s.cut {
			k.cutIn[s.phase()]++
		}
	}
}

// together runs what each agent does and waits for all.
func (k *killing) together(do func(*speaker)) {
	var all sync.WaitGroup
	for _, s := range k.speakers {
		all.Go(func() { do(s) })
	}
	all.Wait()
}

// oneTurn is an agent's next turn, answered and checked; false when the server
// died.
func (k *killing) oneTurn(s *speaker, l *life) bool {
	if l.killed.Load() {
		return false
	}
	ask := s.next()
	got, err := s.talk(k.ctx, k.url, ask, l)
	if err != nil {
		if !l.killed.Load() {
			k.t.Errorf("%s, turn %d: %v; the server said:\n%s", s.id(), len(s.turns)+1, err, k.program.said)
		}
		return false
	}
	if least := s.leastCached(got.prompt); got.cached < least || got.cached >= got.prompt {
		k.t.Errorf("%s, turn %d: %d of %d tokens cached, want at least %d", s.id(), len(s.turns)+1, got.cached, got.prompt, least)
	}
	k.witness.hear(k.speakerIndex(s), s.id(), ask, got)
	s.answered(ask, got)
	if got.prompt+got.completion > longestTalk {
		l.mu.Lock()
		defer l.mu.Unlock()
		k.retired[s.id()] = len(s.turns)
		s.retire()
	}
	return !k.t.Failed()
}

func (k *killing) speakerIndex(s *speaker) int { return slices.Index(k.speakers, s) }

func (k *killing) stopIfFailed() {
	k.t.Helper()
	if k.t.Failed() {
		k.t.FailNow()
	}
}

// end stops both servers well, when all answers are compared.
func (k *killing) end() {
	k.witness.end()
	if code := k.program.end(syscall.SIGTERM); code != exitDone {
		k.t.Errorf("SIGTERM: exit %d, want %d; it said:\n%s", code, exitDone, k.program.said)
	}
}

// --- when to kill ---

// moment is when a life of the server ends: delay after an event was seen for
// the count-th time by the clients.
type moment struct {
	after event
	count int32
	delay time.Duration
}

// event is what a client knows of a turn.
type event int

const (
	asked     event = iota // the request is on its way: prefill comes
	heard                  // a token of a stream
	heardLast              // the last token of a stream: the turn is being published
	events
)

// nextMoment aims at prefill, decode and publishing in turn; each fourth kill
// comes at any time.
func (k *killing) nextMoment(i int) moment {
	upTo := func(d time.Duration) time.Duration { return time.Duration(k.rng.Int64N(int64(d))) }
	switch i % 4 {
	case 0:
		return moment{asked, 1 + k.rng.Int32N(8), upTo(4 * time.Millisecond)}
	case 1:
		return moment{heard, 1 + k.rng.Int32N(500), upTo(time.Millisecond)}
	case 2:
		return moment{heardLast, 1 + k.rng.Int32N(2), upTo(500 * time.Microsecond)}
	}
	return moment{asked, 1, upTo(300 * time.Millisecond)}
}

// life is one run of the server, until killed.
type life struct {
	at     moment
	due    chan struct{} // closed at the moment; nil when there is no kill
	seen   [events]atomic.Int32
	killed atomic.Bool // set before the signal is sent

	mu sync.Mutex // guards killing.retired
}

func (l *life) saw(e event) {
	if n := l.seen[e].Add(1); l.due != nil && e == l.at.after && n == l.at.count {
		close(l.due)
	}
}

// --- an agent and its client ---

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
	tokens    int                 // what of the last request's stream has come
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
	s.cut, s.published = false, false
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
	unseen    phase = "not streamed"
)

func (s *speaker) phase() phase {
	switch {
	case !s.ask.stream:
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
	s.ask, s.tokens, s.cut = a, 0, true
	l.saw(asked)
	return a.send(ctx, url, s.id(), func(tokens int) {
		for range tokens {
			s.tokens++
			l.saw(heard)
		}
		if s.tokens == a.maxTokens {
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

// --- the server that is never killed ---

// witness is asked the same as the killed server, once that has answered.
type witness struct {
	t        *testing.T
	program  *program
	url      string
	hears    []chan testimony // one for each speaker
	done     sync.WaitGroup
	verified atomic.Int32
}

type testimony struct {
	agent string
	ask   ask
	got   reply
}

func newWitness(ctx context.Context, t *testing.T, model string) *witness {
	w := &witness{t: t, program: startServe(t, model, t.TempDir())}
	w.url = w.program.url()
	for range 4 {
		heard := make(chan testimony, 1000)
		w.hears = append(w.hears, heard)
		w.done.Go(func() {
			for said := range heard {
				w.compare(ctx, said)
			}
		})
	}
	return w
}

func (w *witness) hear(speaker int, agent string, a ask, got reply) {
	w.hears[speaker] <- testimony{agent, a, got}
}

// compare repeats a turn; ids, logprobs and text are to be the same bits.
func (w *witness) compare(ctx context.Context, said testimony) {
	want, err := said.ask.send(ctx, w.url, said.agent, func(int) {})
	got := said.got
	got.cached, want.cached = 0, 0
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: after kills\n%v, uninterrupted\n%v (%v)", said.agent, got, want, err)
		return
	}
	w.verified.Add(1)
}

func (w *witness) end() {
	for _, heard := range w.hears {
		close(heard)
	}
	w.done.Wait()
	if code := w.program.end(os.Interrupt); code != exitDone {
		w.t.Errorf("the witness: exit %d, want %d", code, exitDone)
	}
}
