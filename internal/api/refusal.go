package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"mneme/internal/api/openai"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/store"
)

var (
	// errLoading is answered while there is no engine.
	errLoading = errors.New("the model is loading")
	// errGone ends a handler whose client does not read any more.
	errGone = errors.New("client gone")
)

// refusal is err, about the agent if there is one, as the outside may see it.
// What we do not know by name is a 500 without details; the log has them.
func refusal(err error, agent string) *openai.Error {
	var known *openai.Error
	if errors.As(err, &known) {
		return known
	}
	if e := badRequest(err); e != nil {
		return e
	}
	if e := agentRefusal(err, agent); e != nil {
		return e
	}
	for _, s := range states {
		if errors.Is(err, s.err) {
			return &openai.Error{Status: s.status, Message: s.err.Error(), Type: s.kind, Code: s.code}
		}
	}
	return &openai.Error{Status: http.StatusInternalServerError, Message: "internal error", Type: openai.TypeServer, Code: "internal_error"}
}

// agentRefusal is err as a state of an agent, or nil when it is none.
func agentRefusal(err error, id string) *openai.Error {
	id = cmp.Or(id, "of the export") // only an import does not know it
	for _, s := range agentStates {
		if errors.Is(err, s.err) {
			return &openai.Error{Status: s.status, Message: fmt.Sprintf(s.message, id), Type: openai.TypeInvalid, Code: s.code}
		}
	}
	return nil
}

// states are the errors that name a state of the server.
var states = []struct {
	err    error
	status int
	kind   string
	code   string
}{
	{errLoading, http.StatusServiceUnavailable, openai.TypeServer, "loading"},
	{engine.ErrDraining, http.StatusServiceUnavailable, openai.TypeServer, "draining"},
	{engine.ErrQueueFull, http.StatusTooManyRequests, openai.TypeRateLimit, "queue_full"},
	{store.ErrNoSpace, http.StatusInsufficientStorage, openai.TypeServer, "no_space"},
}

// agentStates are the errors that name a state of an agent; %s is its id.
var agentStates = []struct {
	err     error
	status  int
	code    string
	message string
}{
	{engine.ErrNoAgent, http.StatusNotFound, "agent_not_found", "no such agent: %s (an agent is there once its first turn has ended)"},
	{engine.ErrAgentExists, http.StatusConflict, "agent_exists", "agent %s exists already"},
	{engine.ErrAgentBusy, http.StatusConflict, "agent_busy", "agent %s has a turn running"},
	{engine.ErrOtherModel, http.StatusConflict, "agent_of_other_model", "agent %s belongs to another model"},
	{engine.ErrNotStored, http.StatusConflict, "agent_not_stored", "the last turn of agent %s is not on disk"},
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
		e = noRoom(capacity, "messages")
	case errors.As(err, &input):
		e = openai.Invalid(input.Field, "%v", input)
	case errors.As(err, &template):
		e = openai.Invalid("messages", "the model's chat template refuses these messages: %v", template)
	}
	return e
}

// noRoom is what can never fit the memory; param names what is too large.
func noRoom(err *engine.CapacityError, param string) *openai.Error {
	e := openai.Invalid(param, "%v", err)
	e.Code = "kv_capacity_exceeded"
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
