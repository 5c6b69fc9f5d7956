//go:build !linux

package team

import (
	"sync/atomic"
	"time"
)

// sleepWhile sleeps a little; the caller looks at the word again.
func sleepWhile(*atomic.Uint32, uint32) { time.Sleep(50 * time.Microsecond) }

// wakeAll has nobody to wake: sleepers look by themselves.
func wakeAll(*atomic.Uint32) {}
