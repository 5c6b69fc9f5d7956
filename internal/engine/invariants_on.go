//go:build invariants

package engine

// checkStep verifies the pool's numbers after every step of the check build.
func (e *Engine) checkStep() {
	if err := e.pool.CheckCounts(); err != nil {
		panic(err)
	}
}
