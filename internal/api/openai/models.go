package openai

import (
	"net/http"

	"mneme/internal/api/turn"
	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// Model is one entry of GET /v1/models.
type Model struct {
	ID      string    `json:"id"`
	Object  string    `json:"object"` // "model"
	Created int64     `json:"created"`
	OwnedBy string    `json:"owned_by"`
	Mneme   ModelNote `json:"mneme"`
}

// ModelNote is what mneme adds to a model.
type ModelNote struct {
	KVBytesPerToken int    `json:"kv_bytes_per_token"`
	Context         int    `json:"context"` // tokens
	KVFormat        string `json:"kv_format"`
	Fingerprint     string `json:"fingerprint"`
	KVMemoryBytes   int64  `json:"kv_memory_bytes"` // what the KV of all agents in memory may take
	AgentsFit       []Fit  `json:"agents_fit"`
}

// Fit says how many agents of a size have room in memory, sharing nothing.
type Fit struct {
	Tokens int   `json:"tokens"` // of each
	Agents int64 `json:"agents"`
}

// usualAgent is the size of an agent that models are compared by, in tokens.
const usualAgent = 4096

// ListModels is the handler of GET /v1/models.
func ListModels(d *turn.Desk) error {
	return d.JSON(http.StatusOK, wire.NewList([]Model{served(d)}))
}

// GetModel is the handler of GET /v1/models/{id}.
func GetModel(d *turn.Desk) error {
	id := d.Request.PathValue("id")
	if id == "" {
		return wire.NotFound(d.Exchange)
	}
	if err := d.CheckModel(id); err != nil {
		return err
	}
	return d.JSON(http.StatusOK, served(d))
}

func served(d *turn.Desk) Model {
	info, memoryBytes := d.Engine.Info(), d.Engine.Stats().Pool.TotalBytes
	return Model{
		ID:      info.Model,
		Object:  "model",
		Created: d.Since.Unix(),
		OwnedBy: "mneme",
		Mneme: ModelNote{
			KVBytesPerToken: info.KVBytesPerToken,
			Context:         info.Context,
			KVFormat:        info.KVFormat,
			Fingerprint:     info.Fingerprint,
			KVMemoryBytes:   memoryBytes,
			AgentsFit:       agentsFit(memoryBytes, info),
		},
	}
}

// agentsFit counts agents of the usual size, if the context has room for it, and
// of the whole context, by what their tables take between turns.
func agentsFit(memoryBytes int64, info engine.Info) []Fit {
	var fits []Fit
	for _, tokens := range []int{usualAgent, info.Context} {
		if tokens > info.Context || len(fits) > 0 && fits[0].Tokens == tokens {
			continue
		}
		fits = append(fits, Fit{tokens, memoryBytes / max(1, info.KV.TableBytes(tokens))})
	}
	return fits
}
