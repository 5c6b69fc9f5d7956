package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

	"mneme/internal/cli/remote"
	"mneme/internal/cli/value"
	"mneme/internal/cli/wire"
	"mneme/internal/kv"
)

const (
	kills        = 30   // at least; up to as many again until one has hit each phase of a turn
	fewestCut    = 5    // kills that must hit a turn which was not yet published
	longestTalk  = 2800 // tokens; an agent that has more leaves the talk to a new one
	storyLimit   = 3 * time.Minute
	killPatience = 3 * time.Second // for the moment of a kill to come
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
	for k.kills < kills || k.kills < 2*kills && k.missed() != "" {
		k.begin()
		k.everyoneTakesATurn()
		k.killAt(k.nextMoment())
	}
	k.begin()
	k.everyoneTakesATurn()
	k.end()
	t.Logf("%d kills: %d hit an unpublished turn, %d a published one that was not answered", k.kills, k.hitUnpublished, k.hitUnanswered)
	t.Logf("turns cut off, as their clients saw it: %v", k.cutIn)
	t.Logf("%d turns answered and equal to an uninterrupted server's, %d of them the first after a kill", k.witness.verified.Load(), k.afterKill)
	if k.hitUnpublished < fewestCut {
		t.Errorf("only %d kills hit an unpublished turn, want at least %d", k.hitUnpublished, fewestCut)
	}
	if phase := k.missed(); phase != "" {
		t.Errorf("no turn was cut off in its %s", phase)
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

	kills                         int
	hitUnpublished, hitUnanswered int // kills
	afterKill                     int
	cutIn                         map[phase]int // turns
}

var speakerNames = []string{"ada", "bob", "cleo", "dan"}

func newKilling(ctx context.Context, t *testing.T, seed uint64) *killing {
	k := &killing{
		ctx: ctx, t: t, model: tinyModel(t), data: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 0)),
		retired: map[string]int{}, cutIn: map[phase]int{},
	}
	k.witness = newWitness(ctx, t, k.model)
	for i, name := range speakerNames {
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
		most := len(s.turns)
		if s.cut {
			most++
		}
		k.wantTurns(listed, s.id(), len(s.turns), most)
		s.published = listed[s.id()] > len(s.turns)
		switch {
		case s.published:
			unanswered++
		case s.begun: // seen by its client; others are not counted
			unpublished++
		}
	}
	for id, turns := range k.retired {
		k.wantTurns(listed, id, turns, turns)
	}
	k.hitUnpublished += min(unpublished, 1)
	k.hitUnanswered += min(unanswered, 1)
}

func (k *killing) wantTurns(listed map[string]int, id string, least, most int) {
	k.t.Helper()
	if got := listed[id]; got < least || got > most {
		k.t.Errorf("%s is listed with %d turns; %d were answered, at most %d begun", id, got, least, most)
	}
}

// listed gives the turns of each agent by GET /v1/agents.
func (k *killing) listed() map[string]int {
	var list struct{ Data []remote.Agent }
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
	process := k.program.cmd.Process
	l := &life{at: m, kill: sync.OnceFunc(func() { _ = process.Kill() })}
	k.kills++
	latest := time.AfterFunc(killPatience, l.end)
	defer latest.Stop()
	k.together(func(s *speaker) {
		for k.oneTurn(s, l) {
		}
	})
	k.stopIfFailed()
	if code := k.program.wait(); code != -1 {
		k.t.Fatalf("killed, but exit %d; it said:\n%s", code, k.program.said)
	}
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
	k.witness.hear(slices.Index(k.speakers, s), s.id(), ask, got)
	s.answered(ask, got)
	if got.prompt+got.completion > longestTalk {
		l.mu.Lock()
		defer l.mu.Unlock()
		k.retired[s.id()] = len(s.turns)
		s.retire()
	}
	return !k.t.Failed()
}

func (k *killing) stopIfFailed() {
	k.t.Helper()
	if k.t.Failed() {
		k.t.FailNow()
	}
}

// end stops both servers well, when all answers are compared, and reads all
// that is on disk.
func (k *killing) end() {
	k.witness.end()
	if code := k.program.end(syscall.SIGTERM); code != exitDone {
		k.t.Errorf("SIGTERM: exit %d, want %d; it said:\n%s", code, exitDone, k.program.said)
	}
	settings := wire.Settings{Model: k.model, DataDir: k.data, KVFormat: kv.FormatQ4, KVMemory: value.Size{Bytes: 64 << 20}, Threads: 1}
	rooms, err := wire.Open(k.ctx, settings, slog.New(slog.DiscardHandler))
	if err != nil {
		k.t.Fatal(err)
	}
	defer rooms.Close()
	if err := rooms.Store.Check(); err != nil {
		k.t.Errorf("after %d kills: %v", k.kills, err)
	}
}

// missed is a phase in which no stream was cut off, or "".
func (k *killing) missed() phase {
	for _, p := range []phase{inPrefill, inDecode, inPublish} {
		if k.cutIn[p] == 0 {
			return p
		}
	}
	return ""
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
	asked     event = iota // the request is on its way
	begun                  // the first event of a stream: prefill comes
	heard                  // a token of a stream
	heardLast              // the last token of a stream: the turn is being published
	events
)

// nextMoment aims at prefill, decode and publishing in turn; each fifth kill
// comes at any time.
func (k *killing) nextMoment() moment {
	upTo := func(d time.Duration) time.Duration { return time.Duration(k.rng.Int64N(int64(d))) }
	switch k.kills % 5 {
	case 0:
		return moment{begun, 1 + k.rng.Int32N(6), upTo(2 * time.Millisecond)}
	case 1:
		return moment{heard, 1 + k.rng.Int32N(1000), upTo(time.Millisecond)}
	case 2:
		return moment{heardLast, 1 + k.rng.Int32N(4), 0}
	case 3:
		return moment{heardLast, 1 + k.rng.Int32N(4), upTo(100 * time.Microsecond)}
	}
	return moment{asked, 1, upTo(500 * time.Millisecond)}
}

// life is one run of the server, until killed.
type life struct {
	at     moment
	kill   func() // nil when nobody kills
	seen   [events]atomic.Int32
	killed atomic.Bool // set before the signal is sent

	mu sync.Mutex // guards killing.retired
}

// saw counts an event. At a moment without delay the client that saw it kills:
// the way over another goroutine is longer than a turn's publishing.
func (l *life) saw(e event) {
	n := l.seen[e].Add(1)
	switch {
	case l.kill == nil || e != l.at.after || n != l.at.count:
	case l.at.delay == 0:
		l.end()
	default:
		time.AfterFunc(l.at.delay, l.end)
	}
}

func (l *life) end() {
	l.killed.Store(true)
	l.kill()
}

// --- the server that is never killed ---

// witness is asked the same as the killed server, once that has answered.
type witness struct {
	t        *testing.T
	program  *program
	url      string
	hears    []chan testimony // one for each speaker
	hush     func()           // compares what is left, and waits
	done     sync.WaitGroup   // of the listeners
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
	t.Cleanup(w.listen(ctx))
	return w
}

// listen starts a listener for each speaker; hush waits for them.
func (w *witness) listen(ctx context.Context) (hush func()) {
	for range speakerNames {
		heard := make(chan testimony, 1000)
		w.hears = append(w.hears, heard)
		w.done.Go(func() {
			for said := range heard {
				w.compare(ctx, said)
			}
		})
	}
	w.hush = sync.OnceFunc(func() {
		for _, heard := range w.hears {
			close(heard)
		}
		w.done.Wait()
	})
	return w.hush
}

// hear takes the word of the speaker with that number.
func (w *witness) hear(speaker int, agent string, a ask, got reply) {
	w.hears[speaker] <- testimony{agent, a, got}
}

// compare repeats a turn; ids, logprobs and text are to be the same bits.
func (w *witness) compare(ctx context.Context, said testimony) {
	want, err := said.ask.send(ctx, w.url, said.agent, func(int) {})
	if errors.Is(err, context.Canceled) {
		return // the test has failed already
	}
	if err == nil {
		err = said.got.differs(want)
	}
	if err != nil {
		w.t.Errorf("%s, prompt of %d tokens, %d of them cached: %v", said.agent, said.got.prompt, said.got.cached, err)
		return
	}
	w.verified.Add(1)
}

// end is called when all is said.
func (w *witness) end() {
	w.hush()
	if code := w.program.end(os.Interrupt); code != exitDone {
		w.t.Errorf("the witness: exit %d, want %d", code, exitDone)
	}
}
