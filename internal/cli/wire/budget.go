package wire

import (
	"cmp"
	"errors"
	"fmt"

	"mneme/internal/cli/machine"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
	"mneme/internal/kv"
)

// MinContext is the least number of tokens that a context may have.
const MinContext = 16

// Memory is what a machine has for us, in bytes; 0 is unknown.
type Memory struct{ Total, Free int64 }

// MemoryNow asks this machine.
func MemoryNow() (m Memory) {
	m.Total, _ = machine.TotalMemory() // who needs what is unknown says so
	m.Free, _ = machine.FreeMemory()
	return m
}

// Budget is the memory for KV and what one context takes of it.
type Budget struct {
	Bytes        int64
	Context      int // tokens
	ContextBytes int64
}

// Warning says that an agent cannot use its whole context, "" when it can.
func (b Budget) Warning() string {
	if b.Bytes >= b.ContextBytes {
		return ""
	}
	return fmt.Sprintf("--kv-memory: %s are less than the %s of one context of %d tokens: longer conversations will not fit", value.Bytes(b.Bytes), value.Bytes(b.ContextBytes), b.Context)
}

// PoolBudget decides on the memory for the KV of a model whose weights are in
// memory already. An error is that the settings ask for what is not there.
func PoolBudget(s Settings, spec kv.Spec, modelContext int, m Memory) (Budget, error) {
	if s.Context > modelContext {
		return Budget{}, usage.Errorf("--context %d: must be from %d to %d, the model was trained on %[3]d tokens", s.Context, MinContext, modelContext)
	}
	b := Budget{Context: cmp.Or(s.Context, modelContext)}
	b.ContextBytes = TurnBytes(spec, b.Context, s.StepSize)
	var err error
	b.Bytes, err = kvBudget(s.KVMemory, m, b.ContextBytes)
	return b, err
}

var errFreeUnknown = errors.New("free memory is unknown here: give --kv-memory in bytes")

// kvBudget is the pool's size in bytes: what was asked for, else a quarter of
// the free memory but at least what one context takes.
func kvBudget(asked value.Size, m Memory, contextBytes int64) (int64, error) {
	switch {
	case m.Total > 0 && asked.Bytes > m.Total:
		return 0, usage.Errorf("--kv-memory %s: must be at most %s, the memory of this machine", asked.String(), value.Bytes(m.Total))
	case asked.Bytes > 0:
		return asked.Bytes, nil
	case m.Free <= 0:
		return 0, errFreeUnknown
	case asked.Given():
		return asked.Of(m.Free), nil
	case contextBytes > m.Free:
		return 0, fmt.Errorf("one context takes %s of KV, %s are free: give a smaller --context", value.Bytes(contextBytes), value.Bytes(m.Free))
	}
	return max(m.Free/4, contextBytes), nil
}

// TurnBytes is what the pool reserves for a turn from nothing to so many tokens
// in steps of at most step tokens (kv.Pool.NeedFor): a window group has a step
// besides its window, and a block may be filled and one begun at once.
func TurnBytes(spec kv.Spec, tokens, step int) (total int64) {
	sealed, open := tokens/kv.BlockTokens, min(2, blocksFor(tokens))
	for g, group := range spec.Groups {
		first, later := min(1, sealed), max(0, sealed-1)
		if group.Window > 0 {
			later = min(later, blocksFor(group.Window)+1+blocksFor(step))
		}
		total += int64(first)*int64(spec.BlockBytes(g, spec.Format.Form(0))) +
			int64(later)*int64(spec.BlockBytes(g, spec.Format.Form(1))) +
			int64(open)*int64(spec.BlockBytes(g, spec.Format.Open()))
	}
	return total
}

func blocksFor(tokens int) int { return (tokens + kv.BlockTokens - 1) / kv.BlockTokens }
