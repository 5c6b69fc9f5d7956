package meter

import (
	"github.com/prometheus/client_golang/prometheus"

	"mneme/internal/trace"
)

// server collects what is known of the server itself, with an engine or without.
type server struct {
	ready func() error
	spans func() trace.Stats
}

var (
	descReady   = newDesc("mneme_ready", "1 when a turn would be taken; 0 while the model loads, the server drains, or a step is stuck.")
	descSent    = newDesc("mneme_spans_sent_total", "Spans that a collector of OpenTelemetry has taken.")
	descDropped = newDesc("mneme_spans_dropped_total", "Spans that were dropped: the queue was full, or the collector did not take them.")
)

// Describe implements prometheus.Collector.
func (s server) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReady
	ch <- descSent
	ch <- descDropped
}

// Collect implements prometheus.Collector.
func (s server) Collect(ch chan<- prometheus.Metric) {
	ready, spans := int64(1), s.spans()
	if s.ready() != nil {
		ready = 0
	}
	ch <- gauge(descReady, ready)
	ch <- prometheus.MustNewConstMetric(descSent, prometheus.CounterValue, float64(spans.Sent))
	ch <- prometheus.MustNewConstMetric(descDropped, prometheus.CounterValue, float64(spans.Dropped))
}
