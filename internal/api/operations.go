package api

import (
	"bytes"
	"errors"
	"math"
	"net/http"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
)

// forkAgent makes an agent of another as it stood after a turn. An error is
// about the agent that stands in the way of it.
func forkAgent(x *exchange) error {
	if err := x.pathAgent(); err != nil {
		return err
	}
	o, err := x.object("id", "turn")
	if err != nil {
		return err
	}
	o.Require("id")
	to, turn := o.Text("id", ""), int(o.Int("turn", engine.LastTurn, 0, math.MaxInt32))
	if err := o.Err(); err != nil {
		return err
	}
	if err := checkAgent(to, "id"); err != nil {
		return err
	}
	a, err := x.engine.Fork(x.r.Context(), namespace, engine.AgentID(x.agent), engine.AgentID(to), turn)
	if err == nil || errors.Is(err, engine.ErrAgentExists) || errors.Is(err, engine.ErrAgentBusy) {
		x.isAbout(to)
	}
	return x.made(a, err)
}

// made answers with an agent that was not there before.
func (x *exchange) made(a engine.AgentInfo, err error) error {
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", "/v1/agents/"+string(a.ID))
	return x.json(http.StatusCreated, showAgent(a))
}

// became answers with an agent as it stands now.
func (x *exchange) became(a engine.AgentInfo, err error) error {
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showAgent(a))
}

// rollbackAgent makes an agent stand where it stood after a turn.
func rollbackAgent(x *exchange) error {
	if err := x.pathAgent(); err != nil {
		return err
	}
	o, err := x.object("turn")
	if err != nil {
		return err
	}
	o.Require("turn")
	turn := int(o.Int("turn", 0, 0, math.MaxInt32))
	if err := o.Err(); err != nil {
		return err
	}
	return x.became(x.engine.Rollback(x.r.Context(), namespace, engine.AgentID(x.agent), turn))
}

// pinning is the handler that keeps an agent in memory, or lets it go.
func pinning(pinned bool) handler {
	return func(x *exchange) error {
		if err := x.bareAgent(); err != nil {
			return err
		}
		return x.became(x.engine.Pin(namespace, engine.AgentID(x.agent), pinned))
	}
}

// warmAgent brings an agent to memory.
func warmAgent(x *exchange) error {
	if err := x.bareAgent(); err != nil {
		return err
	}
	a, err := x.engine.Warm(x.r.Context(), namespace, engine.AgentID(x.agent))
	if full := (*engine.CapacityError)(nil); errors.As(err, &full) {
		return noRoom(full, "")
	}
	return x.became(a, err)
}

// evictAgent writes an agent out and drops it from memory.
func evictAgent(x *exchange) error {
	if err := x.bareAgent(); err != nil {
		return err
	}
	if err := x.engine.Evict(x.r.Context(), namespace, engine.AgentID(x.agent)); err != nil {
		return err
	}
	return x.answerAgent()
}

// bareAgent takes the agent from the path of a request that says nothing else:
// its body is empty, or an object without members.
func (x *exchange) bareAgent() error {
	if err := x.pathAgent(); err != nil {
		return err
	}
	body, err := x.body()
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return err
	}
	o, err := openai.Parse(body)
	if err != nil {
		return err
	}
	o.Only()
	return o.Err()
}
