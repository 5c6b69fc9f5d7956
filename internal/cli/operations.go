package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mneme/internal/cli/remote"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
)

// operations are the commands that make agents of agents.
func (a *agentsCommand) operations() []*cobra.Command {
	return []*cobra.Command{
		a.forking(),
		a.command("rollback ID TURN", "Make an agent stand where it stood after a turn; later turns are forgotten", rollbackArgs, a.rollback),
		a.exporting(),
		a.importing(),
	}
}

func (a *agentsCommand) forking() *cobra.Command {
	turn := value.NoTurn
	cmd := a.command("fork ID NEW", "Make an agent that goes on from another, which stays as it is", forkArgs,
		func(ctx context.Context, s *remote.Server, args []string) error {
			return a.say(s.Fork(ctx, args[0], args[1], int(turn)))
		})
	cmd.Flags().Var(&turn, "turn", "the turn to go on from, 0 being before the first (default the last)")
	return cmd
}

func (a *agentsCommand) rollback(ctx context.Context, s *remote.Server, args []string) error {
	var turn value.Turn
	if err := turn.Set(args[1]); err != nil {
		return usage.Errorf("turn %q: %w", args[1], err)
	}
	return a.say(s.Rollback(ctx, args[0], int(turn)))
}

func (a *agentsCommand) exporting() *cobra.Command {
	var path string
	var noKV bool
	cmd := a.command("export ID", "Write an agent into a file that another server can import", agentID,
		func(ctx context.Context, s *remote.Server, args []string) error {
			switch {
			case path != "":
				return s.ExportFile(ctx, args[0], !noKV, path)
			case terminal(a.out):
				return usage.Errorf("an export is no text: give -o FILE")
			}
			return s.Export(ctx, args[0], !noKV, a.out)
		})
	cmd.Flags().StringVarP(&path, "output", "o", "", "the `file`, replaced when all of it has come (default standard output)")
	cmd.Flags().BoolVar(&noKV, "no-kv", false, "without its KV: a small file, whose agent is computed again")
	return cmd
}

func (a *agentsCommand) importing() *cobra.Command {
	var to string
	cmd := a.command("import FILE", "Make an agent of an exported file", exactly(1, "a file"),
		func(ctx context.Context, s *remote.Server, args []string) error {
			if to != "" {
				if err := checkAgent("--id", to); err != nil {
					return err
				}
			}
			return a.say(s.ImportFile(ctx, args[0], to))
		})
	cmd.Flags().StringVar(&to, "id", "", "the agent's `name` (default the one it had)")
	return cmd
}

// say prints what an operation made.
func (a *agentsCommand) say(g remote.Agent, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: %d turns, %d tokens\n", g.ID, g.Turns, g.Tokens)
	return err
}

func forkArgs(cmd *cobra.Command, args []string) error {
	if err := exactly(2, "an agent id and a new one")(cmd, args); err != nil {
		return err
	}
	if err := checkAgent("agent id", args[0]); err != nil {
		return err
	}
	return checkAgent("new agent id", args[1])
}

func rollbackArgs(cmd *cobra.Command, args []string) error {
	if err := exactly(2, "an agent id and a turn")(cmd, args); err != nil {
		return err
	}
	return checkAgent("agent id", args[0])
}
