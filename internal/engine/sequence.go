package engine

import (
	"context"
	"time"

	"mneme/internal/engine/forecast"
	"mneme/internal/engine/reuse"
	"mneme/internal/engine/stream"
	"mneme/internal/kv"
	"mneme/internal/lineage"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// sequence is a turn on its way: queued, then admitted, then run by the loop,
// then finished. One goroutine has it at a time.
type sequence struct {
	ctx    context.Context
	req    Request
	stream *Stream
	agent  *agentKey // nil without one; its turn is ours until leave
	leave  func()
	scope  kv.Scope

	tokens []token.ID // prompt and what was generated
	ends   []int      // text offset after each token
	prompt int        // prompt tokens
	limit  int        // tokens at which the turn ends at the latest
	keys   []kv.Key   // of the full blocks of tokens, as far as they may be shared

	kv      *kv.Growing
	held    []kv.Key        // of its blocks on disk, for it to name
	own     *kv.AgentBlocks // the agent's table, while its blocks are taken over
	sampler *sample.Sampler
	speech  *lineage.Speech

	promptEnd int // length of the prompt's text
	emitted   int // bytes of text delivered

	scores []PromptToken // of the prompt's first tokens, if wanted

	before reuse.Before // what the agent had seen
	ledger reuse.Ledger // where the prompt's KV came from

	cached    int // tokens that were not computed for this request
	start     Start
	began     time.Time
	queued    time.Time     // since when it waits or runs: its agent's turns before are over
	arrival   int64         // in which order
	need      forecast.Turn // as it was queued
	idle      int           // steps since it was given tokens
	last      time.Time     // when it had its last token
	first     time.Duration
	watch     stream.Stopwatch
	admitted  bool // its ledger of cached tokens is begun
	preempted bool // what it finds now it may have computed itself
	warming   bool // it is no turn: what is on disk is read, however long that takes
	finish    FinishReason
}

// pending counts the tokens without KV; 1 when it decodes.
func (s *sequence) pending() int { return len(s.tokens) - s.kv.Len() }

// decoding says whether the prompt is done.
func (s *sequence) decoding() bool { return s.kv.Len() >= s.prompt }

// reusable is how many of its tokens may have KV from elsewhere: all before the
// first whose logits are still wanted.
func (s *sequence) reusable() int {
	if s.scoring() {
		return max(0, len(s.scores)-1)
	}
	return len(s.tokens) - 1
}

// scoring says whether logits of the prompt's tokens are still wanted.
func (s *sequence) scoring() bool { return s.req.Score != nil && len(s.scores) < s.prompt }

// matchBlocks is how many of its blocks may be taken from elsewhere: never one
// that holds a token whose logits are wanted (rule 1).
func (s *sequence) matchBlocks() int {
	return min(len(s.keys), s.reusable()/kv.BlockTokens)
}

// found notes where the blocks from a place on came from that were in memory.
func (s *sequence) found(from int) {
	for i, key := range s.kv.Keys()[from:] {
		source := reuse.Shared
		if s.before.Owns(from+i, key) {
			source = reuse.Hot
		}
		s.note(source, kv.BlockTokens)
	}
}

// note counts prompt tokens whose KV was there, once: not what is found again after
// it was given up.
func (s *sequence) note(from reuse.Source, tokens int) {
	if s.first == 0 && !s.preempted {
		s.ledger.Add(from, tokens)
	}
}

// yield gives all blocks up; what was sealed is found again by key when the
// sequence continues.
func (s *sequence) yield() {
	s.kv.Drop()
	s.keys = s.scope.Extend(s.keys, s.tokens, kv.BlockTokens)
	s.preempted = true
}

// releaseOwn lets go of the agent's table.
func (s *sequence) releaseOwn() {
	if s.own != nil {
		s.own.Release()
		s.own = nil
	}
}

// reserveAhead is how many generated tokens a turn's blocks are reserved for.
const reserveAhead = 256

// target is the length blocks are reserved for at admission.
func (s *sequence) target() int { return min(s.limit, len(s.tokens)+reserveAhead) }
