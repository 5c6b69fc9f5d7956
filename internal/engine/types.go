// Package engine runs turns: it owns the model, the batch and the open blocks,
// lets sequences join and leave at every step, and keeps the agents' memories.
// It leaves HTTP shapes to api, files to store, blocks to kv and arithmetic to
// model.
package engine

import (
	"errors"
	"fmt"
	"time"

	"mneme/internal/engine/roster"
	"mneme/internal/engine/stream"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// Who a turn is for, and what is known of agents; see package roster.
type (
	AgentID   = roster.ID
	Namespace = roster.Namespace
	AgentInfo = roster.Info
	Refused   = roster.Refused
)

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

	Within sample.Constraint // what is generated is held to; nil: anything
	Parent AgentID           // noted of an agent that the turn makes

	// PromptOnly ends the turn when its prompt is computed: nothing is generated.
	PromptOnly bool
	// Score, if set, asks for the logprobs of the prompt's own tokens; all of
	// them are then computed anew.
	Score *Score
}

// Score says how the prompt's tokens are scored.
type Score struct{ Alternatives int } // most likely tokens at each place, 0 to 20

// RestoreMode says when blocks that are on disk are read.
type RestoreMode string

const (
	// RestoreAuto reads them unless computing them is measured to be cheaper.
	RestoreAuto RestoreMode = "auto"
	// RestoreAlways reads them.
	RestoreAlways RestoreMode = "always"
)

// What a turn gives, and how it came about; see package stream.
type (
	Stream       = stream.Stream
	Output       = stream.Output
	Usage        = stream.Usage
	Completed    = stream.Completed
	PromptToken  = stream.PromptToken
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
	ErrNoAgent = roster.ErrNoAgent
	// ErrAgentExists is returned by CreateAgent for a taken name.
	ErrAgentExists = errors.New("agent exists")
	// ErrAgentBusy is returned when an operation would race a running turn.
	ErrAgentBusy = roster.ErrBusy
	// ErrDraining is returned once shutdown has begun.
	ErrDraining = errors.New("server is shutting down")
	// ErrOtherModel is returned for an agent that belongs to another model.
	ErrOtherModel = roster.ErrOtherModel
	// ErrNotStored is returned by Evict when memory has the only copy of a turn.
	ErrNotStored = roster.ErrNotStored
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
