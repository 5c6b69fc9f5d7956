package trace

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// complainEvery is how often at most a collector that is not there is logged.
const complainEvery = time.Minute

// queue is where spans wait that have ended; its goroutine sends them in batches.
// It implements sdk.SpanProcessor.
type queue struct {
	sender  *sender
	timeout time.Duration // for a batch
	delay   time.Duration // from a batch's first span to its sending
	batch   int           // spans at most
	log     *slog.Logger

	spans   chan sdk.ReadOnlySpan
	sent    atomic.Int64
	dropped atomic.Int64

	stopping sync.Once
	stop     chan struct{}
	done     chan struct{} // closed when all is sent or given up
	ctx      context.Context
	giveUp   context.CancelFunc // ends ctx, that of what is being sent

	complained time.Time // the goroutine's own
}

func newQueue(s Settings, log *slog.Logger) *queue {
	q := &queue{
		sender: newSender(s), timeout: s.Timeout, delay: s.Delay, batch: s.Batch, log: log,
		spans: make(chan sdk.ReadOnlySpan, s.Queue), stop: make(chan struct{}), done: make(chan struct{}),
	}
	q.ctx, q.giveUp = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart implements sdk.SpanProcessor.
func (q *queue) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor: it takes a span if there is room.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	select {
	case q.spans <- s:
	default:
		q.dropped.Add(1)
	}
}

// ForceFlush implements sdk.SpanProcessor; nobody asks for it.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements sdk.SpanProcessor: what waits is sent, until ctx is done.
func (q *queue) Shutdown(ctx context.Context) error {
	q.stopping.Do(func() { close(q.stop) })
	select {
	case <-q.done:
	case <-ctx.Done():
		q.giveUp()
		<-q.done
	}
	q.giveUp()
	q.sender.client.CloseIdleConnections()
	return nil
}

func (q *queue) run() {
	defer close(q.done)
	for more := true; more; {
		var batch []sdk.ReadOnlySpan
		batch, more = q.gather()
		q.send(batch)
	}
}

// gather takes the next batch; more is false for the last one.
func (q *queue) gather() (batch []sdk.ReadOnlySpan, more bool) {
	select {
	case s := <-q.spans:
		batch = append(batch, s)
	case <-q.stop:
	}
	late := time.NewTimer(q.delay)
	defer late.Stop()
	for len(batch) < q.batch {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		case <-late.C:
			return batch, true
		case <-q.stop:
			return q.rest(batch)
		}
	}
	return batch, true
}

// rest fills a batch with what there is.
func (q *queue) rest(batch []sdk.ReadOnlySpan) (full []sdk.ReadOnlySpan, more bool) {
	for len(batch) < q.batch {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		default:
			return batch, false
		}
	}
	return batch, true
}

// send has a batch arrive, or drops it.
func (q *queue) send(batch []sdk.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(q.ctx, q.timeout)
	defer cancel()
	refused, err := q.sender.send(ctx, batch)
	q.sent.Add(int64(len(batch) - refused))
	q.dropped.Add(int64(refused))
	if now := time.Now(); err != nil && now.Sub(q.complained) >= complainEvery {
		q.complained = now
		q.log.Warn("spans are lost", "collector", q.sender.shown, "spans", refused, "error", err)
	}
}
