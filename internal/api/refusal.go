package api

import (
	"errors"
	"fmt"
	"net/http"

	"mneme/internal/api/openai"
	"mneme/internal/chat"
	"mneme/internal/engine"
)

var (
	// errLoading is answered while there is no engine.
	errLoading = errors.New("the model is loading")
	// errGone ends a handler whose client does not read any more.
	errGone = errors.New("client gone")
)

// refusal is err as the outside may see it. What we do not know by name is a
// 500 without details; the log has them.
func refusal(err error) *openai.Error {
	var known *openai.Error
	if errors.As(err, &known) {
		return known
	}
	if e := badRequest(err); e != nil {
		return e
	}
	for _, s := range states {
		if errors.Is(err, s.err) {
			return &openai.Error{Status: s.status, Message: s.err.Error(), Type: s.kind, Code: s.code}
		}
	}
	return &openai.Error{Status: http.StatusInternalServerError, Message: "internal error", Type: openai.TypeServer, Code: "internal_error"}
}

// states are the errors that name a state of the server or of an agent.
var states = []struct {
	err    error
	status int
	kind   string
	code   string
}{
	{errLoading, http.StatusServiceUnavailable, openai.TypeServer, "loading"},
	{engine.ErrDraining, http.StatusServiceUnavailable, openai.TypeServer, "draining"},
	{engine.ErrQueueFull, http.StatusTooManyRequests, openai.TypeRateLimit, "queue_full"},
	{engine.ErrNoAgent, http.StatusNotFound, openai.TypeInvalid, "agent_not_found"},
	{engine.ErrAgentExists, http.StatusConflict, openai.TypeInvalid, "agent_exists"},
	{engine.ErrAgentBusy, http.StatusConflict, openai.TypeInvalid, "agent_busy"},
	{engine.ErrOtherModel, http.StatusConflict, openai.TypeInvalid, "agent_of_other_model"},
	{engine.ErrNotStored, http.StatusConflict, openai.TypeInvalid, "agent_not_stored"},
}

// badRequest is err as a 400, or nil when it is none.
func badRequest(err error) *openai.Error {
	var (
		long     *engine.ContextError
		capacity *engine.CapacityError
		input    *engine.InputError
		template *chat.TemplateError
		e        *openai.Error
	)
	switch {
	case errors.As(err, &long):
		e = openai.Invalid("messages", "This model's maximum context length is %d tokens. However, your messages resulted in %d tokens. Please reduce the length of the messages.", long.Context, long.Tokens)
		e.Code = "context_length_exceeded"
	case errors.As(err, &capacity):
		e = openai.Invalid("messages", "%v", capacity)
		e.Code = "kv_capacity_exceeded"
	case errors.As(err, &input):
		e = openai.Invalid(input.Field, "%v", input)
	case errors.As(err, &template):
		e = openai.Invalid("messages", "the model's chat template refuses these messages: %v", template)
	}
	return e
}

func noModel(asked, served string) error {
	return &openai.Error{
		Status:  http.StatusNotFound,
		Message: fmt.Sprintf("the model %q does not exist here; this server has %q", clip(asked), served),
		Type:    openai.TypeInvalid,
		Param:   "model",
		Code:    "model_not_found",
	}
}

// setRetry tells a client that may come again when to.
func setRetry(h http.Header, e *openai.Error) {
	if e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
}
