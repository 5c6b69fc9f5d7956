// Package perplexity measures what a KV format costs in quality. It runs a
// model over windows of a text with KV in f16 and in each format, side by side,
// and compares the whole vocabulary at every position: how well the text was
// foretold, and how far a format's distribution is from f16's.
//
// It runs the model in process, without engine and store. What it reports
// follows from the model, the tokens, the formats and the kernels' numerics
// class alone: not from threads, chunks or the clock.
package perplexity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"mneme/internal/bench/figures"
	"mneme/internal/kv"
	"mneme/internal/model"
	"mneme/internal/team"
)

const (
	// MinWindow and MaxWindow bound a window, in tokens: shorter ones hardly read
	// a sealed block.
	MinWindow = 2 * kv.BlockTokens
	MaxWindow = 1 << 17

	// MaxWindows is how many of a stream are measured at most.
	MaxWindows = 1 << 10

	maxThreads = 256
)

// Options say what is compared, and over which text.
type Options struct {
	Model    string      // path of the .gguf
	Kernel   string      // variant; "" is the best
	Weights  Weights     // how the model computes; WeightsStored
	File     string      // a text, or token ids: see ReadStreams
	Window   int         // tokens; 2,048
	Windows  int         // of each stream, at most; 4
	Formats  []kv.Format // compared with f16; q8, q4, q3
	Threads  int         // one per CPU
	Progress io.Writer   // a line that is written over; nil: quiet
}

// DefaultOptions are those of `mneme bench --perplexity`.
func DefaultOptions() Options {
	return Options{Weights: WeightsStored, Window: 2048, Windows: 4, Formats: []kv.Format{kv.FormatQ8, kv.FormatQ4, kv.FormatQ3}, Threads: runtime.NumCPU()}
}

// Check refuses what cannot be measured.
func (o Options) Check() error {
	switch {
	case o.Window < MinWindow || o.Window > MaxWindow:
		return fmt.Errorf("a window of %d tokens: give %d to %d", o.Window, MinWindow, MaxWindow)
	case o.Windows < 1 || o.Windows > MaxWindows:
		return fmt.Errorf("%d windows: give 1 to %d", o.Windows, MaxWindows)
	case o.Threads < 1 || o.Threads > maxThreads:
		return fmt.Errorf("%d threads: give 1 to %d", o.Threads, maxThreads)
	}
	if _, err := ParseWeights(string(o.Weights)); err != nil {
		return err
	}
	for _, f := range o.Formats {
		if _, err := kv.ParseFormat(string(f)); err != nil {
			return err
		}
	}
	return nil
}

// Run measures every window of every stream of the file.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if err := o.Check(); err != nil {
		return Report{}, err
	}
	began, load := time.Now(), figures.LoadNow()
	m, tokens, err := open(o)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	streams, err := ReadStreams(o.File, tokens, o.Window, o.Windows)
	if err != nil {
		return Report{}, err
	}
	if o.Window > m.Context {
		return Report{}, fmt.Errorf("a window of %d tokens does not fit the model's context of %d", o.Window, m.Context)
	}
	r := run{Options: o, model: m}
	if err := r.measure(ctx, streams); err != nil {
		return Report{}, err
	}
	r.report.Model, r.report.Kernel, r.report.Weights, r.report.Threads = modelName(m), m.Kernels().Class(), o.Weights, o.Threads
	r.report.Load = figures.Load{Before: load, After: figures.LoadNow()}
	r.report.Seconds = time.Since(began).Seconds()
	return r.report, nil
}

func modelName(m *model.Model) string {
	if m.Name != "" {
		return m.Name
	}
	return m.Arch
}

// run is one measurement on its way.
type run struct {
	Options
	model  *model.Model
	sides  []*side // f16, then the formats
	report Report
}

// measure runs all windows; what it takes it gives back.
func (r *run) measure(ctx context.Context, streams []Stream) (err error) {
	workers := team.New(r.Threads)
	defer workers.Close()
	defer func() {
		for _, s := range r.sides {
			err = errors.Join(err, s.close())
		}
	}()
	for _, f := range append([]kv.Format{kv.FormatF16}, r.Formats...) {
		s, err := newSide(r.model, f, r.Window, workers)
		if err != nil {
			return fmt.Errorf("kv %s: %w", f, err)
		}
		r.sides = append(r.sides, s)
	}
	for _, stream := range streams {
		if err := r.stream(ctx, stream); err != nil {
			return fmt.Errorf("stream %s: %w", stream.Name, err)
		}
	}
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, "\r\x1b[K")
	}
	return nil
}

// stream measures one stream and adds it to the report.
func (r *run) stream(ctx context.Context, s Stream) error {
	sums := make([][]tally, len(r.sides)) // [side][window]
	for i, ids := range s.Windows {
		w, err := r.window(ctx, ids, func(pos int) {
			if r.Progress != nil {
				fmt.Fprintf(r.Progress, "\r\x1b[K%s: window %d of %d, token %d of %d", s.Name, i+1, len(s.Windows), pos, len(ids))
			}
		})
		if err != nil {
			return fmt.Errorf("window %d: %w", i+1, err)
		}
		for k := range sums {
			sums[k] = append(sums[k], w[k])
		}
	}
	r.report.add(s, r.sides, sums)
	return nil
}
