// Package bench measures a server from outside, over HTTP, as its users meet
// it: how soon the first token comes when nothing, everything or only the disk
// remembers the conversation, how fast tokens follow for one agent and for
// eight, and what a common beginning costs. It knows load, clocks and tables;
// it knows nothing of what is inside the server.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mneme/internal/bench/durable"
	"mneme/internal/bench/figures"
	"mneme/internal/bench/probe"
)

const (
	maxLengths = 8

	// MaxRounds is how often everything is measured at most.
	MaxRounds = 20
)

// Options say what to measure and how often.
type Options struct {
	Lengths  []int         // prompt tokens of the first-token measurements
	Rounds   int           // how often everything is measured; ratios are taken within a round
	Seed     uint64        // of the prompts; a running server must not have seen it before
	Patience time.Duration // how long a server may say nothing at all; how slow it is does not matter
	Progress io.Writer     // a line per step, for a person who waits
}

// DefaultOptions are those of `mneme bench`.
func DefaultOptions() Options {
	return Options{
		Lengths:  []int{500, 2000, 7000},
		Rounds:   3,
		Seed:     uint64(time.Now().UnixNano()),
		Patience: 5 * time.Minute,
	}
}

// Check refuses what cannot be measured.
func (o Options) Check() error {
	switch {
	case len(o.Lengths) == 0 || len(o.Lengths) > maxLengths:
		return fmt.Errorf("%d lengths: give 1 to %d", len(o.Lengths), maxLengths)
	case o.Rounds < 1 || o.Rounds > MaxRounds:
		return fmt.Errorf("%d rounds: give 1 to %d", o.Rounds, MaxRounds)
	}
	for _, n := range o.Lengths {
		if n < minPrompt {
			return fmt.Errorf("a prompt of %d tokens is too short to measure: give %d or more", n, minPrompt)
		}
	}
	return nil
}

// run is one benchmark on its way.
type run struct {
	Options
	target Target
	client *probe.Client
	words  *probe.Words
	agents []string // every agent made, for cleaning up
	report Report
}

// Run measures everything and closes the target.
func Run(ctx context.Context, target Target, o Options) (report Report, err error) {
	r := &run{Options: o, target: target, client: probe.NewClient(target.URL(), o.Patience), words: probe.NewWords(o.Seed)}
	defer func() { err = errors.Join(err, target.Close(r.agents)) }()
	if err := o.Check(); err != nil {
		return Report{}, err
	}
	if err := r.meet(ctx); err != nil {
		return Report{}, err
	}
	for _, step := range []func(context.Context) error{r.firstTokens, r.decode, r.together, r.durable} {
		if err := step(ctx); err != nil {
			return Report{}, err
		}
	}
	r.report.Load.After = figures.LoadNow()
	return r.report, nil
}

// durable measures what lasts, on servers like the one that was spawned; that
// one ends first.
func (r *run) durable(ctx context.Context) error {
	s, ok := r.target.(*spawned)
	if !ok {
		return nil
	}
	s.Kill()
	o := durable.DefaultOptions()
	o.Program, o.Args, o.Rounds, o.Seed, o.Patience, o.Say = s.program, s.args, r.Rounds, r.Seed, r.Patience, r.say
	if s.hasKeys() {
		o.KeyFile = durable.GivenKeys
	}
	report, err := durable.Run(ctx, o)
	r.report.Durable = &report
	return err
}

// meet asks the server who it is and drops lengths beyond its context.
func (r *run) meet(ctx context.Context) error {
	server, err := r.client.Server(ctx)
	if err != nil {
		return err
	}
	r.report = Report{Server: server, Seed: r.Seed, Rounds: r.Rounds, Load: figures.Load{Before: figures.LoadNow()}}
	var fit []int
	for _, n := range r.Lengths {
		if n+roomForTurns <= server.Context {
			fit = append(fit, n)
		} else {
			r.report.Notes = append(r.report.Notes, fmt.Sprintf("%d tokens do not fit the context of %d and were left out", n, server.Context))
		}
	}
	r.Lengths = fit
	return r.warmUp(ctx)
}

// warmUp spends a short answer, so that no measurement pays for first touches.
func (r *run) warmUp(ctx context.Context) error {
	_, err := r.client.Chat(ctx, probe.Chat{Messages: probe.User(r.words.Text(8)), MaxTokens: 4})
	return err
}

// agent makes a name that no earlier run has used and notes it.
func (r *run) agent(format string, args ...any) string {
	id := fmt.Sprintf("bench-%x-", r.Seed) + fmt.Sprintf(format, args...)
	r.agents = append(r.agents, id)
	return id
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, format+"\n", args...)
	}
}
