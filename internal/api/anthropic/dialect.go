package anthropic

import (
	"errors"
	"fmt"
	"net/http"

	"mneme/internal/api/wire"
	"mneme/internal/engine"
)

// RequestHeader is the vendor's header with the request's id.
const RequestHeader = "Request-Id"

// Dialect spells errors as the vendor does.
type Dialect struct{}

// failure is what the outside reads.
type failure struct {
	Type    string  `json:"type"` // "error"
	Error   details `json:"error"`
	Request string  `json:"request_id"`
}

type details struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// Refusal implements wire.Dialect.
func (Dialect) Refusal(e *wire.Error) any {
	return failure{"error", details{kind(e.Status), message(e)}, e.Request}
}

// Broken implements wire.Dialect: no message_stop comes after it.
func (d Dialect) Broken(e *wire.Error) wire.Event {
	return wire.Event{Name: "error", Data: d.Refusal(e)}
}

// kinds are the vendor's names for errors of a status.
var kinds = map[int]string{
	http.StatusUnauthorized:          "authentication_error",
	http.StatusPaymentRequired:       "billing_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests:       "rate_limit_error",
	http.StatusServiceUnavailable:    "overloaded_error",
	http.StatusGatewayTimeout:        "timeout_error",
	statusOverloaded:                 "overloaded_error",
}

// statusOverloaded is the vendor's own.
const statusOverloaded = 529

func kind(status int) string {
	switch k, known := kinds[status]; {
	case known:
		return k
	case status >= http.StatusInternalServerError:
		return "api_error"
	}
	return "invalid_request_error"
}

// message says of a prompt that is too long what clients look for: they make the
// conversation shorter then.
func message(e *wire.Error) string {
	var long *engine.ContextError
	if !errors.As(e.Cause, &long) {
		return e.Message
	}
	about := ""
	if long.AtLeast {
		about = "at least "
	}
	return fmt.Sprintf("prompt is too long: %s%d tokens > %d maximum", about, long.Tokens, long.Context)
}
