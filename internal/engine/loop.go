package engine

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/schedule"
)

// run is the loop: the one owner of the model, the batch and the open blocks.
// Sequences join and leave between any two steps.
func (e *Engine) run() {
	defer e.wg.Done()
	defer e.dropAll()
	for {
		if !e.join() {
			return
		}
		e.leaveCancelled()
		if !e.step() && len(e.running) > 0 {
			e.stalled()
		}
	}
}

// join takes in what is ready, which the admitter bounds; it waits only when
// nothing runs. False when the engine stops.
func (e *Engine) join() bool {
	e.countRunning()
	if len(e.running) == 0 {
		select {
		case s := <-e.ready:
			e.running = append(e.running, s)
		case <-e.stop.Done():
			return false
		}
	}
	for {
		select {
		case s := <-e.ready:
			e.running = append(e.running, s)
		default:
			e.countRunning()
			return e.stop.Err() == nil
		}
	}
}

func (e *Engine) countRunning() { e.counters.running.Store(int64(len(e.running))) }

// remove takes a sequence out of the batch, the one place where that happens;
// the order of the others stays. A sequence that is not in it is nobody's: it
// is counted, logged and left alone.
func (e *Engine) remove(s *sequence) bool {
	i := slices.Index(e.running, s)
	if i < 0 {
		e.counters.surplus.Add(1)
		e.log.Error("a sequence ended that does not run", "agent", s.req.Agent)
		return false
	}
	e.running = slices.Delete(e.running, i, i+1)
	e.leaveBatch(s)
	return true
}

func (e *Engine) leaveCancelled() {
	for i := len(e.running) - 1; i >= 0; i-- {
		if s := e.running[i]; s.ctx.Err() != nil {
			e.remove(s)
			s.kv.Drop()
			e.fail(s, context.Cause(s.ctx))
		}
	}
}

func (e *Engine) dropAll() {
	for len(e.running) > 0 {
		s := e.running[0]
		e.remove(s)
		s.kv.Drop()
		e.fail(s, ErrDraining)
	}
	e.countRunning()
}

// step runs one batch; false if nothing could be scheduled.
func (e *Engine) step() bool {
	for _, s := range e.running {
		e.follow(s)
	}
	chunks := e.plan()
	e.spans, e.batch = e.spans[:0], e.batch[:0]
	for i, s := range e.running {
		if n := chunks[i]; n > 0 {
			e.addSpan(s, n)
		}
	}
	if len(e.spans) == 0 {
		return false
	}
	e.observe()
	began := time.Now()
	logits, err := e.forward()
	if err != nil {
		e.failBatch(err)
		return true
	}
	e.measure(time.Since(began))
	e.deliver(logits)
	e.checkStep()
	return true
}

// measure notes how fast prompts are computed, by steps that do little else.
func (e *Engine) measure(spent time.Duration) {
	rows := 0
	for i := range e.spans {
		rows += len(e.spans[i].Tokens)
	}
	if rows >= 2*kv.BlockTokens {
		e.filling.Add(int64(rows), spent, e.now())
	}
}

// forward runs the batch; a panic inside becomes an error.
func (e *Engine) forward() (logits [][]float32, err error) {
	defer e.recovered(&err)
	if err := e.fault(FaultForward); err != nil {
		return nil, err
	}
	return e.runner.Run(e.spans), nil
}

// recovered turns a panic into an error; the stack goes to the log only.
func (e *Engine) recovered(err *error) {
	if v := recover(); v != nil {
		e.log.Error("panic", "value", v, "stack", string(debug.Stack()))
		*err = errPanic
	}
}

var errPanic = errors.New("internal error; the log has the details")

// failBatch ends the sequences of a step that failed; the others go on.
func (e *Engine) failBatch(err error) {
	for _, s := range e.batch {
		e.remove(s)
		s.kv.Drop()
		e.fail(s, err)
	}
}

// follow takes over blocks that others have computed meanwhile.
func (e *Engine) follow(s *sequence) {
	for e.adoptNext(s) {
		if s.first == 0 && !s.preempted {
			s.cached += kv.BlockTokens
		}
	}
}

// plan schedules the running sequences and gives none to those that lack
// blocks for their chunk.
func (e *Engine) plan() []int {
	e.candidates = e.candidates[:0]
	rows := scoreRows // left in this step
	for _, s := range e.running {
		own := s.kv.Len() / kv.BlockTokens
		c := schedule.Candidate{Pending: s.pending(), Aligned: s.kv.Aligned(), Decoding: s.decoding() && s.pending() == 1, Offset: s.kv.Len() % kv.BlockTokens}
		if own < len(s.keys) {
			c.Next = s.keys[own:]
		}
		if s.scoring() {
			c.Pending, c.Next = min(c.Pending, rows), nil
			rows -= c.Pending
		}
		e.candidates = append(e.candidates, c)
	}
	budget := e.cfg.StepTokens
	if !e.store.Room() {
		budget = 0 // the disk is behind: nothing is sealed by prefill until it has caught up
	}
	e.chunks = schedule.Plan(e.chunks, e.candidates, budget)
	chunks := e.chunks
	for i, s := range e.running {
		if chunks[i] > 0 && !e.ensure(s, s.kv.Len()+chunks[i]) {
			chunks[i] = 0
		}
	}
	return chunks
}

// scoreRows bounds the prompt tokens that a step scores: each has logits of the
// whole vocabulary.
const scoreRows = 16

// ensure reserves ahead so that the sequence can grow to n tokens.
func (e *Engine) ensure(s *sequence, n int) bool {
	need := s.kv.Missing(n, e.cfg.StepTokens)
	if need.Empty() {
		return true
	}
	for {
		if r, ok := e.allocate(s, need); ok {
			s.kv.Stock(r)
			return true
		}
		if !e.makeRoom(s.agent, 1) {
			return false
		}
	}
}

func (e *Engine) addSpan(s *sequence, n int) {
	at := s.kv.Len()
	span := model.Span{Tokens: s.tokens[at : at+n], KV: s.kv, Slots: s.kv.Plan(n)}
	switch {
	case s.scoring():
		span.Logits = n
	case at+n == len(s.tokens) && !s.req.PromptOnly:
		span.Logits = 1
	}
	e.spans, e.batch = append(e.spans, span), append(e.batch, s)
	e.counters.computed.Add(int64(min(n, max(0, s.prompt-at))))
}

// stalled decides what to do when no running sequence has room to grow: the
// youngest gives its blocks up and continues later with the same tokens; a
// sequence alone, or all while the disk is behind, wait for what is being
// read, written or given back.
func (e *Engine) stalled() {
	if n := len(e.running); n > 1 && e.store.Room() {
		s := e.running[n-1]
		e.remove(s)
		s.yield()
		e.freed.Fire()
		e.counters.preempted.Add(1)
		e.queue.Push(s, true)
		return
	}
	freed := e.freed.Wait()
	if s := e.running[0]; e.store.Room() && e.ensure(s, s.kv.Len()+1) {
		return
	}
	select {
	case <-freed:
	case s := <-e.ready:
		e.running = append(e.running, s)
	case <-e.running[0].ctx.Done():
	case <-e.stop.Done():
	}
}

// deliver commits the step's KV, samples where logits were asked for and ends
// what is done.
func (e *Engine) deliver(logits [][]float32) {
	next := 0
	for i := range e.spans {
		span, s := &e.spans[i], e.batch[i]
		for _, index := range s.kv.Commit(span.Tokens) {
			e.persist(s, index)
		}
		done, err := e.use(s, logits[next:next+span.Logits])
		next += span.Logits
		switch {
		case err != nil:
			e.remove(s)
			s.kv.Drop()
			e.fail(s, err)
		case done:
			e.settling.Add(1)
			e.remove(s)
			e.complete(s)
		}
	}
}
