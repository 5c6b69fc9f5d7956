package engine

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"mneme/internal/engine/pace"
	"mneme/internal/engine/reuse"
	"mneme/internal/engine/stream"
	"mneme/internal/kv"
	"mneme/internal/lineage"
)

// The admitter turns queued sequences into running ones, in the order that
// schedule says: it finds what is in memory, reserves everything else at once, and
// lets a goroutine of its own read from disk. It holds nothing while it waits for
// room, and decides anew when there may be some.

// admit is the admitter's goroutine.
func (e *Engine) admit() {
	for e.queue.Await(e.stop) {
		freed := e.freed.Wait()
		s := e.next()
		switch {
		case s == nil:
		case e.takePlace(s):
			e.wg.Go(func() { e.bring(s) })
		default:
			e.putBack(s)
			select {
			case <-freed:
			case <-e.stop.Done():
			case <-time.After(retryAdmission):
			}
		}
	}
}

// bring reads an admitted sequence's blocks and hands it to the loop.
func (e *Engine) bring(s *sequence) {
	s.watch.End(stream.Queue, time.Now())
	e.restore(s)
	if e.hold(s); !e.hand(s) {
		e.leaveBatch(s)
		s.kv.Drop()
		e.fail(s, e.ended(s))
	}
}

// retryAdmission is how often room is looked for without a reason to.
const retryAdmission = time.Second

// ended says why a sequence need not go on, or nil.
func (e *Engine) ended(s *sequence) error {
	if e.stop.Err() != nil {
		return ErrDraining
	}
	return context.Cause(s.ctx)
}

// takePlace gives the sequence a place in the batch and its blocks, or nothing.
func (e *Engine) takePlace(s *sequence) bool {
	if e.admitted.Load() >= int64(e.cfg.MaxBatch) { // only here it grows
		return false
	}
	for !e.place(s) {
		if !e.makeRoom(s.agent, 0) {
			return false
		}
	}
	e.admitted.Add(1)
	e.perKey.Add(s.req.Namespace, e.cfg.MaxBatch)
	if !s.admitted {
		e.tally.Waits.Add(time.Since(s.queued).Seconds())
	}
	return true
}

// leaveBatch frees a sequence's place for the next.
func (e *Engine) leaveBatch(s *sequence) {
	e.admitted.Add(-1)
	e.perKey.Done(s.req.Namespace)
	e.freed.Fire()
}

// hand gives the sequence to the loop; false if it has ended meanwhile.
func (e *Engine) hand(s *sequence) bool {
	select {
	case e.ready <- s:
		return true
	case <-s.ctx.Done():
	case <-e.stop.Done():
	}
	return false
}

// place shares what is in memory and reserves the rest, or takes nothing.
func (e *Engine) place(s *sequence) bool {
	empty, _ := e.pool.Allocate(kv.Need{})
	s.kv = kv.NewGrowing(e.pool, s.scope, empty)
	if s.agent != nil {
		s.own = e.roster.Retain(*s.agent)
	}
	if s.own != nil {
		s.kv.ResumeSealed(s.own, min(lineage.CommonPrefix(s.own.Tokens(), s.tokens)/kv.BlockTokens, s.matchBlocks()))
	}
	if s.kv.Len() == 0 {
		s.kv.AdoptPrefix(s.keys, s.tokens, e.pool.Match(s.keys[:s.matchBlocks()]))
	}
	unmarked := s.ledger
	s.found(0)
	for e.adoptNext(s) {
	}
	if !e.stock(s, s.target()) {
		s.ledger = unmarked
		s.kv.Drop()
		s.releaseOwn()
		return false
	}
	return true
}

// adoptNext takes the sequence's next block from memory if it is there.
func (e *Engine) adoptNext(s *sequence) bool {
	i := len(s.kv.Keys())
	if i >= s.matchBlocks() || !s.kv.Aligned() {
		return false
	}
	ids, ok := e.pool.Lookup(s.keys[i])
	if ok {
		s.kv.FollowSealed(s.keys[i], s.tokens[i*kv.BlockTokens:(i+1)*kv.BlockTokens], ids)
		s.found(i)
	}
	return ok
}

// restore reads what is on disk: sealed blocks by key, then the agent's open
// block. What cannot be read is computed.
func (e *Engine) restore(s *sequence) {
	start := StartUncached
	for {
		if e.adoptNext(s) { // another may have put it there since
			continue
		}
		n, on := e.restoreRun(s)
		if n > 0 {
			start = StartRestored
		}
		if !on {
			break
		}
	}
	if e.resumeOpen(s) == StartRestored {
		start = StartRestored
	}
	s.releaseOwn()
	s.watch.End(stream.Restore, time.Now())
	if start == StartUncached && s.kv.Len() > 0 {
		start = StartHot
	}
	if !s.admitted {
		s.admitted, s.cached, s.start = true, s.kv.Len(), start
	}
}

// restoreRun reads the blocks that follow, as far as they are on disk and not
// in memory: n of them, and whether it may go on behind them.
func (e *Engine) restoreRun(s *sequence) (n int, on bool) {
	from := len(s.kv.Keys())
	to := from
	for to < s.matchBlocks() && e.onDisk(s.keys[to]) && !e.pool.Contains(s.keys[to]) {
		to++
	}
	switch {
	case !s.kv.Aligned():
		return 0, false
	case from == to:
		if from < s.matchBlocks() && s.before.Owns(from, s.keys[from]) {
			s.ledger.Note(reuse.Evicted)
		}
		return 0, false
	case !s.warming && !e.worthReading(from, to):
		s.ledger.Note(reuse.Recomputed)
		return 0, false
	case !e.stock(s, s.target()): // each run takes blocks for its windows
		return 0, false
	}
	var readBytes atomic.Int64
	read := e.reading.Begin()
	tokens := s.tokens[from*kv.BlockTokens : to*kv.BlockTokens]
	n, err := s.kv.RestoreSealed(s.keys[from:to], tokens, func(i, group int, id kv.BlockID) error {
		buf := e.frames.Get().(*[]byte)
		defer e.frames.Put(buf)
		*buf = slices.Grow((*buf)[:0], e.pool.SizeOf(id))[:e.pool.SizeOf(id)]
		if err := errors.Join(s.ctx.Err(), e.fault(FaultRestore)); err != nil {
			return err
		}
		if err := e.store.Read(s.keys[from+i], group, tokens[i*kv.BlockTokens:(i+1)*kv.BlockTokens], *buf); err != nil {
			return err
		}
		e.pool.CopyIn(id, *buf)
		readBytes.Add(int64(len(*buf)))
		return nil
	})
	read(readBytes.Load(), e.now())
	e.counters.restored.Add(int64(n))
	s.note(reuse.Restored, n*kv.BlockTokens)
	if err != nil && s.ctx.Err() == nil {
		s.ledger.Note(reuse.Quarantined)
		e.log.Warn("blocks cannot be restored, they are computed again", "err", err)
	}
	return n, err == nil
}

// ratesLast is how long a measured rate is believed.
const ratesLast = time.Minute

// worthReading says whether blocks from one to another are read sooner than
// computed, as far as that is measured.
func (e *Engine) worthReading(from, to int) bool {
	n, now := to-from, e.now()
	if e.cfg.Restore == RestoreAlways ||
		pace.Cheaper(e.pool.Spec().RunBytes(from, to), e.reading.PerSecond(now), int64(n)*kv.BlockTokens, e.steps.Prompts(now)) {
		return true
	}
	e.counters.recomputed.Add(int64(n))
	return false
}

// onDisk wants a block of all groups, also where a window has passed it: what a turn
// names is stored whole, and what is missing is so again when it is computed.
func (e *Engine) onDisk(key kv.Key) bool {
	for g := range e.pool.Spec().Groups {
		if !e.store.Has(key, g) {
			return false
		}
	}
	return true
}

// resumeOpen takes the agent's open block, from memory or from its tail frames,
// if the table has come to it and the prompt goes on as it does.
func (e *Engine) resumeOpen(s *sequence) Start {
	if s.agent == nil || !s.kv.Aligned() {
		return StartUncached
	}
	state, err := e.roster.Load(*s.agent)
	if err != nil {
		e.log.Warn("agent cannot be read", "agent", s.agent.ID, "err", err)
		return StartUncached
	}
	m := &state.Manifest
	full := m.KVTokens / kv.BlockTokens * kv.BlockTokens
	n := min(lineage.CommonPrefix(m.Tokens[:m.KVTokens], s.tokens), s.prompt-1, s.reusable())
	if s.kv.Len() != full || n <= full {
		return StartUncached
	}
	if s.own != nil && s.own.Len() == m.KVTokens {
		s.kv.ResumeOpen(s.own, n)
		s.note(reuse.Hot, n-full)
		return StartHot
	}
	if m.KVFingerprint != e.kvFingerprint || len(m.Tail) == 0 {
		return StartUncached
	}
	err = s.kv.RestoreOpen(m.Tokens[full:n], func(group int, id kv.BlockID) error {
		buf := make([]byte, e.pool.Spec().TailBytes(group, m.KVTokens-full))
		if err := e.store.ReadTail(m.Tail[group], m.Tokens[full:m.KVTokens], buf); err != nil {
			return err
		}
		e.pool.CopyTailIn(id, buf, m.KVTokens-full)
		return nil
	})
	if err != nil {
		s.ledger.Note(reuse.Quarantined)
		e.log.Warn("open block cannot be restored, it is computed again", "agent", m.ID, "err", err)
		return StartUncached
	}
	s.note(reuse.Restored, n-full)
	return StartRestored
}
