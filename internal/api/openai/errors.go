package openai

import (
	"fmt"
	"net/http"
)

// Error types as the vendor names them.
const (
	TypeInvalid   = "invalid_request_error"
	TypeRateLimit = "rate_limit_error"
	TypeServer    = "server_error"
)

// Error is one refusal: what is wrong, where, and the HTTP status that fits.
type Error struct {
	Status  int    // HTTP status; not part of the body
	Message string // says what and where
	Type    string // one of the Type constants
	Param   string // the field at fault; "" becomes null
	Code    string // for programs; "" becomes null
}

func (e *Error) Error() string { return e.Message }

// Invalid is a 400 about param.
func Invalid(param, format string, args ...any) *Error {
	return &Error{
		Status:  http.StatusBadRequest,
		Message: fmt.Sprintf(format, args...),
		Type:    TypeInvalid,
		Param:   param,
	}
}

// Body is what the outside reads: {"error":{message,type,param,code}}.
type Body struct {
	Error Details `json:"error"`
}

// Details has null for what is not known.
type Details struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// Body is e without its status.
func (e *Error) Body() Body {
	return Body{Details{e.Message, e.Type, orNull(e.Param), orNull(e.Code)}}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
