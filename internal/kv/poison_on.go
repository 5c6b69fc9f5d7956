//go:build invariants

package kv

// poison fills a freed block with 0xFF: NaN in f16, so a stale read is seen.
func (p *Pool) poison(id BlockID) {
	p.eachHalf(id, func(half []byte, _ int) {
		for i := range half {
			half[i] = 0xFF
		}
	})
}
