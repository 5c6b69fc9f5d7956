//go:build !linux

package machine

import "os"

// Quiet does nothing here.
func Quiet(*os.File) (restore func()) { return func() {} }
