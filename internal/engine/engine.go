package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mneme/internal/engine/forecast"
	"mneme/internal/engine/pace"
	"mneme/internal/engine/reuse"
	"mneme/internal/engine/roster"
	"mneme/internal/engine/stream"
	"mneme/internal/engine/tally"
	"mneme/internal/engine/watch"
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

func (e *Engine) fault(at FaultPoint) error {
	if e.cfg.Fault == nil {
		return nil
	}
	return e.cfg.Fault(at)
}

// stock reserves the blocks that a sequence lacks to grow to n tokens, or none.
func (e *Engine) stock(s *sequence, n int) bool {
	need := s.kv.Missing(n, e.cfg.StepTokens)
	if need.Empty() {
		return true
	}
	if e.fault(FaultAllocate) != nil {
		return false
	}
	need.Owner = string(s.req.Agent)
	r, ok := e.pool.Allocate(need)
	if ok {
		s.kv.Stock(r)
	}
	return ok
}

// Engine runs turns. Its goroutines: the loop, which alone touches the model,
// the batch and open blocks; the admitter; and one per turn that reads from or
// writes to disk. Close waits for all of them.
type Engine struct {
	roster.Face // agents, as they are asked about

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
	steps    *pace.Steps
	tally    tally.Steps
	watch    *watch.Watch
	arrivals atomic.Int64
	perAgent waiting.Counts[agentKey]  // turns that run or wait
	perKey   waiting.Counts[Namespace] // sequences with a place in the batch
	places   forecast.Places
	board    forecast.Board

	// The loop's own:
	running    []*sequence
	candidates []schedule.Candidate
	shares     schedule.Shares
	prompts    []int // tokens left to compute, of those that have some
	chunks     []int // of running
	most       int   // tokens of prompts that the step might have
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
	cfg.Defaults()
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
		reading:       pace.NewMeter(ratesLast), steps: pace.NewSteps(ratesLast), tally: tally.NewSteps(), watch: watch.New(cfg.StepLimit, cfg.Log),
		queue: waiting.NewQueue[*sequence](), ready: make(chan *sequence),
		frames: sync.Pool{New: func() any { return new([]byte) }},
	}
	e.roster = roster.Open(roster.Options{
		Tokens: cfg.Tokenizer,
		Pool:   e.pool, Store: e.store, Clock: e.now, Log: e.log,
		Served: roster.Served{Name: cfg.Name, Fingerprint: e.model.Fingerprint, KVFingerprint: e.kvFingerprint},
	})
	e.Face = roster.FaceOf(e.roster)
	e.roster.Turns.Left, e.roster.Forgot = func(agentKey) { e.freed.Fire() }, e.reuses.Forget
	e.stop, e.halt = context.WithCancel(context.Background())
	e.wg.Go(e.run)
	e.wg.Go(e.admit)
	e.wg.Go(func() { e.watch.Run(e.stop.Done()) })
	if cfg.AgentTTL > 0 {
		e.wg.Go(func() { e.roster.KeepExpiring(e.stop, cfg.AgentTTL, e.draining.Load) })
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
	if err := e.enter(&r); err != nil {
		return nil, err
	}
	s, err := e.accept(ctx, r)
	if err == nil {
		err = e.predict(s)
	}
	if err != nil {
		e.exit(&r)
		return nil, err
	}
	e.queue.Push(s)
	e.freed.Fire()                    // it may go before others
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

// check says why a request cannot be taken, and fills in what it leaves out.
func (e *Engine) check(r *Request) error {
	if e.draining.Load() {
		return ErrDraining
	}
	switch {
	case r.MaxTokens < 0:
		return &InputError{Field: "max_tokens", Problem: fmt.Sprintf("%d is negative", r.MaxTokens)}
	case r.Priority < MinPriority || r.Priority > MaxPriority:
		return &InputError{Field: "priority", Problem: fmt.Sprintf("%d is not from %d to %d", r.Priority, MinPriority, MaxPriority)}
	case r.Weight < 0:
		return &InputError{Field: "weight", Problem: fmt.Sprintf("%v is negative", r.Weight)}
	}
	r.Weight = cmp.Or(r.Weight, 1)
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

// accept makes the sequence of a request; after an error, or a panic of what
// reads its prompt, nothing is held.
func (e *Engine) accept(ctx context.Context, r Request) (s *sequence, err error) {
	s = &sequence{req: r, began: time.Now(), leave: func() {}, scope: kv.Scope{Fingerprint: e.kvFingerprint, Namespace: string(r.Namespace)}}
	s.watch.Start(s.began)
	defer func() {
		if err != nil {
			s.leave()
		}
	}()
	defer e.recovered(&err)
	var own []lineage.Lineage
	if r.Agent != "" {
		key := keyOf(r.Namespace, r.Agent)
		leave, err := e.roster.Turns.Enter(ctx, key)
		if err != nil {
			return s, err
		}
		s.agent, s.leave = &key, leave
		state, err := e.roster.Load(key)
		if err != nil {
			return s, err
		}
		own = []lineage.Lineage{state.Lineage()}
		s.before = reuse.Before{Lineage: own[0], Keys: state.Manifest.Keys, KVTokens: state.Manifest.KVTokens}
		if len(s.before.Keys) > 0 && state.Manifest.KVFingerprint != e.kvFingerprint {
			s.ledger.Note(reuse.OtherFormat)
		}
	}
	if err := e.prepare(s, own); err != nil {
		return s, err
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	s.stream = stream.New(s.tokens[:s.prompt:s.prompt], cancel)
	s.queued, s.arrival = time.Now(), e.arrivals.Add(1)
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

// describe says what the step computes.
func (e *Engine) describe() Step {
	st := Step{Sequences: len(e.spans)}
	for i := range e.spans {
		st.Tokens += len(e.spans[i].Tokens)
		st.LargestChunk = max(st.LargestChunk, len(e.spans[i].Tokens))
	}
	return st
}

// --- state and end ---

// Info describes what is served.
func (e *Engine) Info() Info {
	k := e.model.Kernels()
	return Info{
		Model: e.cfg.Name, Fingerprint: e.model.Fingerprint, Context: e.cfg.Context,
		KVFormat: string(e.pool.Spec().Format), KVBytesPerToken: e.pool.Spec().BytesPerToken(), KV: e.pool.Spec(),
		Kernel: k.Name(), NumericsClass: k.Class(), Template: e.cfg.Template, Tokenizer: e.tok,
	}
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
		Restored: c.restored.Load(), Recomputed: c.recomputed.Load(), RestoreRate: e.reading.PerSecond(now), PrefillRate: e.steps.Prompts(now),
		Stuck: e.watch.Stuck(), Steps: e.tally.Figures(),
	}
}

// Ready says why no turn can be taken, or nil.
func (e *Engine) Ready() error {
	if e.draining.Load() {
		return ErrDraining
	}
	return e.watch.Err()
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
