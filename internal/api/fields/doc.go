// Package fields reads JSON objects strictly, member by member: what is missing,
// of another type or out of range is named by its path.
// It knows no dialect: which members there are and what they mean is for those
// who read them, and so is the status of an answer.
package fields

import "fmt"

// Error is a body, or a field in it, that is not what it must be.
type Error struct {
	Param   string // the path of the field; "" for the body as a whole
	Message string // says what and where
}

func (e *Error) Error() string { return e.Message }

// Invalid is an error about param.
func Invalid(param, format string, args ...any) *Error {
	return &Error{Param: param, Message: fmt.Sprintf(format, args...)}
}
