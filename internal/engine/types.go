// Package engine runs turns: it owns the model, the batch and the open blocks,
// lets sequences join and leave at every step, and keeps the agents' memories.
// It leaves HTTP shapes to api, files to store, blocks to kv and arithmetic to
// model.
package engine

import (
	"time"

	"mneme/internal/engine/refusal"
	"mneme/internal/engine/roster"
	"mneme/internal/engine/stream"
	"mneme/internal/engine/terms"
	"mneme/internal/sample"
	"mneme/internal/token"
)

// Who a turn is for, and what is known of agents; see package roster.
type (
	AgentID   = roster.ID
	Namespace = roster.Namespace
	AgentInfo = roster.Info
	Refused   = roster.Refused
	TurnInfo  = roster.Turn
)

// What an engine and its turns are asked for; see package terms.
type (
	Config      = terms.Config
	Score       = terms.Score
	RestoreMode = terms.RestoreMode
	Step        = terms.Step
	Info        = terms.Info
	Stats       = terms.Stats
	FaultPoint  = terms.FaultPoint
)

const (
	MinPriority   = terms.MinPriority
	MaxPriority   = terms.MaxPriority
	RestoreAuto   = terms.RestoreAuto
	RestoreAlways = terms.RestoreAlways

	FaultEncode   = terms.FaultEncode
	FaultAllocate = terms.FaultAllocate
	FaultRestore  = terms.FaultRestore
	FaultForward  = terms.FaultForward
	FaultSample   = terms.FaultSample
	FaultSave     = terms.FaultSave
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

	Priority int           // MinPriority to MaxPriority; the higher goes first
	Weight   float64       // of the namespace beside others; 1 if 0
	MaxFirst time.Duration // it is refused if its first token is expected later; 0 is never

	Within sample.Constraint // what is generated is held to; nil: anything
	Parent AgentID           // noted of an agent that the turn makes

	// PromptOnly ends the turn when its prompt is computed: nothing is generated.
	PromptOnly bool
	// Score, if set, asks for the logprobs of the prompt's own tokens; all of
	// them are then computed anew.
	Score *Score
}

// What a turn gives, and how it came about; see package stream.
type (
	Stream       = stream.Stream
	Output       = stream.Output
	Usage        = stream.Usage
	Completed    = stream.Completed
	Timings      = stream.Timings
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

// Why turns and operations are refused; see package refusal.
var (
	ErrNoAgent        = roster.ErrNoAgent
	ErrAgentExists    = refusal.ErrAgentExists
	ErrAgentBusy      = roster.ErrBusy
	ErrDraining       = refusal.ErrDraining
	ErrOtherModel     = roster.ErrOtherModel
	ErrNotStored      = roster.ErrNotStored
	ErrQueueFull      = refusal.ErrQueueFull
	ErrAgentQueueFull = refusal.ErrAgentQueueFull
	ErrTooLate        = refusal.ErrTooLate
)

// What a turn is refused with; see package refusal.
type (
	ContextError  = refusal.Context
	CapacityError = refusal.Capacity
	InputError    = refusal.Input
	BusyError     = refusal.Busy
)
