package engine

import (
	"context"
	"errors"
	"time"

	"mneme/internal/engine/reuse"
	"mneme/internal/engine/roster"
	"mneme/internal/engine/stream"
	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/sample"
	"mneme/internal/store"
	"mneme/internal/token"
)

// use takes the logits of a step's last rows: they score the prompt's tokens,
// and the last choose what comes next; true at the end.
func (e *Engine) use(s *sequence, logits [][]float32) (done bool, err error) {
	defer e.recovered(&err)
	if s.scoring() {
		s.score(logits)
	}
	switch {
	case s.pending() > 0:
		return false, nil
	case s.req.PromptOnly:
		e.begun(s)
		s.finish = FinishLength
		return true, nil
	}
	return e.sample(s, logits[len(logits)-1])
}

// begun notes that the prompt is done.
func (e *Engine) begun(s *sequence) {
	if s.first == 0 {
		now := time.Now()
		s.first = now.Sub(s.began)
		s.watch.End(stream.Prefill, now)
		e.counters.cached.Add(int64(s.cached))
		s.stream.Begin(s.cached, s.watch.Timings(now))
	}
}

// spoke notes that the turn has a token, and how long after the one before.
func (e *Engine) spoke(s *sequence) {
	e.counters.generated.Add(1)
	now := time.Now()
	if !s.last.IsZero() {
		e.tally.Gaps.Add(now.Sub(s.last).Seconds())
	}
	s.last = now
}

// score notes what the logits of the latest positions say of the tokens that
// follow them. After a preemption some are known already.
func (s *sequence) score(logits [][]float32) {
	if len(s.scores) == 0 {
		s.scores = append(s.scores, PromptToken{ID: s.tokens[0]})
	}
	for i := range logits {
		next := s.kv.Len() - len(logits) + i + 1
		if next != len(s.scores) || next >= s.prompt {
			continue
		}
		token := PromptToken{ID: s.tokens[next]}
		token.Logprob, token.Top = sample.Logprobs(logits[i], token.ID, s.req.Score.Alternatives)
		s.scores = append(s.scores, token)
	}
}

// sample chooses the sequence's next token and delivers it; true at the end.
func (e *Engine) sample(s *sequence, logits []float32) (done bool, err error) {
	if err := e.fault(FaultSample); err != nil {
		return true, err
	}
	choice, err := s.sampler.Next(logits, len(s.tokens), s.tokens, s.prompt)
	if err != nil {
		return true, err
	}
	e.begun(s)
	e.spoke(s)
	s.tokens = append(s.tokens, choice.ID)
	end, last := e.tok.IsEnd(choice.ID) && !s.req.IgnoreEOS, len(s.tokens) >= s.limit
	text, at, stopped := s.speech.Say(choice.ID, end, last)
	switch {
	case end, stopped:
		s.finish = FinishStop
	case last:
		s.finish = FinishLength
	}
	s.ends, s.emitted = append(s.ends, at), s.emitted+len(text)
	s.stream.Push(Output{ID: choice.ID, Text: text, Logprob: choice.Logprob, Top: choice.Top})
	return s.finish != "", nil
}

// fail ends a sequence without a turn: its agent stays as it was.
func (e *Engine) fail(s *sequence, err error) {
	e.counters.failed.Add(1)
	s.stream.End(Completed{Usage: s.usage(), Timings: s.watch.Timings(time.Now())}, err)
	e.over(s)
}

// over lets the agent's next turn begin and wakes who waits for room.
func (e *Engine) over(s *sequence) {
	if s.agent != nil {
		e.roster.Release(*s.agent)
		e.store.Release(len(e.pool.Spec().Groups), s.held...)
	}
	s.leave()
	e.places.Left(e.now(), e.queue.Len() > 0)
	e.exit(&s.req)
}

// complete turns a finished sequence into its agent's next state. The batch
// goes on; only this request waits for the disk.
func (e *Engine) complete(s *sequence) {
	s.watch.End(stream.Decode, time.Now())
	blocks := s.kv.Freeze()
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.settle(s, blocks)
	}()
}

func (e *Engine) settle(s *sequence, blocks *kv.AgentBlocks) {
	e.roster.Remember(keyOf(s.req.Namespace, s.req.Agent), lineage.Lineage{Tokens: s.tokens, Ends: s.ends})
	result := Completed{Finish: s.finish, Usage: s.usage(), Start: s.start, TimeToFirst: s.first, Prompt: s.scores}
	if s.agent == nil {
		blocks.Release()
	} else {
		result.Turn, result.PublishErr = e.publish(s, blocks)
		if s.req.Score != nil {
			s.ledger.Note(reuse.Scored)
		}
		e.reuses.Add(*s.agent, result.Turn, s.ledger.Explain(e.tok, &s.before, lineage.Lineage{Tokens: s.tokens[:s.prompt], Ends: s.ends[:s.prompt]}))
	}
	result.Timings = s.watch.Timings(time.Now())
	e.counters.finished.Add(1)
	e.settling.Add(-1)
	e.over(s)
	s.stream.End(result, nil)
}

func (s *sequence) usage() Usage {
	return Usage{Prompt: s.prompt, Cached: s.cached, Completion: len(s.tokens) - s.prompt}
}

// publish makes the turn durable and the agent's current one. If the disk
// refuses, the turn lives in memory only and the error says so.
func (e *Engine) publish(s *sequence, blocks *kv.AgentBlocks) (turn int, err error) {
	old, err := e.roster.Load(*s.agent)
	if err != nil { // it was readable when the turn began
		blocks.Release()
		return 0, err
	}
	e.roster.NoteFormat(&old.Manifest)
	m := e.nextManifest(s, old.Manifest, blocks)
	if err = e.fault(FaultSave); err == nil {
		err = e.save(s, &m, blocks)
	}
	if err != nil {
		e.counters.storeErrors.Add(1)
		e.log.Error("turn not stored", "agent", s.agent.ID, "err", err)
	}
	e.roster.Publish(*s.agent, &roster.State{Manifest: m, Blocks: blocks, Saved: err == nil})
	return len(m.Turns), err
}

// maxSaves is how often a turn is tried to be stored.
const maxSaves = 4

// save writes the blocks that are not stored yet and publishes. Until then no
// agent names them: the delete of another may take them away in between, and
// then they are written again. Where a window has passed one that is gone, nobody
// has it any more: the turn is stored with the KV before it.
func (e *Engine) save(s *sequence, m *store.Manifest, blocks *kv.AgentBlocks) (err error) {
	for try := range maxSaves {
		tails := e.tails(blocks)
		m.Keys, m.KVTokens = blocks.Keys(), blocks.Len()
		if n := e.appendAll(s.scope, blocks); try > 0 && n < len(m.Keys) { // at first it may be on its way
			m.Keys, m.KVTokens, tails = m.Keys[:n], n*kv.BlockTokens, nil
		}
		if err = e.store.Publish(context.Background(), *m, tails); !errors.Is(err, store.ErrMissing) {
			return err
		}
	}
	return err
}

// appendAll hands a table's blocks to the write-behind, as far as they are not
// stored; how many come before the first that memory does not have either, which
// may be queued.
func (e *Engine) appendAll(scope kv.Scope, blocks *kv.AgentBlocks) (n int) {
	n = len(blocks.Keys())
	for i := range blocks.Keys() {
		tokens := blocks.Tokens()[i*kv.BlockTokens : (i+1)*kv.BlockTokens]
		if !e.appendBlock(scope, blocks.Keys(), i, tokens, func(g int) kv.BlockID { return blocks.SealedBlock(g, i) }) {
			n = min(n, i)
		}
	}
	return n
}

func (e *Engine) nextManifest(s *sequence, m store.Manifest, blocks *kv.AgentBlocks) store.Manifest {
	now := e.now()
	u := s.usage()
	turns := e.roster.KeptTurns(&m, lineage.Lineage{Tokens: s.tokens[:s.prompt], Ends: s.ends[:s.prompt]})
	m.Turns = append(turns, store.Turn{
		Turn: len(turns) + 1, Tokens: len(s.tokens), Prompt: u.Prompt, Cached: u.Cached, Completion: u.Completion,
		Finish: string(s.finish), TextEnd: min(s.promptEnd+s.emitted, s.ends[len(s.ends)-1]), Created: now,
	})
	if len(m.Turns) == 1 && m.Parent == "" {
		m.Parent = string(s.req.Parent)
	}
	m.Tokens, m.Ends = s.tokens, s.ends
	m.Keys, m.KVTokens, m.Tail = blocks.Keys(), blocks.Len(), nil // as far as save can store it
	m.KVFingerprint, m.LastUsed, m.Pinned = e.kvFingerprint, now, e.roster.Pinned(*s.agent)
	return m
}

// hold keeps an agent's blocks on disk until its turn names them, or is over: the
// delete of another that had them too would take them away.
func (e *Engine) hold(s *sequence) {
	if more := s.kv.Keys(); s.agent != nil && len(more) > len(s.held) {
		e.store.Hold(len(e.pool.Spec().Groups), more[len(s.held):]...)
		s.held = append(s.held, more[len(s.held):]...)
	}
}

// persist hands a block that was just sealed to the write-behind.
func (e *Engine) persist(s *sequence, index int) {
	keys := s.kv.Keys()
	tokens := s.kv.Tokens()[index*kv.BlockTokens : (index+1)*kv.BlockTokens]
	e.appendBlock(s.scope, keys, index, tokens, func(g int) kv.BlockID { return s.kv.SealedBlock(g, index) })
}

// appendBlock is false for a block that is not stored yet nor, where a window has
// passed it, in memory any more.
func (e *Engine) appendBlock(scope kv.Scope, keys []kv.Key, index int, tokens []token.ID, block func(group int) kv.BlockID) (there bool) {
	there = true
	parent := scope.Root()
	if index > 0 {
		parent = keys[index-1]
	}
	for g := range e.pool.Spec().Groups {
		if e.store.Has(keys[index], g) {
			continue
		}
		id := block(g)
		if id == kv.NoBlock { // it was appended when it was sealed
			there = false
			continue
		}
		e.pool.Retain(id)
		e.writing.Add(1)
		e.store.Append(store.Block{
			Namespace: scope.Namespace, Key: keys[index], Parent: parent, Group: g, Form: e.pool.FormOf(id), Tokens: append([]token.ID(nil), tokens...), SizeBytes: e.pool.SizeOf(id),
			Copy: func(dst []byte) { e.pool.CopyOut(dst, id) },
			Done: func() { e.pool.Free(id); e.writing.Add(-1); e.freed.Fire() },
		})
	}
	return there
}

// tails copies the open blocks' tokens for the tail frames.
func (e *Engine) tails(blocks *kv.AgentBlocks) []store.TailBlock {
	var out []store.TailBlock
	for g := range e.pool.Spec().Groups {
		id, n := blocks.OpenBlock(g)
		if n == 0 {
			return nil
		}
		all := blocks.Tokens()
		out = append(out, store.TailBlock{
			Group: g, Form: e.pool.FormOf(id), Tokens: all[len(all)-n:], SizeBytes: e.pool.Spec().TailBytes(g, n),
			Copy: func(dst []byte) { e.pool.CopyTailOut(dst, id, n) },
		})
	}
	return out
}
