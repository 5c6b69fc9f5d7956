//go:build invariants

package engine

// checked says whether this is the check build.
const checked = true

// checkStep verifies the pool's numbers and every table, of running turns and
// of agents, after every step of the check build.
func (e *Engine) checkStep() {
	errs := []error{e.pool.CheckCounts()}
	for _, s := range e.running {
		errs = append(errs, s.kv.Check())
	}
	errs = append(errs, e.roster.Check())
	for _, err := range errs {
		if err != nil {
			panic(err)
		}
	}
}
