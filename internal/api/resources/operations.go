package resources

import (
	"bytes"
	"errors"
	"math"
	"net/http"

	"mneme/internal/api/fields"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// Fork makes an agent of another as it stood after a turn. An error is
// about the agent that stands in the way of it.
func (d Desk) Fork() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	o, err := d.Object("id", "turn")
	if err != nil {
		return err
	}
	o.Require("id")
	id, turn := o.Text("id", ""), int(o.Int("turn", engine.LastTurn, 0, math.MaxInt32))
	if err := o.Err(); err != nil {
		return err
	}
	if err := wire.CheckAgent(id, "id"); err != nil {
		return err
	}
	to := engine.AgentID(id)
	a, err := d.Engine.Fork(d.Request.Context(), d.Namespace, d.Agent, to, turn)
	if err == nil || errors.Is(err, engine.ErrAgentExists) || errors.Is(err, engine.ErrAgentBusy) {
		d.IsAbout(to)
	}
	return d.made(a, err)
}

// made answers with an agent that was not there before.
func (d Desk) made(a engine.AgentInfo, err error) error {
	if err != nil {
		return err
	}
	d.Header().Set("Location", "/v1/agents/"+string(a.ID))
	return d.JSON(http.StatusCreated, showAgent(a))
}

// became answers with an agent as it stands now.
func (d Desk) became(a engine.AgentInfo, err error) error {
	if err != nil {
		return err
	}
	return d.JSON(http.StatusOK, showAgent(a))
}

// Rollback makes an agent stand where it stood after a turn.
func (d Desk) Rollback() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	o, err := d.Object("turn")
	if err != nil {
		return err
	}
	o.Require("turn")
	turn := int(o.Int("turn", 0, 0, math.MaxInt32))
	if err := o.Err(); err != nil {
		return err
	}
	a, err := d.Engine.Rollback(d.Request.Context(), d.Namespace, d.Agent, turn)
	if err == nil {
		d.Prints.RollBack(d.Namespace, d.Agent, turn)
	}
	return d.became(a, err)
}

// Pin keeps an agent in memory.
func (d Desk) Pin() error { return d.pin(true) }

// Unpin lets it go.
func (d Desk) Unpin() error { return d.pin(false) }

func (d Desk) pin(pinned bool) error {
	if err := d.bareAgent(); err != nil {
		return err
	}
	return d.became(d.Engine.Pin(d.Namespace, d.Agent, pinned))
}

// Warm brings an agent to memory.
func (d Desk) Warm() error {
	if err := d.bareAgent(); err != nil {
		return err
	}
	return d.became(d.Engine.Warm(d.Request.Context(), d.Namespace, d.Agent))
}

// Evict writes an agent out and drops it from memory.
func (d Desk) Evict() error {
	if err := d.bareAgent(); err != nil {
		return err
	}
	if err := d.Engine.Evict(d.Request.Context(), d.Namespace, d.Agent); err != nil {
		return err
	}
	return d.answerAgent()
}

// bareAgent takes the agent from the path of a request that says nothing else:
// its body is empty, or an object without members.
func (d Desk) bareAgent() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	body, err := d.Body()
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return err
	}
	o, err := fields.Parse(body)
	if err != nil {
		return err
	}
	o.Only()
	return o.Err()
}
