package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"mneme/internal/chat"
	"mneme/internal/engine/pace"
	"mneme/internal/engine/reuse"
	"mneme/internal/engine/roster"
	"mneme/internal/engine/stream"
	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/model"
	"mneme/internal/sample"
	"mneme/internal/schedule"
	"mneme/internal/store"
	"mneme/internal/team"
	"mneme/internal/token"
	"mneme/internal/waiting"
)

// Config is what an engine is made of and bounded by.
type Config struct {
	Name       string // of the served model
	Model      *model.Model
	Tokenizer  *token.Tokenizer
	Template   *chat.Template // nil for a base model
	Pool       *kv.Pool
	Store      *store.Store
	Context    int         // positions of a sequence; the model's own if 0
	MaxBatch   int         // sequences in a step; 16 if 0
	StepTokens int         // tokens in a step; 512 if 0
	Threads    int         // workers; one per CPU if 0
	MaxQueue   int         // turns that run or wait; 1024 if 0
	Restore    RestoreMode // RestoreAuto if ""
	// AgentTTL is how long an agent may be unused before it is deleted; 0 is for ever.
	AgentTTL time.Duration
	Log      *slog.Logger
	Clock    func() time.Time
	// Observe, if set, is called before each step with its sequences and tokens.
	Observe func(Step)
	// Fault, if set, is asked at every point where a turn can fail; its error is
	// the failure. For the tests that make each of them happen.
	Fault func(FaultPoint) error
	// SealedOwn breaks rule 1 on purpose (model.Limits); for the test that shows
	// that the tests of one answer can fail.
	SealedOwn bool
}

// FaultPoint is a place where a turn can fail.
type FaultPoint string

// The fault points of a turn, in its order.
const (
	FaultEncode   FaultPoint = "encode"   // the prompt's text to ids
	FaultAllocate FaultPoint = "allocate" // blocks for it, also ahead of a step
	FaultRestore  FaultPoint = "restore"  // a block from disk
	FaultForward  FaultPoint = "forward"
	FaultSample   FaultPoint = "sample"
	FaultSave     FaultPoint = "save" // the turn's publication
)

func (e *Engine) fault(at FaultPoint) error {
	if e.cfg.Fault == nil {
		return nil
	}
	return e.cfg.Fault(at)
}

// allocate reserves blocks for a sequence.
func (e *Engine) allocate(s *sequence, need kv.Need) (*kv.Reservation, bool) {
	if e.fault(FaultAllocate) != nil {
		return nil, false
	}
	need.Owner = string(s.req.Agent)
	return e.pool.Allocate(need)
}

// Step describes a batch.
type Step struct{ Sequences, Tokens, LargestChunk int }

func (c *Config) defaults() {
	if c.Context == 0 {
		c.Context = c.Model.Context
	}
	for _, v := range []struct {
		at  *int
		def int
	}{{&c.MaxBatch, 16}, {&c.StepTokens, 512}, {&c.Threads, runtime.NumCPU()}, {&c.MaxQueue, 1024}} {
		if *v.at == 0 {
			*v.at = v.def
		}
	}
	c.Restore = cmp.Or(c.Restore, RestoreAuto)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
}

// Engine runs turns. Its goroutines: the loop, which alone touches the model,
// the batch and open blocks; the admitter; and one per turn that reads from or
// writes to disk. Close waits for all of them.
type Engine struct {
	cfg           Config
	model         *model.Model
	tok           *token.Tokenizer
	pool          *kv.Pool
	store         *store.Store
	runner        *model.Runner
	team          *team.Team
	log           *slog.Logger
	kvFingerprint string

	roster   *roster.Roster
	queue    *waiting.Queue[*sequence]
	ready    chan *sequence // admitted, for the loop
	freed    waiting.Event  // blocks may have been given back
	pending  atomic.Int64   // turns accepted and not over
	admitted atomic.Int64   // sequences with a place in the batch
	settling atomic.Int64   // turns being published, agents being warmed
	writing  atomic.Int64   // blocks held until they are on disk
	draining atomic.Bool
	stop     context.Context
	halt     context.CancelFunc
	wg       sync.WaitGroup
	frames   sync.Pool // *[]byte, one block each, of the goroutines that restore
	counters counters
	reuses   reuse.Log[agentKey]
	reading  *pace.Meter // bytes of blocks from disk
	filling  *pace.Meter // tokens of prompts, computed

	// The loop's own:
	running    []*sequence
	candidates []schedule.Candidate
	chunks     []int // of running
	spans      []model.Span
	batch      []*sequence // of spans
}

type counters struct {
	computed, cached, generated atomic.Int64 // tokens
	finished, failed, preempted atomic.Int64 // turns
	surplus                     atomic.Int64 // ends of sequences that did not run
	storeErrors, running        atomic.Int64
	restored, recomputed        atomic.Int64 // blocks that were on disk
}

// New starts an engine. The model, pool and store stay the caller's, who closes
// them after the engine.
func New(cfg Config) (*Engine, error) {
	cfg.defaults()
	if cfg.Context > cfg.Model.Context {
		return nil, fmt.Errorf("engine: context of %d tokens, the model was trained on %d", cfg.Context, cfg.Model.Context)
	}
	team := team.New(cfg.Threads)
	runner, err := cfg.Model.NewRunner(cfg.Pool, team, model.Limits{
		Rows: cfg.StepTokens + cfg.MaxBatch, Logits: cfg.MaxBatch + scoreRows, Context: cfg.Context, SealedOwn: cfg.SealedOwn,
	})
	if err != nil {
		team.Close()
		return nil, err
	}
	e := &Engine{
		cfg: cfg, model: cfg.Model, tok: cfg.Tokenizer, pool: cfg.Pool, store: cfg.Store, runner: runner, team: team, log: cfg.Log,
		kvFingerprint: cfg.Model.KVFingerprint(cfg.Pool.Spec().Format),
		reading:       pace.NewMeter(ratesLast), filling: pace.NewMeter(ratesLast),
		queue: waiting.NewQueue[*sequence](), ready: make(chan *sequence),
		frames: sync.Pool{New: func() any { return new([]byte) }},
	}
	e.roster = roster.Open(roster.Options{
		Tokens: cfg.Tokenizer,
		Pool:   e.pool, Store: e.store, Clock: e.now, Log: e.log,
		Served: roster.Served{Name: cfg.Name, Fingerprint: e.model.Fingerprint, KVFingerprint: e.kvFingerprint},
	})
	e.roster.Turns.Left = func(agentKey) { e.freed.Fire() }
	e.stop, e.halt = context.WithCancel(context.Background())
	e.wg.Add(2)
	go e.run()
	go e.admit()
	if cfg.AgentTTL > 0 {
		e.wg.Go(e.expiry)
	}
	return e, nil
}

func (e *Engine) now() time.Time { return e.cfg.Clock().UTC() }

// Submit accepts a turn: it waits for the agent's turns before, resolves the
// prompt and queues the sequence. The stream ends with ctx.
func (e *Engine) Submit(ctx context.Context, r Request) (*Stream, error) {
	if err := e.check(&r); err != nil {
		return nil, err
	}
	ahead := e.pending.Add(1)
	var s *sequence
	err := ErrQueueFull
	switch {
	case e.draining.Load(): // asked again: Drain counts what is pending
		err = ErrDraining
	case ahead <= int64(e.cfg.MaxQueue):
		s, err = e.accept(ctx, r)
	}
	if err != nil {
		e.pending.Add(-1)
		e.freed.Fire()
		return nil, err
	}
	e.queue.Push(s, false)
	context.AfterFunc(s.ctx, func() { // a turn that waits ends at once
		if e.queue.Remove(s) {
			e.fail(s, context.Cause(s.ctx))
		}
		e.freed.Fire()
	})
	if e.stop.Err() != nil { // Close may have emptied the queue before
		e.failQueued()
	}
	return s.stream, nil
}

func (e *Engine) check(r *Request) error {
	if e.draining.Load() {
		return ErrDraining
	}
	if r.MaxTokens < 0 {
		return &InputError{Field: "max_tokens", Problem: fmt.Sprintf("%d is negative", r.MaxTokens)}
	}
	for i, id := range r.Tokens {
		if id < 0 || int(id) >= e.model.Vocab {
			return &InputError{Field: fmt.Sprintf("prompt[%d]", i), Problem: fmt.Sprintf("token %d is not in the vocabulary of %d", id, e.model.Vocab)}
		}
	}
	if err := sample.CheckStops(r.Stop); err != nil {
		return &InputError{Field: "stop", Problem: err.Error()}
	}
	var param *sample.ParamError
	if err := r.Sampling.Check(); errors.As(err, &param) {
		return &InputError{Field: param.Field, Problem: param.Problem}
	}
	return nil
}

// accept makes the sequence of a request; after an error nothing is held.
func (e *Engine) accept(ctx context.Context, r Request) (*sequence, error) {
	s := &sequence{req: r, began: time.Now(), leave: func() {}, scope: kv.Scope{Fingerprint: e.kvFingerprint, Namespace: string(r.Namespace)}}
	var own []lineage.Lineage
	if r.Agent != "" {
		key := keyOf(r.Namespace, r.Agent)
		leave, err := e.roster.Turns.Enter(ctx, key)
		if err != nil {
			return nil, err
		}
		state, err := e.roster.Load(key)
		if err != nil {
			leave()
			return nil, err
		}
		s.agent, s.leave, own = &key, leave, []lineage.Lineage{state.Lineage()}
		s.before = reuse.Before{Lineage: own[0], Keys: state.Manifest.Keys, KVTokens: state.Manifest.KVTokens}
		if len(s.before.Keys) > 0 && state.Manifest.KVFingerprint != e.kvFingerprint {
			s.ledger.Note(reuse.OtherFormat)
		}
	}
	if err := e.prepare(s, own); err != nil {
		s.leave()
		return nil, err
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	s.stream = stream.New(s.tokens[:s.prompt:s.prompt], cancel)
	return s, nil
}

// prepare resolves the prompt and checks that it can run.
func (e *Engine) prepare(s *sequence, own []lineage.Lineage) error {
	l := lineage.OfTokens(e.tok, s.req.Tokens)
	if s.req.Tokens == nil {
		var err error
		if l, err = e.resolve(s.req, own); err != nil {
			return err
		}
	}
	n := len(l.Tokens)
	switch {
	case n == 0:
		return &InputError{Field: "prompt", Problem: "is empty"}
	case n >= e.cfg.Context && (n > e.cfg.Context || !s.req.PromptOnly):
		return &ContextError{Tokens: n, Context: e.cfg.Context}
	}
	s.tokens, s.ends, s.prompt, s.promptEnd = l.Tokens, l.Ends, n, l.Ends[n-1]
	s.keys = s.scope.Chain(s.tokens, kv.BlockTokens)
	s.sampler, s.speech = sample.New(s.req.Sampling).Within(s.req.Within), lineage.NewSpeech(e.tok, s.req.Stop, s.promptEnd)
	return e.bound(s)
}

// resolve turns a request's text into ids.
func (e *Engine) resolve(r Request, own []lineage.Lineage) (lineage.Lineage, error) {
	if err := e.fault(FaultEncode); err != nil {
		return lineage.Lineage{}, err
	}
	l, err := lineage.Resolve(e.tok, r.Text, append(own, e.roster.Remembered(r.Namespace)...), e.cfg.Context)
	var long *lineage.TooLongError
	switch {
	case errors.As(err, &long):
		err = &ContextError{Tokens: long.AtLeast, Context: e.cfg.Context, AtLeast: true}
	case err != nil:
		err = &InputError{Field: "messages", Problem: err.Error()}
	}
	return l, err
}

// bound sets where the turn ends at the latest: max_tokens, the context, and
// what the pool could hold if it were empty.
func (e *Engine) bound(s *sequence) error {
	s.limit = e.cfg.Context
	if s.req.PromptOnly {
		s.limit = s.prompt
	}
	if m := s.req.MaxTokens; m > 0 && m < s.limit-s.prompt {
		s.limit = s.prompt + m
	}
	if !e.pool.Fits(e.pool.NeedFor(s.prompt+1, e.cfg.StepTokens)) {
		return &CapacityError{NeedBytes: e.pool.Bytes(e.pool.NeedFor(s.prompt+1, e.cfg.StepTokens)), PoolBytes: e.pool.BudgetBytes()}
	}
	for !e.pool.Fits(e.pool.NeedFor(s.limit, e.cfg.StepTokens)) {
		s.limit = max(s.prompt+1, s.limit-kv.BlockTokens)
	}
	return nil
}

func (e *Engine) observe() {
	if e.cfg.Observe == nil {
		return
	}
	st := Step{Sequences: len(e.spans)}
	for i := range e.spans {
		st.Tokens += len(e.spans[i].Tokens)
		st.LargestChunk = max(st.LargestChunk, len(e.spans[i].Tokens))
	}
	e.cfg.Observe(st)
}

// --- state and end ---

// Info describes what is served.
type Info struct {
	Model           string
	Fingerprint     string
	Context         int
	KVFormat        string
	KVBytesPerToken int
	Kernel          string
	NumericsClass   string
	Template        *chat.Template
	Tokenizer       *token.Tokenizer
}

// Info describes what is served.
func (e *Engine) Info() Info {
	k := e.model.Kernels()
	return Info{
		Model: e.cfg.Name, Fingerprint: e.model.Fingerprint, Context: e.cfg.Context,
		KVFormat: string(e.pool.Spec().Format), KVBytesPerToken: e.pool.Spec().BytesPerToken(),
		Kernel: k.Name(), NumericsClass: k.Class(), Template: e.cfg.Template, Tokenizer: e.tok,
	}
}

// Stats are the engine's counters since the start and its state now.
type Stats struct {
	Pool            kv.Stats
	Store           store.Stats
	Running         int
	Waiting         int
	TokensComputed  int64 // of prompts
	TokensCached    int64 // of prompts
	TokensGenerated int64
	TurnsFinished   int64
	TurnsFailed     int64
	Preempted       int64
	Surplus         int64 // ends of sequences that did not run: always 0, or a defect
	StoreErrors     int64
	Restored        int64 // blocks that were read from disk
	Recomputed      int64 // blocks that were on disk and were computed: cheaper, as measured
	ShareOverruled  int64 // agents below their share that had to give their blocks up
	Expired         int64 // agents deleted because they were unused for Config.AgentTTL
	OtherFormat     int64 // blocks that were on disk in another KV format and were computed again
	Refused         Refused
	RestoreRate     float64 // bytes per second, lately; 0 when not known
	PrefillRate     float64 // tokens per second
}

// Stats takes the counters.
func (e *Engine) Stats() Stats {
	c := &e.counters
	running, now, agents := int(c.running.Load()), e.now(), e.roster.Stats()
	return Stats{
		Pool: e.pool.Stats(), Store: e.store.Stats(), Running: running, Waiting: max(0, int(e.pending.Load())-running),
		TokensComputed: c.computed.Load(), TokensCached: c.cached.Load(), TokensGenerated: c.generated.Load(),
		TurnsFinished: c.finished.Load(), TurnsFailed: c.failed.Load(), Preempted: c.preempted.Load(), Surplus: c.surplus.Load(), StoreErrors: c.storeErrors.Load(),
		ShareOverruled: agents.Overruled, Expired: agents.Expired, OtherFormat: agents.OtherFormat, Refused: agents.Refused,
		Restored: c.restored.Load(), Recomputed: c.recomputed.Load(), RestoreRate: e.reading.PerSecond(now), PrefillRate: e.filling.PerSecond(now),
	}
}

// Ready says why no turn can be taken, or nil.
func (e *Engine) Ready() error {
	if e.draining.Load() {
		return ErrDraining
	}
	return nil
}

// Drain accepts no more turns and waits until those accepted are over.
func (e *Engine) Drain(ctx context.Context) error {
	e.draining.Store(true)
	for {
		over := e.freed.Wait()
		if e.pending.Load() == 0 {
			return nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return fmt.Errorf("%d turns not over: %w", e.pending.Load(), ctx.Err())
		}
	}
}

// Close ends running turns, waits for every goroutine and gives all blocks back.
func (e *Engine) Close() error {
	e.draining.Store(true)
	e.halt()
	e.wg.Wait()
	e.failQueued()
	e.roster.CoolAll()
	e.team.Close()
	return e.runner.Close()
}

func (e *Engine) failQueued() {
	for _, s := range e.queue.Drain() {
		e.fail(s, ErrDraining)
	}
}
