// Package engine runs turns: it owns the model, the batch and the open blocks,
// lets sequences join and leave at every step, and keeps the agents' memories.
// It leaves HTTP shapes to api, files to store, blocks to kv and arithmetic to
// model.
package engine

import (
	"errors"
	"fmt"
	"time"

	"mneme/internal/engine/stream"
	"mneme/internal/kv"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// AgentID names an agent within its namespace.
type AgentID string

// Namespace says who may share blocks with whom.
type Namespace string

// Request is one turn as its caller wants it.
type Request struct {
	Agent     AgentID       // "" for a turn without an agent
	Namespace Namespace     // who may share blocks with whom
	Text      string        // the rendered prompt; used when Tokens is nil
	Tokens    []token.ID    // the prompt as ids
	MaxTokens int           // 0: up to the context
	Sampling  sample.Params // checked by Submit
	Stop      []string      // never emitted
	IgnoreEOS bool
}

// What a turn gives, and how it came about; see package stream.
type (
	Stream       = stream.Stream
	Output       = stream.Output
	Usage        = stream.Usage
	Completed    = stream.Completed
	FinishReason = stream.FinishReason
	Start        = stream.Start
)

const (
	FinishStop    = stream.FinishStop
	FinishLength  = stream.FinishLength
	StartUncached = stream.StartUncached
	StartHot      = stream.StartHot
	StartRestored = stream.StartRestored
)

// AgentInfo is what is known of an agent.
type AgentInfo struct {
	ID         AgentID
	Namespace  Namespace
	Model      string
	Tokens     int // of its lineage
	Turns      int
	Tier       kv.Tier
	BytesHot   int64 // in the pool
	BytesDisk  int64
	BytesShare int64 // of the hot bytes, those that others hold too
	Parent     AgentID
	Pinned     bool
	Created    time.Time
	LastUsed   time.Time
}

// TurnInfo is one published turn of an agent.
type TurnInfo struct {
	Turn       int
	Tokens     int // of the lineage after it
	Prompt     int
	Cached     int
	Completion int
	Finish     FinishReason
	Created    time.Time
}

var (
	// ErrNoAgent is returned for an agent nobody made.
	ErrNoAgent = errors.New("no such agent")
	// ErrAgentExists is returned by CreateAgent for a taken name.
	ErrAgentExists = errors.New("agent exists")
	// ErrAgentBusy is returned when an operation would race a running turn.
	ErrAgentBusy = errors.New("agent has a turn running")
	// ErrDraining is returned once shutdown has begun.
	ErrDraining = errors.New("server is shutting down")
	// ErrOtherModel is returned for an agent that belongs to another model.
	ErrOtherModel = errors.New("agent belongs to another model")
	// ErrNotStored is returned by Evict when memory has the only copy of a turn.
	ErrNotStored = errors.New("the agent's last turn is not on disk")
	// ErrQueueFull is returned when too many turns wait.
	ErrQueueFull = errors.New("too many requests waiting")
)

// ContextError says that a prompt does not fit the context.
type ContextError struct {
	Tokens, Context int
	AtLeast         bool // the prompt is so long that its tokens were not counted
}

func (e *ContextError) Error() string {
	about := ""
	if e.AtLeast {
		about = "at least "
	}
	return fmt.Sprintf("prompt has %s%d tokens, the context holds %d", about, e.Tokens, e.Context)
}

// CapacityError says that a turn can never fit the pool.
type CapacityError struct{ NeedBytes, PoolBytes int64 }

func (e *CapacityError) Error() string {
	return fmt.Sprintf("turn needs %d bytes of KV, the pool has %d", e.NeedBytes, e.PoolBytes)
}

// InputError is a request that can never run as it stands.
type InputError struct{ Field, Problem string }

func (e *InputError) Error() string { return e.Field + ": " + e.Problem }
