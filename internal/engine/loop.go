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
			e.take(s)
		case <-e.stop.Done():
			return false
		}
	}
	for {
		select {
		case s := <-e.ready:
			e.take(s)
		default:
			e.countRunning()
			return e.stop.Err() == nil
		}
	}
}

func (e *Engine) countRunning() { e.counters.running.Store(int64(len(e.running))) }

// take puts a sequence in the batch.
func (e *Engine) take(s *sequence) {
	e.running = append(e.running, s)
	e.present()
}

// present says whose sequences there are, for what they are served.
func (e *Engine) present() {
	keys := make([]string, len(e.running))
	for i, s := range e.running {
		keys[i] = string(s.req.Namespace)
	}
	e.shares.Present(keys)
	if len(keys) == 0 {
		e.board.Note(nil, 0)
	}
}

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
	e.present()
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
	step := e.describe()
	if e.cfg.Observe != nil {
		e.cfg.Observe(step)
	}
	began := time.Now()
	logits, err := e.forward(step)
	if err != nil {
		e.failBatch(err)
		return true
	}
	e.measure(time.Since(began))
	e.deliver(logits)
	e.checkStep()
	return true
}

// measure notes what a step has taken, and for whom.
func (e *Engine) measure(spent time.Duration) {
	decoding, prompts := 0, 0
	for i, s := range e.batch {
		n := len(e.spans[i].Tokens)
		e.shares.Serve(string(s.req.Namespace), n, s.req.Weight)
		if n == 1 && s.decoding() {
			decoding++
		} else {
			prompts += n
		}
	}
	e.steps.Add(decoding, prompts, spent, e.now())
	e.tally.Seconds.Add(spent.Seconds())
	e.tally.Sequences.Add(float64(len(e.batch)))
	if prompts > 0 {
		e.tally.Prompts.Add(float64(prompts) / float64(max(prompts, e.most)))
	}
}

// forward runs the batch; a panic inside becomes an error.
func (e *Engine) forward(step Step) (logits [][]float32, err error) {
	defer e.recovered(&err)
	e.watch.Begin(step.Sequences, step.Tokens)
	defer e.watch.End()
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
	line := e.line()
	budget := e.budget(len(e.prompts), len(e.running)-len(e.prompts))
	if !e.store.Room() {
		budget.Prompts = 0 // the disk is behind: nothing is sealed by prefill until it has caught up
	}
	e.chunks, e.most = schedule.Plan(e.chunks, line, budget), budget.Prompts
	for i, s := range e.running {
		if e.chunks[i] > 0 && !e.ensure(s, s.kv.Len()+e.chunks[i]) {
			e.chunks[i] = 0
		}
		if s.idle++; e.chunks[i] > 0 {
			s.idle = 0
		}
	}
	return e.chunks
}

// line describes the running sequences.
func (e *Engine) line() []schedule.Candidate {
	e.candidates, e.prompts = e.candidates[:0], e.prompts[:0]
	rows := scoreRows // left in this step
	for _, s := range e.running {
		c := e.candidate(s)
		if s.scoring() {
			c.Pending, c.Next = min(c.Pending, rows), nil
			rows -= c.Pending
		}
		if !c.Decoding {
			e.prompts = append(e.prompts, s.pending())
		}
		e.candidates = append(e.candidates, c)
	}
	e.board.Note(e.prompts, len(e.running)-len(e.prompts))
	return e.candidates
}

func (e *Engine) candidate(s *sequence) schedule.Candidate {
	own := s.kv.Len() / kv.BlockTokens
	c := schedule.Candidate{
		Pending: s.pending(), Aligned: s.kv.Aligned(), Decoding: s.decoding() && s.pending() == 1, Offset: s.kv.Len() % kv.BlockTokens, Idle: s.idle,
		Rank: schedule.Rank{Priority: s.req.Priority, Ahead: e.shares.Ahead(string(s.req.Namespace)), Arrival: s.arrival},
	}
	if own < len(s.keys) {
		c.Next = s.keys[own:]
	}
	return c
}

// scoreRows bounds the prompt tokens that a step scores: each has logits of the
// whole vocabulary.
const scoreRows = 16

// ensure reserves ahead so that the sequence can grow to n tokens.
func (e *Engine) ensure(s *sequence, n int) bool {
	for !e.stock(s, n) {
		if !e.makeRoom(s.agent, 1) {
			return false
		}
	}
	return true
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
// youngest of the lowest priority gives its blocks up and continues later with
// the same tokens; a sequence alone, or all while the disk is behind, wait for
// what is being read, written or given back.
func (e *Engine) stalled() {
	if len(e.running) > 1 && e.store.Room() {
		s := e.running[schedule.Victim(e.candidates)]
		e.remove(s)
		s.yield()
		e.freed.Fire()
		e.counters.preempted.Add(1)
		e.putBack(s)
		return
	}
	freed := e.freed.Wait()
	if s := e.running[0]; e.store.Room() && e.ensure(s, s.kv.Len()+1) {
		return
	}
	select {
	case <-freed:
	case s := <-e.ready:
		e.take(s)
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
		e.hold(s)
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
