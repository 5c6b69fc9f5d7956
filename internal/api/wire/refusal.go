package wire

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"mneme/internal/api/fields"
	"mneme/internal/chat"
	"mneme/internal/engine"
	"mneme/internal/store"
)

// Error is one refusal, in no dialect's words: what is wrong, where, and the
// HTTP status that fits.
type Error struct {
	Status  int
	Message string // says what and where
	Param   string // the field at fault; "" where there is none
	Code    string // for programs; "" for a bad field like any other

	Retry   time.Duration // after which it may go well, with 429 and 503; 0 when not known
	Cause   error         // what it says in other words; nil where nothing else knows
	Request string        // the id of the request, once it is answered
}

func (e *Error) Error() string { return e.Message }

// Reason is what the error counts as; there are few of them.
func (e *Error) Reason() string { return cmp.Or(e.Code, "invalid_request") }

// retrySeconds is Retry rounded up to what Retry-After can say, a second at least.
func (e *Error) retrySeconds() int { return int(max(time.Second, e.Retry+time.Second-1) / time.Second) }

// Invalid is a 400 about param.
func Invalid(param, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...), Param: param}
}

var (
	// ErrLoading is answered while there is no engine.
	ErrLoading = errors.New("the model is loading")
	// ErrGone ends a handler whose client does not read any more.
	ErrGone = errors.New("client gone")
)

// NotFound refuses the exchange's path, which leads nowhere.
func NotFound(x *Exchange) error {
	return &Error{
		Status:  http.StatusNotFound,
		Message: fmt.Sprintf("there is no %s on this server", x.Request.URL.Path),
		Code:    "not_found",
	}
}

// refusal is err as the outside may see it. What we do not know by name is a
// 500 without details; the log has them.
func (x *Exchange) refusal(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if e := badRequest(err, x.Input); e != nil {
		return e
	}
	if e := x.busyRefusal(err); e != nil {
		return e
	}
	if e := agentRefusal(err, string(x.Agent)); e != nil {
		return e
	}
	for _, s := range states {
		if errors.Is(err, s.err) {
			return &Error{Status: s.status, Message: s.err.Error(), Code: s.code}
		}
	}
	return &Error{Status: http.StatusInternalServerError, Message: "internal error", Code: "internal_error"}
}

// agentRefusal is err as a state of an agent, or nil when it is none.
func agentRefusal(err error, id string) *Error {
	id = cmp.Or(id, "of the export") // only an import does not know it
	for _, s := range agentStates {
		if errors.Is(err, s.err) {
			return &Error{Status: s.status, Message: fmt.Sprintf(s.message, id) + why(err), Code: s.code}
		}
	}
	if damaged := (*store.DamagedError)(nil); errors.As(err, &damaged) {
		return &Error{Status: http.StatusConflict, Message: fmt.Sprintf("agent %s is damaged on disk", id), Code: "agent_damaged"}
	}
	return nil
}

// why is what the engine says behind ErrOtherModel: which model, and which is
// served.
func why(err error) string {
	if _, reason, found := strings.Cut(err.Error(), engine.ErrOtherModel.Error()+": "); found {
		return ": " + reason
	}
	return ""
}

// states are the errors that name a state of the server.
var states = []struct {
	err    error
	status int
	code   string
}{
	{ErrLoading, http.StatusServiceUnavailable, "loading"},
	{engine.ErrDraining, http.StatusServiceUnavailable, "draining"},
	{engine.ErrQueueFull, http.StatusTooManyRequests, "queue_full"},
	{store.ErrNoSpace, http.StatusInsufficientStorage, "no_space"},
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

// badRequest is err as a 400, or nil when it is none; input is the field that
// holds the prompt.
func badRequest(err error, input string) *Error {
	var (
		field    *fields.Error
		long     *engine.ContextError
		capacity *engine.CapacityError
		wrong    *engine.InputError
		template *chat.TemplateError
		e        *Error
	)
	switch {
	case errors.As(err, &field):
		e = Invalid(field.Param, "%s", field.Message)
	case errors.As(err, &long):
		e = tooLong(long, input)
	case errors.As(err, &capacity):
		e = Invalid(input, "%v", capacity)
		e.Code = "kv_capacity_exceeded"
	case errors.As(err, &wrong):
		e = badInput(*wrong, input)
	case errors.As(err, &template):
		e = Invalid(input, "the model's chat template refuses these messages: %v", template)
	}
	return e
}

// tooLong says what the vendor's clients look for.
func tooLong(err *engine.ContextError, input string) *Error {
	about := ""
	if err.AtLeast {
		about = "at least "
	}
	e := Invalid(input, "This model's maximum context length is %d tokens. However, your %s resulted in %s%d tokens. Please reduce the length of the %s.",
		err.Context, input, about, err.Tokens, input)
	e.Code, e.Cause = "context_length_exceeded", err
	return e
}

// badInput is what the engine will not run. It calls a text that does not encode
// messages, whatever the dialect's field is.
func badInput(wrong engine.InputError, input string) *Error {
	if wrong.Field == "messages" && input != "" {
		wrong.Field = input
	}
	return Invalid(wrong.Field, "%v", &wrong)
}
