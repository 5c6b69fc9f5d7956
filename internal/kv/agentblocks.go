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
//   - Its sealed blocks cover whole blocks of tokens from 0 on; an open block
//     holds the rest, and there is one exactly if there is a rest.
//   - Bytes of its tokens never change: others may append to the open block
//     behind them, and copy it before writing anything else.
type AgentBlocks struct {
	pool     *Pool
	tokens   []token.ID  // with KV
	keys     []Key       // of the sealed blocks
	sealed   [][]BlockID // [group][block]
	open     []BlockID   // [group], empty without a rest
	released atomic.Bool
}

// newAgentBlocks checks every invariant; the references pass to the new value.
func newAgentBlocks(pool *Pool, tokens []token.ID, keys []Key, sealed [][]BlockID, open []BlockID) *AgentBlocks {
	a := &AgentBlocks{pool: pool, tokens: tokens, keys: keys, sealed: sealed, open: open}
	if err := a.check(); err != nil {
		panic(err.Error())
	}
	return a
}

func (a *AgentBlocks) check() error {
	full, rest := len(a.tokens)/BlockTokens, len(a.tokens)%BlockTokens
	if len(a.keys) != full || len(a.sealed) != len(a.pool.spec.Groups) {
		return fmt.Errorf("kv: table of %d tokens with %d keys and %d groups", len(a.tokens), len(a.keys), len(a.sealed))
	}
	for g, ids := range a.sealed {
		if len(ids) != full || slices.Contains(ids, NoBlock) {
			return fmt.Errorf("kv: table of %d tokens has %d sealed blocks in group %d", len(a.tokens), len(ids), g)
		}
	}
	if (len(a.open) > 0) != (rest > 0) {
		return fmt.Errorf("kv: table of %d tokens with %d open blocks", len(a.tokens), len(a.open))
	}
	return nil
}

// Len is the number of tokens with KV.
func (a *AgentBlocks) Len() int { return len(a.tokens) }

// Tokens are those with KV; read only.
func (a *AgentBlocks) Tokens() []token.ID { return a.tokens }

// Keys are those of the sealed blocks; read only.
func (a *AgentBlocks) Keys() []Key { return a.keys }

// SealedBlock is the i-th sealed block of a group.
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

func (a *AgentBlocks) blocks() []BlockID {
	var ids []BlockID
	for _, s := range a.sealed {
		ids = append(ids, s...)
	}
	return append(ids, a.open...)
}

// Retain makes a second value over the same blocks, with references of its own.
func (a *AgentBlocks) Retain() *AgentBlocks {
	a.pool.Retain(a.blocks()...)
	return newAgentBlocks(a.pool, a.tokens, a.keys, a.sealed, a.open)
}

// Release drops the references; it must be called once.
func (a *AgentBlocks) Release() {
	if a.released.Swap(true) {
		panic(fmt.Sprintf("kv: table of %d tokens released twice", len(a.tokens)))
	}
	a.pool.Release(a.blocks()...)
}
