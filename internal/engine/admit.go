package engine

import (
	"context"
	"slices"

	"mneme/internal/kv"
)

// The admitter turns queued sequences into running ones, in order: it finds
// what is in memory, reserves everything else at once, and lets a goroutine of
// its own read from disk. It holds nothing while it waits for room.

// admit is the admitter's goroutine.
func (e *Engine) admit() {
	defer e.wg.Done()
	for {
		s, ok := e.queue.pop(e.stop)
		if !ok {
			return
		}
		e.admitOne(s)
	}
}

func (e *Engine) admitOne(s *sequence) {
	for {
		freed := e.freed.wait()
		if s.ctx.Err() != nil {
			e.fail(s, context.Cause(s.ctx))
			return
		}
		if e.place(s) {
			break
		}
		if e.evictIdle() {
			continue
		}
		select {
		case <-freed:
		case <-s.ctx.Done():
		case <-e.stop.Done():
			e.fail(s, ErrDraining)
			return
		}
	}
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.restore(s)
		select {
		case e.ready <- s:
		case <-e.stop.Done():
			s.kv.Drop()
			e.fail(s, ErrDraining)
		}
	}()
}

// place shares what is in memory and reserves the rest, or takes nothing.
func (e *Engine) place(s *sequence) bool {
	empty, _ := e.pool.Allocate(kv.Need{})
	s.kv = kv.NewGrowing(e.pool, s.scope, empty)
	own := e.ownBlocks(s)
	if own != nil {
		s.kv.ResumeSealed(own, min(commonPrefix(own.Tokens(), s.tokens)/kv.BlockTokens, s.matchBlocks()))
	}
	if s.kv.Len() == 0 {
		s.kv.AdoptPrefix(s.keys, s.tokens, e.pool.Match(s.keys[:s.matchBlocks()]))
	}
	for e.adoptNext(s) {
	}
	r, ok := e.pool.Allocate(s.kv.Missing(s.target()))
	if !ok {
		s.kv.Drop()
		return false
	}
	s.kv.Stock(r)
	return true
}

// ownBlocks is the hot table of the sequence's agent.
func (e *Engine) ownBlocks(s *sequence) *kv.AgentBlocks {
	if s.agent == nil {
		return nil
	}
	return e.table.stateOf(s.agent).blocks
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
	if from == to || !s.kv.Aligned() {
		return false
	}
	tokens := s.tokens[from*kv.BlockTokens : to*kv.BlockTokens]
	_, err := s.kv.RestoreSealed(s.keys[from:to], tokens, func(i, group int, id kv.BlockID) error {
		buf := e.frames.Get().(*[]byte)
		defer e.frames.Put(buf)
		*buf = slices.Grow((*buf)[:0], e.pool.SizeOf(id))[:e.pool.SizeOf(id)]
		if err := e.store.Read(s.keys[from+i], group, tokens[i*kv.BlockTokens:(i+1)*kv.BlockTokens], *buf); err != nil {
			return err
		}
		e.pool.CopyIn(id, *buf)
		return nil
	})
	if err != nil {
		e.log.Warn("blocks cannot be restored, they are computed again", "err", err)
	}
	return err == nil
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
	state := e.table.stateOf(s.agent)
	m := &state.manifest
	full := m.KVTokens / kv.BlockTokens * kv.BlockTokens
	n := min(commonPrefix(m.Tokens[:m.KVTokens], s.tokens), s.prompt-1)
	if s.kv.Len() != full || n <= full {
		return StartUncached
	}
	if state.blocks != nil {
		s.kv.ResumeOpen(state.blocks, n)
		return StartHot
	}
	if m.KVFingerprint != e.kvFingerprint || len(m.Tail) == 0 {
		return StartUncached
	}
	err := s.kv.RestoreOpen(m.Tokens[full:n], func(group int, id kv.BlockID) error {
		buf := make([]byte, e.pool.Spec().TailBytes(group, m.KVTokens-full))
		if err := e.store.ReadTail(m.Tail[group], m.Tokens[full:m.KVTokens], buf); err != nil {
			return err
		}
		e.pool.CopyTailIn(id, buf, m.KVTokens-full)
		return nil
	})
	if err != nil {
		e.log.Warn("open block cannot be restored, it is computed again", "agent", m.ID, "err", err)
		return StartUncached
	}
	return StartRestored
}
