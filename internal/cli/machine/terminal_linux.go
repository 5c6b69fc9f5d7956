package machine

import (
	"os"

	"golang.org/x/sys/unix"
)

// Quiet stops a terminal from showing what is typed. restore has it show that
// again and forgets what was typed meanwhile; signals work all the time. It does
// nothing where f is no terminal.
func Quiet(f *os.File) (restore func()) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO | unix.ECHONL
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, &quiet)
	return func() {
		_ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, before)
	}
}
