// Package refusal has the errors of turns that cannot run, or not now, with what
// they say. Who refuses is engine.
package refusal

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrAgentExists is why a taken name is not given again.
	ErrAgentExists = errors.New("agent exists")
	// ErrDraining is why nothing is taken once shutdown has begun.
	ErrDraining = errors.New("server is shutting down")
	// ErrQueueFull is why a turn is refused when too many wait.
	ErrQueueFull = errors.New("too many requests waiting")
	// ErrAgentQueueFull is why it is refused when too many of its agent wait.
	ErrAgentQueueFull = errors.New("too many requests of this agent waiting")
	// ErrTooLate is why it is refused when its first token would come too late.
	ErrTooLate = errors.New("the first token would come too late")
)

// Busy says that a turn is not taken now, why, and when it may be.
type Busy struct {
	Why       error         // one of the engine's
	Retry     time.Duration // after which it should be asked again
	Predicted time.Duration // when its first token would have come; 0 when that is not the reason
}

func (e *Busy) Error() string {
	if e.Predicted > 0 {
		return fmt.Sprintf("%v: it is expected in %v", e.Why, e.Predicted.Round(time.Millisecond))
	}
	return e.Why.Error()
}

func (e *Busy) Unwrap() error { return e.Why }

// Context says that a prompt does not fit the context.
type Context struct {
	Tokens, Context int
	AtLeast         bool // the prompt is so long that its tokens were not counted
}

func (e *Context) Error() string {
	about := ""
	if e.AtLeast {
		about = "at least "
	}
	return fmt.Sprintf("prompt has %s%d tokens, the context holds %d", about, e.Tokens, e.Context)
}

// Capacity says that a turn can never fit the pool.
type Capacity struct{ NeedBytes, PoolBytes int64 }

func (e *Capacity) Error() string {
	return fmt.Sprintf("turn needs %d bytes of KV, the pool has %d", e.NeedBytes, e.PoolBytes)
}

// Input is a request that can never run as it stands.
type Input struct{ Field, Problem string }

func (e *Input) Error() string { return e.Field + ": " + e.Problem }
