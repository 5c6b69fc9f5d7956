package kv

import (
	"fmt"
	"slices"
	"sync/atomic"

	"mneme/internal/token"
)

// AgentBlocks is the table of one published turn: which blocks hold the KV of
// which tokens.
//   - It never changes; a new turn makes a new value.
//   - It holds one reference to each of its blocks until Release.
//   - Its sealed blocks cover whole blocks of tokens from 0 on, in a group with
//     a window those that the next position may read; an open block holds the
//     rest, and there is one exactly if there is a rest.
//   - Bytes of its tokens never change: others may append to the open block
//     behind them, and copy it before writing anything else.
type AgentBlocks struct {
	pool     *Pool
	spec     Spec
	tokens   []token.ID  // with KV
	keys     []Key       // of the sealed blocks
	sealed   [][]BlockID // [group][block]
	open     []BlockID   // [group], empty without a rest
	released atomic.Bool
}

// newAgentBlocks checks every invariant; the references pass to the new value.
func newAgentBlocks(pool *Pool, spec Spec, tokens []token.ID, keys []Key, sealed [][]BlockID, open []BlockID) *AgentBlocks {
	a := &AgentBlocks{pool: pool, spec: spec, tokens: tokens, keys: keys, sealed: sealed, open: open}
	if err := a.check(); err != nil {
		panic(err.Error())
	}
	return a
}

func (a *AgentBlocks) check() error {
	full, rest := len(a.tokens)/BlockTokens, len(a.tokens)%BlockTokens
	if len(a.keys) != full || len(a.sealed) != len(a.spec.Groups) {
		return fmt.Errorf("kv: table of %d tokens with %d keys and %d groups", len(a.tokens), len(a.keys), len(a.sealed))
	}
	for g, ids := range a.sealed {
		held := a.spec.Groups[g].FirstRead(full)
		if len(ids) != full || slices.Contains(ids[held:], NoBlock) {
			return fmt.Errorf("kv: table of %d tokens has %d sealed blocks in group %d, held from %d on", len(a.tokens), len(ids), g, held)
		}
	}
	if (len(a.open) > 0) != (rest > 0) {
		return fmt.Errorf("kv: table of %d tokens with %d open blocks", len(a.tokens), len(a.open))
	}
	return nil
}

// Check verifies the table's invariants and that all its blocks are held.
func (a *AgentBlocks) Check() error {
	if err := a.check(); err != nil {
		return err
	}
	return a.pool.checkHeld(a.blocks())
}

// Len is the number of tokens with KV.
func (a *AgentBlocks) Len() int { return len(a.tokens) }

// Tokens are those with KV; read only.
func (a *AgentBlocks) Tokens() []token.ID { return a.tokens }

// Keys are those of the sealed blocks; read only.
func (a *AgentBlocks) Keys() []Key { return a.keys }

// SealedBlock is the i-th sealed block of a group, NoBlock if its window has
// passed it.
func (a *AgentBlocks) SealedBlock(group, i int) BlockID { return a.sealed[group][i] }

// OpenBlock is the open block of a group and the tokens in it, or NoBlock and 0.
func (a *AgentBlocks) OpenBlock(group int) (BlockID, int) {
	if len(a.open) == 0 {
		return NoBlock, 0
	}
	return a.open[group], len(a.tokens) % BlockTokens
}

// Bytes counts the blocks' bytes, and of these what others hold too.
func (a *AgentBlocks) Bytes() (total, shared int64) {
	for _, id := range a.blocks() {
		n := int64(a.pool.SizeOf(id))
		total += n
		if a.pool.refs(id) > 1 {
			shared += n
		}
	}
	return total, shared
}

// blocks are all held blocks, of each group the last first: given back in this
// order, the tail of a sequence is dropped before its head.
func (a *AgentBlocks) blocks() []BlockID {
	var ids []BlockID
	for g, s := range a.sealed {
		open := NoBlock
		if len(a.open) > 0 {
			open = a.open[g]
		}
		ids = append(ids, lastFirst(s, open)...)
	}
	return ids
}

func lastFirst(sealed []BlockID, open BlockID) []BlockID {
	ids := make([]BlockID, 0, len(sealed)+1)
	if open != NoBlock {
		ids = append(ids, open)
	}
	for _, id := range slices.Backward(sealed) {
		if id != NoBlock {
			ids = append(ids, id)
		}
	}
	return ids
}

// usable is the largest number of blocks, at most n, that a new sequence can
// begin with: every group still holds what its window needs there.
func (a *AgentBlocks) usable(n int) int {
	for ; n > 0; n-- {
		ok := true
		for g, ids := range a.sealed {
			ok = ok && !slices.Contains(ids[a.spec.Groups[g].FirstRead(n):n], NoBlock)
		}
		if ok {
			return n
		}
	}
	return 0
}

// Retain makes a second value over the same blocks, with references of its own.
func (a *AgentBlocks) Retain() *AgentBlocks {
	a.pool.Retain(a.blocks()...)
	return newAgentBlocks(a.pool, a.spec, a.tokens, a.keys, a.sealed, a.open)
}

// Release drops the references; it must be called once.
func (a *AgentBlocks) Release() {
	if a.released.Swap(true) {
		panic(fmt.Sprintf("kv: table of %d tokens released twice", len(a.tokens)))
	}
	a.pool.FreeAgent(a)
}
