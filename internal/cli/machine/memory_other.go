//go:build !linux

package machine

import "errors"

var errUnknown = errors.New("the machine's memory is unknown on this system")

// FreeMemory cannot be asked for here.
func FreeMemory() (int64, error) { return 0, errUnknown }

// TotalMemory cannot be asked for here.
func TotalMemory() (int64, error) { return 0, errUnknown }
