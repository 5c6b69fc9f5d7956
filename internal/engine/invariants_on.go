//go:build invariants

package engine

// checked says whether this is the check build.
const checked = true

// checkStep verifies the pool's numbers after every step of the check build.
func (e *Engine) checkStep() {
	if err := e.pool.CheckCounts(); err != nil {
		panic(err)
	}
}
