package team

import (
	"math"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/futex.h: the word is this process's own.
const (
	futexWait = 0 | 128
	futexWake = 1 | 128
)

// sleepWhile sleeps while the word has the value, until wakeAll; it may return
// early. The thread sleeps with its goroutine: parking that would take three
// times as long to end, for the scheduler has to find a thread for it first.
func sleepWhile(word *atomic.Uint32, value uint32) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(value), 0, 0, 0)
}

// wakeAll ends every sleepWhile of the word.
func wakeAll(word *atomic.Uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, math.MaxInt32, 0, 0, 0)
}
