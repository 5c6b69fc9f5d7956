package engine

import (
	"time"

	"mneme/internal/engine/forecast"
	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/schedule"
)

// The line is who waits: how many may, what they are told, who is next.

// enter counts a turn, or refuses it: so many run or wait, in all and of an agent.
func (e *Engine) enter(r *Request) (err error) {
	ahead := e.pending.Add(1)
	switch {
	case e.draining.Load(): // asked again: Drain counts what is pending
		err = ErrDraining
	case ahead > int64(e.cfg.MaxQueue):
		err = &BusyError{Why: ErrQueueFull, Retry: e.places.Promise(e.now())}
	case r.Agent != "" && !e.perAgent.Add(keyOf(r.Namespace, r.Agent), e.cfg.MaxQueuePerAgent):
		err = &BusyError{Why: ErrAgentQueueFull, Retry: e.places.Expect(max(1, int(e.admitted.Load())))}
	default:
		return nil
	}
	e.pending.Add(-1)
	e.freed.Fire()
	return err
}

// exit is the end of a turn that has entered, whatever became of it.
func (e *Engine) exit(r *Request) {
	if r.Agent != "" {
		e.perAgent.Done(keyOf(r.Namespace, r.Agent))
	}
	e.pending.Add(-1)
	e.freed.Fire()
}

// predict tells the turn when its first token is expected, as far as that is
// known, and refuses one that would come too late: then nothing is held.
func (e *Engine) predict(s *sequence) error {
	s.need = e.need(s)
	load := e.load(s)
	first, known := forecast.First(s.need, load, e.rates(load))
	if !known {
		return nil
	}
	s.stream.Predict(first)
	if most := s.req.MaxFirst; most > 0 && first > most {
		s.stream.Close()
		s.leave()
		return &BusyError{Why: ErrTooLate, Retry: first - most, Predicted: first}
	}
	return nil
}

// need is what a turn has to read and to compute before its first token, as
// memory and disk stand now.
func (e *Engine) need(s *sequence) (n forecast.Turn) {
	have := 0
	for i, key := range s.keys[:s.matchBlocks()] {
		if !e.pool.Contains(key) {
			if !e.onDisk(key) {
				break
			}
			n.ReadBytes += e.pool.Spec().RunBytes(i, i+1)
		}
		have += kv.BlockTokens
	}
	own := min(lineage.CommonPrefix(s.before.Tokens, s.tokens), s.before.KVTokens, s.reusable())
	if own/kv.BlockTokens*kv.BlockTokens == have {
		have = own // its open block too
	}
	n.Tokens = s.prompt - have
	return n
}

// load is what is to be done before a turn that comes now, or beside it.
func (e *Engine) load(s *sequence) forecast.Load {
	l, before := e.board.Load(), 0
	for _, w := range e.queue.Items() {
		if w.req.Priority >= s.req.Priority {
			before++
		}
	}
	if before > 0 || e.admitted.Load() >= int64(e.cfg.MaxBatch) {
		l.Prompts, l.Waiting = nil, before
	}
	return l
}

func (e *Engine) rates(l forecast.Load) forecast.Rates {
	now := e.now()
	return forecast.Rates{
		Prompts: e.steps.Prompts(now), Decode: e.steps.Decode(now), Read: e.reading.PerSecond(now),
		Places: e.places.PerSecond(), Chunk: e.budget(len(l.Prompts)+1, l.Decoding).Prompts,
	}
}

// budget is that of a step of so many prompts and decoding sequences: whole when
// nobody waits for another. A first token waits for two steps, the one under way
// and its own; where no other tokens are waited for these share the target.
func (e *Engine) budget(prompts, decoding int) schedule.Budget {
	b := schedule.Budget{Step: e.cfg.StepTokens, Prompts: e.cfg.StepTokens}
	if prompts+decoding < 2 || e.cfg.GapTarget == 0 {
		return b
	}
	now, target := e.now(), e.cfg.GapTarget
	cost := schedule.Cost{Rate: e.steps.Prompts(now)}
	if decoding > 0 {
		cost.Decode = e.steps.Decode(now)
	} else {
		target /= 2
	}
	b.Prompts = cost.Prompts(e.cfg.StepTokens, target)
	return b
}

// next takes who is to be admitted next out of the queue; nil if nobody is there
// any more.
func (e *Engine) next() *sequence {
	all := e.queue.Items()
	if len(all) == 0 {
		return nil
	}
	now := time.Now()
	line := make([]schedule.Waiting, len(all))
	for i, s := range all {
		line[i] = schedule.Waiting{
			Priority: s.req.Priority, Preempted: s.preempted, Arrival: s.arrival, Waited: now.Sub(s.queued),
			Places: float64(e.perKey.Of(s.req.Namespace)) / s.req.Weight,
		}
	}
	if s := all[schedule.Next(line)]; e.queue.Remove(s) {
		return s
	}
	return nil
}

// putBack has a sequence wait again, unless it has ended meanwhile: what ends a
// turn in the queue may have looked for it before.
func (e *Engine) putBack(s *sequence) {
	e.queue.Push(s)
	if err := e.ended(s); err != nil && e.queue.Remove(s) {
		e.fail(s, err)
	}
}
