package meter

import (
	"github.com/prometheus/client_golang/prometheus"

	"mneme/internal/engine"
	"mneme/internal/engine/tally"
)

// gauges collects from the engine's Stats, of one instant each time.
type gauges struct {
	stats func() (engine.Stats, bool)
}

var (
	descBlocks  = newDesc("mneme_pool_blocks", "KV blocks in memory by stored form and state.", "form", "state")
	descRefused = newDesc("mneme_agents_refused_total", "Agents and exports that the engine would not use, by reason.", "reason")
	descBytes   = newDesc("mneme_pool_bytes", "Bytes of the pool by stored form and state; all together are its budget.", "form", "state")
)

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// reading is a number that the engine keeps.
type reading struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  func(engine.Stats) float64
	labels []string
}

// readings are all of them, the pool's apart.
var readings = []reading{
	now("mneme_requests_running", "Turns in the batch.", func(s engine.Stats) float64 { return float64(s.Running) }),
	now("mneme_requests_waiting", "Turns that wait for admission.", func(s engine.Stats) float64 { return float64(s.Waiting) }),
	now("mneme_restore_bytes_per_second", "Rate at which KV was read from disk lately; 0 when not known.", func(s engine.Stats) float64 { return s.RestoreRate }),
	now("mneme_prefill_tokens_per_second", "Rate at which prompts were computed lately; 0 when not known.", func(s engine.Stats) float64 { return s.PrefillRate }),
	total("mneme_blocks_restored_total", "KV blocks that were read from disk.", func(s engine.Stats) int64 { return s.Restored }),
	total("mneme_blocks_recomputed_total", "KV blocks that were on disk and were computed, being cheaper as measured.", func(s engine.Stats) int64 { return s.Recomputed }),
	total("mneme_blocks_other_format_total", "KV blocks that were on disk in another KV format and were computed again.", func(s engine.Stats) int64 { return s.OtherFormat }),
	total("mneme_agents_expired_total", "Agents deleted because they were unused for --agent-ttl.", func(s engine.Stats) int64 { return s.Expired }),
	total("mneme_agents_overruled_total", "Agents below their share of the memory that had to give their blocks up.", func(s engine.Stats) int64 { return s.ShareOverruled }),
	refused("agent_of_other_model", func(r engine.Refused) int64 { return r.Agents }),
	refused("import_of_other_model", func(r engine.Refused) int64 { return r.Imports }),
	refused("import_damaged", func(r engine.Refused) int64 { return r.Damaged }),
	total("mneme_store_errors_total", "Failed reads and writes of the store.", func(s engine.Stats) int64 { return s.StoreErrors }),
	total("mneme_store_quarantined_total", "Blocks on disk that were found damaged and set aside.", func(s engine.Stats) int64 { return s.Store.Quarantined }),
	now("mneme_store_agents", "Agents on disk.", func(s engine.Stats) float64 { return float64(s.Store.Agents) }),
	now("mneme_store_agent_bytes", "Bytes of agents' files on disk.", func(s engine.Stats) float64 { return float64(s.Store.AgentBytes) }),
	now("mneme_store_block_bytes", "Bytes of KV blocks on disk.", func(s engine.Stats) float64 { return float64(s.Store.SegmentBytes) }),
	now("mneme_store_named_bytes", "Bytes of KV blocks on disk that an agent names.", func(s engine.Stats) float64 { return float64(s.Store.NamedBytes) }),
	now("mneme_store_queued_bytes", "Bytes of KV blocks that wait to be written.", func(s engine.Stats) float64 { return float64(s.Store.QueuedBytes) }),
	total("mneme_store_blocks_dropped_total", "KV blocks that could not be written, or were lost; they will be computed again.", func(s engine.Stats) int64 { return s.Store.Dropped }),
	total("mneme_store_blocks_evicted_total", "KV blocks that no agent named and that were dropped for --kv-disk.", func(s engine.Stats) int64 { return s.Store.Evicted }),
	total("mneme_store_agents_damaged_total", "Agents that have lost turns to damage, or cannot be read.", func(s engine.Stats) int64 { return s.Store.DamagedManifests }),
	total("mneme_turns_preempted_total", "Turns that gave their blocks back and began again.", func(s engine.Stats) int64 { return s.Preempted }),
	total("mneme_step_stuck", "Steps that took longer than 30 seconds.", func(s engine.Stats) int64 { return s.Stuck }),
	total("mneme_sequences_surplus_total", "Ends of sequences that did not run; always 0, or a defect.", func(s engine.Stats) int64 { return s.Surplus }),
}

// histograms are what the engine counts by size.
var histograms = []struct {
	desc   *prometheus.Desc
	counts func(tally.Figures) tally.Counts
}{
	{newDesc("mneme_step_seconds", "Time of a step."), func(f tally.Figures) tally.Counts { return f.Seconds }},
	{newDesc("mneme_step_sequences", "Turns in a step."), func(f tally.Figures) tally.Counts { return f.Sequences }},
	{newDesc("mneme_step_budget_used", "Part of a step's budget for prompts that was used, of steps that computed some."), func(f tally.Figures) tally.Counts { return f.Prompts }},
	{newDesc("mneme_queue_wait_seconds", "Time from a turn's arrival to its admission."), func(f tally.Figures) tally.Counts { return f.Waits }},
	{newDesc("mneme_token_gap_seconds", "Time between two tokens of a turn."), func(f tally.Figures) tally.Counts { return f.Gaps }},
}

// now is a state; total a count since the start.
func now(name, help string, value func(engine.Stats) float64) reading {
	return reading{desc: newDesc(name, help), kind: prometheus.GaugeValue, value: value}
}

func total(name, help string, value func(engine.Stats) int64) reading {
	return count(newDesc(name, help), value)
}

// refused is a count of what the engine would not use.
func refused(reason string, value func(engine.Refused) int64) reading {
	return count(descRefused, func(s engine.Stats) int64 { return value(s.Refused) }, reason)
}

func count(d *prometheus.Desc, value func(engine.Stats) int64, labels ...string) reading {
	return reading{d, prometheus.CounterValue, func(s engine.Stats) float64 { return float64(value(s)) }, labels}
}

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- descBlocks
	ch <- descBytes
	for _, r := range readings {
		ch <- r.desc
	}
	for _, h := range histograms {
		ch <- h.desc
	}
}

// Collect implements prometheus.Collector; without an engine there is nothing.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	stats, ok := g.stats()
	if !ok {
		return
	}
	for _, r := range readings {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.value(stats), r.labels...)
	}
	for _, h := range histograms {
		c := h.counts(stats.Steps)
		ch <- prometheus.MustNewConstHistogram(h.desc, c.Total, c.Sum, c.Below)
	}
	collectPool(ch, stats.Pool)
}

func gauge(d *prometheus.Desc, value int64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
}
