package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"mneme/internal/bench"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
)

// benchCommand is `mneme bench` with its flags.
type benchCommand struct {
	world   World
	addr    value.Address
	spawn   bool
	asJSON  bool
	lengths value.Counts
	rounds  value.Count
	quality perplexityFlags
}

func newBench(w World) *cobra.Command {
	o := bench.DefaultOptions()
	b := &benchCommand{world: w, lengths: o.Lengths, rounds: value.Within(o.Rounds, 1, bench.MaxRounds)}
	cmd := &cobra.Command{
		Use:   "bench --addr host:port | --spawn [-- serve flags] | --perplexity file",
		Short: "Measure a server from outside: first token, tokens per second, common beginnings; or the quality of KV formats",
		Args:  cobra.ArbitraryArgs,
	}
	cmd.Flags().Var(&b.addr, "addr", "measure the server that runs there")
	cmd.Flags().BoolVar(&b.spawn, "spawn", false, "start, kill and restart a server of its own on a temporary folder")
	cmd.Flags().BoolVar(&b.asJSON, "json", false, "print JSON instead of tables")
	cmd.Flags().Var(&b.lengths, "lengths", "prompt tokens of the first-token measurements")
	cmd.Flags().Var(&b.rounds, "rounds", "how often everything is measured")
	b.quality.register(w, cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if b.spawn && cmd.Flags().Changed("addr") {
			return usage.Errorf("--addr and --spawn exclude each other")
		}
		if err := b.quality.check(cmd.Flags(), b.spawn, args); err != nil {
			return err
		}
		return b.run(cmd.Context(), args)
	}
	return cmd
}

func (b *benchCommand) run(ctx context.Context, serveArgs []string) error {
	if b.quality.file != "" {
		return b.quality.run(ctx, b.world, b.asJSON)
	}
	o := bench.DefaultOptions()
	o.Lengths, o.Rounds, o.Progress = b.lengths, b.rounds.Int(), b.world.Err
	if err := o.Check(); err != nil {
		return &usage.Error{Err: err}
	}
	target, err := b.target(ctx, serveArgs)
	if err != nil {
		return err
	}
	report, err := bench.Run(ctx, target, o)
	if err != nil {
		return err
	}
	write := report.Table
	if b.asJSON {
		write = report.JSON
	}
	return errors.Join(write(b.world.Out), report.Check())
}

func (b *benchCommand) target(ctx context.Context, serveArgs []string) (bench.Target, error) {
	switch {
	case b.spawn:
		program, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find our own program: %w", err)
		}
		return bench.Spawn(ctx, program, serveArgs)
	case b.addr == "":
		return nil, usage.Errorf("give --addr of a running server, or --spawn")
	case len(serveArgs) > 0:
		return nil, usage.Errorf("serve flags %q only go with --spawn", serveArgs)
	}
	return bench.Running(b.addr.URL()), nil
}
