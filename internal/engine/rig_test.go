package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mneme/internal/chat"
	"mneme/internal/gguf"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/model/modeltest"
	"mneme/internal/sample"
	"mneme/internal/store"
	"mneme/internal/tensor"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// rig is an engine over the tiny model, or another file, with a store in dir.
type rig struct {
	*Engine
	t     testing.TB
	model *model.Model
	pool  *kv.Pool
	store *store.Store
	steps *stepLog
}

// rigOptions are what tests vary.
type rigOptions struct {
	file       []byte // the tiny model if nil
	path       string // a model file instead
	format     kv.Format
	dir        string // a temporary folder if ""
	fs         vfs.FS
	poolBytes  int64
	queueBytes int64 // of the store's
	stepTokens int
	threads    int
	maxBatch   int
	context    int
	sealedOwn  bool
	kernel     string
	fault      func(FaultPoint) error
	restore    RestoreMode // RestoreAlways if ""
	ttl        time.Duration
	clock      func() time.Time
	log        *slog.Logger
	observe    func(Step)
	gap        time.Duration
	queue      int // turns of an agent
	stepLimit  time.Duration
}

// stepLog remembers the batches an engine ran.
type stepLog struct {
	mu    sync.Mutex
	steps []Step
}

func (l *stepLog) add(s Step) {
	l.mu.Lock()
	l.steps = append(l.steps, s)
	l.mu.Unlock()
}

// widest is the largest number of sequences in a step; longest the largest chunk.
func (l *stepLog) largest() (widest, longest int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.steps {
		widest, longest = max(widest, s.Sequences), max(longest, s.LargestChunk)
	}
	return widest, longest
}

// tinyFile is the tiny model's bytes, made once.
var tinyFile = sync.OnceValue(func() []byte { return modeltest.File(1) })

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	r, err := openRig(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openRig(t testing.TB, o rigOptions) (*rig, error) {
	t.Helper()
	if o.format == "" {
		o.format = kv.FormatQ4
	}
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.fs == nil {
		o.fs = vfs.Real()
	}
	if o.poolBytes == 0 {
		o.poolBytes = 64 << 20
	}
	o.restore = cmp.Or(o.restore, RestoreAlways)
	if o.threads == 0 {
		o.threads = 2
	}
	f := openModelFile(t, o)
	k, err := tensor.Pick(o.kernel)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, steps: &stepLog{}}
	if r.model, err = model.Load(f, k); err != nil {
		t.Fatal(err)
	}
	vocab, err := token.FromMetadata(f)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := token.New(vocab)
	if err != nil {
		t.Fatal(err)
	}
	if r.pool, err = kv.NewPool(r.model.Spec(o.format), o.poolBytes); err != nil {
		t.Fatal(err)
	}
	r.store, err = store.Open(store.Options{FS: o.fs, Dir: o.dir, QueueBytes: o.queueBytes, ModelFingerprint: r.model.Fingerprint, KVFingerprint: r.model.KVFingerprint(o.format)})
	if err != nil {
		_ = r.pool.Close()
		_ = r.model.Close()
		return nil, err
	}
	source, _ := f.String("tokenizer.chat_template")
	template, err := chat.Compile(source, chat.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Engine, err = New(Config{
		Name: "tiny", Model: r.model, Tokenizer: tok, Template: template, Pool: r.pool, Store: r.store, Context: o.context,
		MaxBatch: o.maxBatch, StepTokens: o.stepTokens, Threads: o.threads, SealedOwn: o.sealedOwn, Fault: o.fault, Restore: o.restore,
		GapTarget: o.gap, MaxQueuePerAgent: o.queue, StepLimit: o.stepLimit, AgentTTL: o.ttl, Clock: o.clock, Log: o.log,
		Observe: func(s Step) {
			r.steps.add(s)
			if o.observe != nil {
				o.observe(s)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, nil
}

func openModelFile(t testing.TB, o rigOptions) *gguf.File {
	t.Helper()
	var f *gguf.File
	var err error
	switch {
	case o.path != "":
		f, err = gguf.Open(o.path)
	case o.file != nil:
		f, err = gguf.Parse(o.file)
	default:
		f, err = gguf.Parse(tinyFile())
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// stop closes everything and checks that nothing is left: blocks of live tables
// equal the pool's numbers, then none is held.
func (r *rig) stop() {
	r.t.Helper()
	r.checkTables()
	if err := r.Engine.Close(); err != nil {
		r.t.Error(err)
	}
	r.closeRooms()
}

func (r *rig) closeRooms() {
	r.t.Helper()
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.pool.Check(); err != nil {
		r.t.Error(err)
	}
	for _, c := range r.pool.Stats().Classes {
		if c.Reserved+c.Held != 0 {
			r.t.Errorf("%s: %d reserved and %d held blocks after the end", c.Form, c.Reserved, c.Held)
		}
	}
	_ = r.pool.Close()
	_ = r.model.Close()
}

// checkTables walks all agents' tables while nothing runs.
func (r *rig) checkTables() {
	r.t.Helper()
	if err := r.Drain(context.Background()); err != nil {
		r.t.Error(err)
	}
	if err := r.store.Flush(context.Background()); err != nil {
		r.t.Logf("flush: %v", err)
	}
	err := r.roster.Inspect(func(tables []*kv.AgentBlocks) error { return r.pool.Check(tables...) })
	if err != nil {
		r.t.Error(err)
	}
}

// copyDir copies a data folder.
func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// answer is all of a turn that must not depend on how it was computed.
type answer struct {
	ids      []token.ID
	logprobs []float64
	text     string
	usage    Usage
	finish   FinishReason
	start    Start
	turn     int
}

// same compares bit for bit.
func (a answer) same(b answer) bool {
	if len(a.ids) != len(b.ids) || a.text != b.text {
		return false
	}
	for i := range a.ids {
		if a.ids[i] != b.ids[i] || math.Float64bits(a.logprobs[i]) != math.Float64bits(b.logprobs[i]) {
			return false
		}
	}
	return true
}

func (a answer) String() string {
	return fmt.Sprintf("%d tokens %v %.17g, cached %d of %d", len(a.ids), a.ids, a.logprobs[:min(3, len(a.logprobs))], a.usage.Cached, a.usage.Prompt)
}

// ask runs one turn to its end.
func (r *rig) ask(req Request) answer {
	r.t.Helper()
	a, err := r.try(context.Background(), req)
	if err != nil {
		r.t.Fatalf("%+v: %v", req.Agent, err)
	}
	return a
}

func (r *rig) try(ctx context.Context, req Request) (answer, error) {
	if req.Namespace == "" {
		req.Namespace = "default"
	}
	s, err := r.Submit(ctx, req)
	if err != nil {
		return answer{}, err
	}
	var a answer
	for {
		out, ok := s.Next(context.Background())
		if !ok {
			break
		}
		a.ids, a.logprobs, a.text = append(a.ids, out.ID), append(a.logprobs, out.Logprob), a.text+out.Text
	}
	done, err := s.Result()
	a.usage, a.finish, a.start, a.turn = done.Usage, done.Finish, done.Start, done.Turn
	if err == nil {
		err = done.PublishErr
	}
	return a, err
}

// greedy and sampled are requests whose answers are compared.
func greedy(prompt []token.ID, n int) Request {
	p := sample.Defaults()
	p.Temperature, p.Logprobs = 0, 0
	return Request{Tokens: prompt, MaxTokens: n, Sampling: p, IgnoreEOS: true}
}

func sampled(prompt []token.ID, n int) Request {
	r := greedy(prompt, n)
	r.Sampling.Temperature, r.Sampling.Seed = 0.8, 42
	return r
}

// promptOf is a prompt of n byte tokens.
func promptOf(n, seed int) []token.ID {
	out := make([]token.ID, n)
	for i := range out {
		out[i] = token.ID(32 + (i*7+i*i*seed+seed)%90)
	}
	return out
}

// as gives a request to an agent.
func (r Request) as(agent AgentID) Request { r.Agent = agent; return r }

// in puts a request into a namespace of its own, where nothing is cached.
func (r Request) in(namespace Namespace) Request { r.Namespace = namespace; return r }

func TestMain(m *testing.M) {
	// regexp2 keeps a clock for its timeouts that ends by itself, seconds later.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dlclark/regexp2/v2.runClock"))
}

// openFiles counts this process's file descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// waitFor polls until ok or a generous limit.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// chatText renders one user message and its answers as the template does.
func chatText(turns ...string) string {
	var b strings.Builder
	for i, text := range turns {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		fmt.Fprintf(&b, "<|im_start|>%s\n%s<|im_end|>\n", role, text)
	}
	b.WriteString("<|im_start|>assistant\n")
	return b.String()
}
