package resources

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"mneme/internal/api/wire"
	"mneme/internal/engine"
	"mneme/internal/kv"
)

// agentJSON is an agent as the outside sees it.
type agentJSON struct {
	ID       string     `json:"id"`
	Object   string     `json:"object"` // "agent"
	Model    string     `json:"model"`
	Tokens   int        `json:"tokens"`
	Turns    int        `json:"turns"`
	Tier     kv.Tier    `json:"tier"`
	Bytes    agentBytes `json:"bytes"`
	Parent   string     `json:"parent,omitempty"`
	Pinned   bool       `json:"pinned"`
	Created  string     `json:"created_at"`
	LastUsed string     `json:"last_used_at"`
}

// agentBytes is the KV of an agent; shared is the part of hot that others hold
// too.
type agentBytes struct {
	Hot    int64 `json:"hot"`
	Disk   int64 `json:"disk"`
	Shared int64 `json:"shared"`
}

// turnJSON is one turn of an agent. Counts are tokens.
type turnJSON struct {
	Turn       int                 `json:"turn"`
	Tokens     int                 `json:"tokens"` // of the agent after it
	Prompt     int                 `json:"prompt_tokens"`
	Cached     int                 `json:"cached_tokens"`
	Completion int                 `json:"completion_tokens"`
	Finish     engine.FinishReason `json:"finish_reason"`
	Created    string              `json:"created_at"`
}

func showAgent(a engine.AgentInfo) agentJSON {
	return agentJSON{
		ID:       string(a.ID),
		Object:   "agent",
		Model:    a.Model,
		Tokens:   a.Tokens,
		Turns:    a.Turns,
		Tier:     a.Tier,
		Bytes:    agentBytes{Hot: a.BytesHot, Disk: a.BytesDisk, Shared: a.BytesShare},
		Parent:   string(a.Parent),
		Pinned:   a.Pinned,
		Created:  timestamp(a.Created),
		LastUsed: timestamp(a.LastUsed),
	}
}

func showTurn(t engine.TurnInfo) turnJSON {
	return turnJSON{
		Turn:       t.Turn,
		Tokens:     t.Tokens,
		Prompt:     t.Prompt,
		Cached:     t.Cached,
		Completion: t.Completion,
		Finish:     t.Finish,
		Created:    timestamp(t.Created),
	}
}

// timestamp is RFC 3339 in UTC, as all our own resources have it.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// List answers with all agents, by id.
func (d Desk) List() error {
	agents := []agentJSON{}
	for _, a := range d.Engine.Agents(d.Namespace) {
		agents = append(agents, showAgent(a))
	}
	slices.SortFunc(agents, func(a, b agentJSON) int { return cmp.Compare(a.ID, b.ID) })
	return d.JSON(http.StatusOK, wire.NewList(agents))
}

// Create makes an agent at turn 0.
func (d Desk) Create() error {
	o, err := d.Object("id")
	if err != nil {
		return err
	}
	o.Require("id")
	id := o.Text("id", "")
	if err := o.Err(); err != nil {
		return err
	}
	if err := d.SetAgent(id, "id"); err != nil {
		return err
	}
	return d.made(d.Engine.CreateAgent(d.Namespace, engine.AgentID(id)))
}

// Get answers with an agent.
func (d Desk) Get() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	return d.answerAgent()
}

// answerAgent shows the exchange's agent as it is now.
func (d Desk) answerAgent() error {
	return d.became(d.Engine.Agent(d.Namespace, d.Agent))
}

// Delete erases an agent.
func (d Desk) Delete() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	if err := d.Engine.DeleteAgent(d.Namespace, d.Agent); err != nil {
		return err
	}
	d.Prints.Forget(d.Namespace, d.Agent)
	return d.Empty(http.StatusNoContent)
}

// Turns answers with what each turn of an agent cost.
func (d Desk) Turns() error {
	if err := d.PathAgent(); err != nil {
		return err
	}
	infos, err := d.Engine.Turns(d.Namespace, d.Agent)
	if err != nil {
		return err
	}
	turns := make([]turnJSON, len(infos))
	for i, t := range infos {
		turns[i] = showTurn(t)
	}
	return d.JSON(http.StatusOK, wire.NewList(turns))
}
