//go:build !linux

package cli

import "errors"

// freeMemory cannot be asked for here.
func freeMemory() (int64, error) {
	return 0, errors.New("free memory is unknown on this system")
}
