package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"mneme/internal/engine/pace"
	"mneme/internal/engine/reuse"
	"mneme/internal/kv"
	"mneme/internal/lineage"
)

// The admitter turns queued sequences into running ones, in order: it finds
// what is in memory, reserves everything else at once, and lets a goroutine of
// its own read from disk. It holds nothing while it waits for room.

// admit is the admitter's goroutine.
func (e *Engine) admit() {
	defer e.wg.Done()
	for {
		s, ok := e.queue.Pop(e.stop)
		if !ok {
			return
		}
		e.admitOne(s)
	}
}

func (e *Engine) admitOne(s *sequence) {
	for {
		freed := e.freed.Wait()
		if err := e.ended(s); err != nil {
			e.fail(s, err)
			return
		}
		if e.takePlace(s) {
			break
		}
		select {
		case <-freed:
		case <-s.ctx.Done():
		case <-e.stop.Done():
		case <-time.After(retryAdmission):
		}
	}
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		if e.restore(s); !e.hand(s) {
			e.leaveBatch(s)
			s.kv.Drop()
			e.fail(s, e.ended(s))
		}
	}()
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
	return true
}

// leaveBatch frees a sequence's place for the next.
func (e *Engine) leaveBatch(*sequence) {
	e.admitted.Add(-1)
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
	r, ok := e.allocate(s, s.kv.Missing(s.target(), e.cfg.StepTokens))
	if !ok {
		s.ledger = unmarked
		s.kv.Drop()
		s.releaseOwn()
		return false
	}
	s.kv.Stock(r)
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
		if !e.restoreRun(s) {
			break
		}
		start = StartRestored
	}
	if e.resumeOpen(s) == StartRestored {
		start = StartRestored
	}
	s.releaseOwn()
	if start == StartUncached && s.kv.Len() > 0 {
		start = StartHot
	}
	if !s.admitted {
		s.admitted, s.cached, s.start = true, s.kv.Len(), start
	}
}

// restoreRun reads the blocks that follow, as far as they are on disk and not
// in memory; true if all of at least one were read.
func (e *Engine) restoreRun(s *sequence) bool {
	from := len(s.kv.Keys())
	to := from
	for to < s.matchBlocks() && e.onDisk(s.keys[to]) && !e.pool.Contains(s.keys[to]) {
		to++
	}
	switch {
	case !s.kv.Aligned():
		return false
	case from == to:
		if from < s.matchBlocks() && s.before.Owns(from, s.keys[from]) {
			s.ledger.Note(reuse.Evicted)
		}
		return false
	case !e.worthReading(to - from):
		s.ledger.Note(reuse.Recomputed)
		return false
	}
	began := time.Now()
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
		return nil
	})
	e.reading.Add(int64(n)*e.blockBytes(), time.Since(began), e.now())
	e.counters.restored.Add(int64(n))
	s.ledger.Add(reuse.Restored, n*kv.BlockTokens)
	if err != nil && s.ctx.Err() == nil {
		s.ledger.Note(reuse.Quarantined)
		e.log.Warn("blocks cannot be restored, they are computed again", "err", err)
	}
	return err == nil
}

// ratesLast is how long a measured rate is believed.
const ratesLast = time.Minute

// worthReading says whether n blocks are read sooner than computed, as far as
// that is measured.
func (e *Engine) worthReading(n int) bool {
	now := e.now()
	if e.cfg.Restore == RestoreAlways ||
		pace.Cheaper(int64(n)*e.blockBytes(), e.reading.PerSecond(now), int64(n)*kv.BlockTokens, e.filling.PerSecond(now)) {
		return true
	}
	e.counters.recomputed.Add(int64(n))
	return false
}

// blockBytes is the size of a block of all groups.
func (e *Engine) blockBytes() int64 {
	return int64(e.pool.Spec().BytesPerToken()) * kv.BlockTokens
}

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
		s.ledger.Add(reuse.Hot, n-full)
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
	s.ledger.Add(reuse.Restored, n-full)
	return StartRestored
}
