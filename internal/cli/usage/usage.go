// Package usage marks what a user asked for that cannot be: a flag, a variable or
// a key with an impossible value. Which exit code that is, is cli's business.
package usage

import "fmt"

// Error marks a command line, a configuration or an environment that asks for
// something impossible.
type Error struct{ Err error }

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the error without the mark.
func (e *Error) Unwrap() error { return e.Err }

// Errorf is fmt.Errorf with the mark.
func Errorf(format string, args ...any) error {
	return &Error{fmt.Errorf(format, args...)}
}
