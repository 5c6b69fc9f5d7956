package meter

import (
	"github.com/prometheus/client_golang/prometheus"

	"mneme/internal/kv"
)

// poolLabels are the labels of a number of blocks.
type poolLabels struct{ form, state string }

// poolCount is blocks of one form in one state, over all groups.
type poolCount struct{ blocks, bytes int64 }

// countPool adds up the classes of the pool's groups.
func countPool(pool kv.Stats) map[poolLabels]poolCount {
	counts := map[poolLabels]poolCount{}
	for _, c := range pool.Classes {
		for state, blocks := range map[string]int{"free": c.Free, "reserved": c.Reserved, "held": c.Held, "cached": c.Cached} {
			at := poolLabels{c.Form.String(), state}
			sum := counts[at]
			sum.blocks += int64(blocks)
			sum.bytes += int64(blocks) * c.BlockBytes
			counts[at] = sum
		}
	}
	return counts
}

// collectPool reports blocks and bytes; what has no form yet is unused, what
// slabs lose to rounding is overhead.
func collectPool(ch chan<- prometheus.Metric, pool kv.Stats) {
	rest := pool.TotalBytes - pool.UnusedBytes
	for at, n := range countPool(pool) {
		ch <- gauge(descBlocks, n.blocks, at.form, at.state)
		ch <- gauge(descBytes, n.bytes, at.form, at.state)
		rest -= n.bytes
	}
	ch <- gauge(descBytes, pool.UnusedBytes, "none", "unused")
	ch <- gauge(descBytes, rest, "none", "overhead")
}
