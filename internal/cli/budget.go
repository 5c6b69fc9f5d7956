package cli

import (
	"cmp"
	"errors"
	"fmt"

	"mneme/internal/cli/machine"
	"mneme/internal/cli/value"
	"mneme/internal/kv"
)

// budget is the memory for KV and what one context would take of it.
type budget struct {
	bytes        int64
	context      int // tokens
	contextBytes int64
}

// warning says that an agent cannot use its whole context, "" when it can.
func (b budget) warning() string {
	if b.bytes >= b.contextBytes {
		return ""
	}
	return fmt.Sprintf("--kv-memory: %s are less than the %s of one context of %d tokens: longer conversations will not fit", value.Bytes(b.bytes), value.Bytes(b.contextBytes), b.context)
}

// poolBudget decides on the memory for the KV of a model.
func poolBudget(s Settings, spec kv.Spec, modelContext int) (budget, error) {
	if s.Context > modelContext {
		return budget{}, usagef("--context %d: must be from %d to %d, the model was trained on %[3]d tokens", s.Context, minContext, modelContext)
	}
	b := budget{context: cmp.Or(s.Context, modelContext)}
	b.contextBytes = agentBytes(spec, b.context)
	free, _ := machine.FreeMemory() // 0: kvBudget says what to do
	total, _ := machine.TotalMemory()
	var err error
	b.bytes, err = kvBudget(s.KVMemory, total, free, b.contextBytes)
	return b, err
}

var errFreeUnknown = errors.New("free memory is unknown here: give --kv-memory in bytes")

// kvBudget is the pool's size in bytes: what was asked for, else a quarter of
// the free memory but at least what one context takes. 0 stands for unknown.
func kvBudget(asked value.Size, totalBytes, freeBytes, contextBytes int64) (int64, error) {
	switch {
	case totalBytes > 0 && asked.Bytes > totalBytes:
		return 0, usagef("--kv-memory %s: must be at most %s, the memory of this machine", asked.String(), value.Bytes(totalBytes))
	case asked.Bytes > 0:
		return asked.Bytes, nil
	case freeBytes <= 0:
		return 0, errFreeUnknown
	case asked.Given():
		return asked.Of(freeBytes), nil
	case contextBytes > freeBytes:
		return 0, fmt.Errorf("one context takes %s of KV, %s are free: give a smaller --context", value.Bytes(contextBytes), value.Bytes(freeBytes))
	}
	return max(freeBytes/4, contextBytes), nil
}

// agentBytes is what an agent of so many tokens takes from the pool: sealed
// blocks and, in full precision, the open one.
func agentBytes(spec kv.Spec, tokens int) int64 {
	var total int64
	for group := range spec.Groups {
		for block := range tokens / kv.BlockTokens {
			total += int64(spec.BlockBytes(group, spec.Format.Form(block)))
		}
		total += int64(spec.BlockBytes(group, kv.FormatF16.Form(1)))
	}
	return total
}
