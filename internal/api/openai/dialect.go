package openai

import (
	"net/http"

	"mneme/internal/api/wire"
)

// Dialect spells errors as the vendor does; our own resources do the same.
type Dialect struct{}

// body is what the outside reads: {"error":{message,type,param,code}}.
type body struct {
	Error details `json:"error"`
}

// details has null for what is not known.
type details struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// Refusal implements wire.Dialect.
func (Dialect) Refusal(e *wire.Error) any {
	return body{details{e.Message, kind(e.Status), orNull(e.Param), orNull(e.Code)}}
}

// Broken implements wire.Dialect: neither a finish nor [DONE] comes after it.
func (d Dialect) Broken(e *wire.Error) wire.Event { return wire.Event{Data: d.Refusal(e)} }

// kind is the vendor's name for errors of a status.
func kind(status int) string {
	switch {
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
