package api

import (
	"net/http"
	"slices"

	"mneme/internal/api/openai"
	"mneme/internal/engine"
)

// checkModel refuses a name that is neither the model's nor an alias of it.
// Naming none is fine.
func (s *Server) checkModel(asked string, info engine.Info) error {
	if asked == "" || asked == info.Model || slices.Contains(s.options.Aliases, asked) {
		return nil
	}
	return noModel(asked, info.Model)
}

func listModels(x *exchange) error {
	return x.json(http.StatusOK, openai.NewList([]openai.Model{x.server.model(x.engine.Info())}))
}

func getModel(x *exchange) error {
	info := x.engine.Info()
	id := x.r.PathValue("id")
	if id == "" {
		return notFound(x)
	}
	if err := x.server.checkModel(id, info); err != nil {
		return err
	}
	return x.json(http.StatusOK, x.server.model(info))
}

func (s *Server) model(info engine.Info) openai.Model {
	return openai.Model{
		ID:      info.Model,
		Object:  "model",
		Created: s.began.Unix(),
		OwnedBy: "mneme",
		Mneme: openai.ModelNote{
			KVBytesPerToken: info.KVBytesPerToken,
			Context:         info.Context,
			KVFormat:        info.KVFormat,
			Fingerprint:     info.Fingerprint,
		},
	}
}
