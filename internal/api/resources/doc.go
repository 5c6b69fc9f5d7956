// Package resources answers for what is ours alone: agents, their turns, what can
// be done with them, exports, and tokens.
// It knows the fields of these. It leaves their errors and bodies to wire, and
// agents to the engine.
package resources

import (
	"context"
	"io"

	"mneme/internal/api/diagnose"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/engine/reuse"
)

// Engine is what these routes need of engine.Engine.
type Engine interface {
	Agents(namespace engine.Namespace) []engine.AgentInfo
	Agent(namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error)
	Turns(namespace engine.Namespace, id engine.AgentID) ([]engine.TurnInfo, error)
	Reuse(namespace engine.Namespace, id engine.AgentID, turn int) (reuse.Report, bool)
	CreateAgent(namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error)
	DeleteAgent(namespace engine.Namespace, id engine.AgentID) error
	Evict(ctx context.Context, namespace engine.Namespace, id engine.AgentID) error
	Fork(ctx context.Context, namespace engine.Namespace, from, to engine.AgentID, turn int) (engine.AgentInfo, error)
	Rollback(ctx context.Context, namespace engine.Namespace, id engine.AgentID, turn int) (engine.AgentInfo, error)
	Warm(ctx context.Context, namespace engine.Namespace, id engine.AgentID) (engine.AgentInfo, error)
	Pin(namespace engine.Namespace, id engine.AgentID, pinned bool) (engine.AgentInfo, error)
	Export(namespace engine.Namespace, id engine.AgentID, withKV bool, w io.Writer) error
	Import(ctx context.Context, namespace engine.Namespace, id engine.AgentID, r io.ReaderAt, sizeBytes int64) (engine.AgentInfo, error)
	Info() engine.Info
}

// Desk answers one exchange; each method is the handler of a route.
type Desk struct {
	*wire.Exchange
	Engine   Engine
	Prints   *diagnose.Log
	Settings Settings
}

// Settings are the same for all desks.
type Settings struct {
	ImportLimit int64  // bytes of an export to import
	SpoolDir    string // where one lies while it is checked; "" for the system's
}
