package engine

import (
	"context"
	"errors"
	"time"

	"mneme/internal/engine/reuse"
	"mneme/internal/engine/roster"
	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/sample"
	"mneme/internal/store"
	"mneme/internal/token"
)

// use takes the logits of a step's last rows: they score the prompt's tokens,
// and the last choose what comes next; true at the end.
func (e *Engine) use(s *sequence, logits [][]float32) (done bool, err error) {
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
		s.first = time.Since(s.began)
		e.counters.cached.Add(int64(s.cached))
		s.stream.Begin(s.cached)
	}
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
	defer e.recovered(&err)
	if err := e.fault(FaultSample); err != nil {
		return true, err
	}
	choice, err := s.sampler.Next(logits, len(s.tokens), s.tokens, s.prompt)
	if err != nil {
		return true, err
	}
	e.begun(s)
	e.counters.generated.Add(1)
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
	s.stream.End(Completed{Usage: s.usage()}, err)
	e.over(s)
}

// over lets the agent's next turn begin and wakes who waits for room.
func (e *Engine) over(s *sequence) {
	if s.agent != nil {
		e.roster.Release(*s.agent)
	}
	s.leave()
	e.pending.Add(-1)
	e.freed.Fire()
}

// complete turns a finished sequence into its agent's next state. The batch
// goes on; only this request waits for the disk.
func (e *Engine) complete(s *sequence) {
	blocks := s.kv.Freeze()
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.settle(s, blocks)
	}()
}

func (e *Engine) settle(s *sequence, blocks *kv.AgentBlocks) {
	e.roster.Remember(s.req.Namespace, lineage.Lineage{Tokens: s.tokens, Ends: s.ends})
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
	state := &roster.State{Manifest: e.nextManifest(s, old.Manifest, blocks), Blocks: blocks}
	if err = e.fault(FaultSave); err == nil {
		err = e.save(s, state.Manifest, blocks)
	}
	if err != nil {
		e.counters.storeErrors.Add(1)
		e.log.Error("turn not stored", "agent", s.agent.ID, "err", err)
	}
	state.Saved = err == nil
	e.roster.Publish(*s.agent, state)
	return len(state.Manifest.Turns), err
}

// maxSaves is how often a turn is tried to be stored.
const maxSaves = 4

// save writes the blocks that are not stored yet and publishes. Until then no
// agent names them: the delete of another may take them away in between, and
// then they are written again.
func (e *Engine) save(s *sequence, m store.Manifest, blocks *kv.AgentBlocks) (err error) {
	for range maxSaves {
		for i := range blocks.Keys() {
			tokens := blocks.Tokens()[i*kv.BlockTokens : (i+1)*kv.BlockTokens]
			e.appendBlock(s.scope, blocks.Keys(), i, tokens, func(g int) kv.BlockID { return blocks.SealedBlock(g, i) })
		}
		if err = e.store.Publish(context.Background(), m, e.tails(blocks)); !errors.Is(err, store.ErrMissing) {
			return err
		}
	}
	return err
}

func (e *Engine) nextManifest(s *sequence, m store.Manifest, blocks *kv.AgentBlocks) store.Manifest {
	now := e.now()
	u := s.usage()
	turns := e.keptTurns(m, lineage.Lineage{Tokens: s.tokens[:s.prompt], Ends: s.ends[:s.prompt]})
	m.Turns = append(turns, store.Turn{
		Turn: len(turns) + 1, Tokens: len(s.tokens), Prompt: u.Prompt, Cached: u.Cached, Completion: u.Completion,
		Finish: string(s.finish), TextEnd: min(s.promptEnd+s.emitted, s.ends[len(s.ends)-1]), Created: now,
	})
	if len(m.Turns) == 1 && m.Parent == "" {
		m.Parent = string(s.req.Parent)
	}
	m.Tokens, m.Ends = s.tokens, s.ends
	m.Keys, m.KVTokens, m.Tail = blocks.Keys(), blocks.Len(), nil
	m.KVFingerprint, m.LastUsed, m.Pinned = e.kvFingerprint, now, e.roster.Pinned(*s.agent)
	return m
}

// keptTurns are the turns whose tokens, or whose visible text, the new prompt
// still begins with; a request that rolled the agent back leaves later ones out.
func (e *Engine) keptTurns(m store.Manifest, prompt lineage.Lineage) []store.Turn {
	tokens := lineage.CommonPrefix(m.Tokens, prompt.Tokens)
	text := lineage.CommonText(e.tok, lineage.Lineage{Tokens: m.Tokens, Ends: m.Ends}, prompt)
	n := 0
	for n < len(m.Turns) && (m.Turns[n].Tokens <= tokens || m.Turns[n].TextEnd <= text) {
		n++
	}
	return append([]store.Turn(nil), m.Turns[:n]...)
}

// persist hands a block that was just sealed to the write-behind.
func (e *Engine) persist(s *sequence, index int) {
	keys := s.kv.Keys()
	tokens := s.kv.Tokens()[index*kv.BlockTokens : (index+1)*kv.BlockTokens]
	e.appendBlock(s.scope, keys, index, tokens, func(g int) kv.BlockID { return s.kv.SealedBlock(g, index) })
}

func (e *Engine) appendBlock(scope kv.Scope, keys []kv.Key, index int, tokens []token.ID, block func(group int) kv.BlockID) {
	parent := scope.Root()
	if index > 0 {
		parent = keys[index-1]
	}
	for g := range e.pool.Spec().Groups {
		if e.store.Has(keys[index], g) {
			continue
		}
		id := block(g)
		if id == kv.NoBlock { // a window has passed it: it was appended when it was sealed
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
