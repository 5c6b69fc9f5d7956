package engine

import (
	"errors"

	"mneme/internal/kv"
	"mneme/internal/store"
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
		if e.place(s) {
			break
		}
		if e.evictIdle() {
			continue
		}
		select {
		case <-freed:
		case <-s.ctx.Done():
			e.fail(s, s.ctx.Err())
			return
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
	if own := e.ownBlocks(s); own != nil {
		s.kv.ResumeSealed(own, min(commonPrefix(own.Tokens(), s.tokens)/kv.BlockTokens, s.matchBlocks()))
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

// adoptNext appends the next block of the prompt if it is in memory.
func (e *Engine) adoptNext(s *sequence) bool {
	i := len(s.kv.Keys())
	if i >= s.matchBlocks() || !s.kv.Aligned() {
		return false
	}
	ids, ok := e.pool.Lookup(s.keys[i])
	if ok {
		s.kv.AdoptSealed(s.keys[i], s.tokens[i*kv.BlockTokens:(i+1)*kv.BlockTokens], ids)
	}
	return ok
}

// restore reads what is on disk: sealed blocks by key, then the agent's open
// block. What cannot be read is computed.
func (e *Engine) restore(s *sequence) {
	start := StartUncached
	if s.kv.Len() > 0 {
		start = StartHot
	}
	for i := len(s.kv.Keys()); i < s.matchBlocks(); i++ {
		if !e.restoreBlock(s, i) {
			break
		}
		start = StartRestored
	}
	if e.resumeOpen(s) == StartRestored {
		start = StartRestored
	} else if start == StartUncached && s.kv.Len() > 0 {
		start = StartHot
	}
	if !s.admitted {
		s.admitted, s.cached, s.start = true, s.kv.Len(), start
	}
}

func (e *Engine) restoreBlock(s *sequence, i int) bool {
	tokens := s.tokens[i*kv.BlockTokens : (i+1)*kv.BlockTokens]
	if ids, ok := e.pool.Lookup(s.keys[i]); ok {
		s.kv.FollowSealed(s.keys[i], tokens, ids)
		return true
	}
	err := s.kv.RestoreSealed(s.keys[i], tokens, func(group int, id kv.BlockID) error {
		buf := make([]byte, e.pool.SizeOf(id))
		if err := e.store.Read(s.keys[i], group, tokens, buf); err != nil {
			return err
		}
		e.pool.CopyIn(id, buf)
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrMissing) {
		e.log.Warn("block cannot be restored, it is computed again", "key", s.keys[i], "err", err)
	}
	return err == nil
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
