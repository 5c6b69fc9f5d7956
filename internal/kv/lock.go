//go:build !nolock

package kv

import "sync"

// mutex guards the pool. The nolock build, which only the benchmark of the
// mutex's cost uses, has an empty one.
type mutex = sync.Mutex
