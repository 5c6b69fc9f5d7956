package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mneme/internal/cli/remote"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
)

// agentsCommand is what every command below `mneme agents` shares.
type agentsCommand struct {
	out    io.Writer
	addr   value.Address
	key    string
	asJSON bool
}

func newAgents(w World) *cobra.Command {
	a := &agentsCommand{out: w.Out, addr: defaultAddr, key: w.Getenv(keyVariable)}
	cmd := &cobra.Command{Use: "agents", Short: "Look at the agents of a running server; fork, move or remove them", RunE: needCommand, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(
		a.listing(),
		a.reading("show ID", "Show one agent", agentID, a.show),
		a.reading("turns ID", "List an agent's turns", agentID, a.turns),
		a.command("evict ID", "Write an agent out and drop it from memory", agentID, a.evict),
		a.removal(),
		newVerify(w),
	)
	cmd.AddCommand(a.operations()...)
	return cmd
}

func (a *agentsCommand) removal() *cobra.Command {
	cmd := a.command("rm ID", "Delete an agent", agentID, a.remove)
	cmd.Long = "Delete an agent: nobody can go on from its turns, and what only it had is erased from the disk."
	return cmd
}

// agentID wants one argument that can be an agent's name.
func agentID(cmd *cobra.Command, args []string) error {
	if err := exactly(1, "an agent id")(cmd, args); err != nil {
		return err
	}
	return checkAgent("agent id", args[0])
}

// checkAgent refuses what no agent may be called, here as over HTTP: what says
// where the name stood.
func checkAgent(what, id string) error {
	if !agentName.MatchString(id) || id == "." || id == ".." {
		return usage.Errorf("%s %q: use 1 to 256 of A-Z a-z 0-9 . _ : -, and more than one or two dots", what, id)
	}
	return nil
}

// agentName is the alphabet of agents' names.
var agentName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,256}$`)

func (a *agentsCommand) command(use, short string, args cobra.PositionalArgs, run func(context.Context, *remote.Server, []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), remote.At(a.addr).As(a.key), args)
		},
	}
	cmd.Flags().Var(&a.addr, "addr", "the server's address")
	return cmd
}

// reading is a command with a table for people and --json for programs.
func (a *agentsCommand) reading(use, short string, args cobra.PositionalArgs, run func(context.Context, *remote.Server, []string) error) *cobra.Command {
	cmd := a.command(use, short, args, run)
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "print the server's JSON")
	return cmd
}

func (a *agentsCommand) list(ctx context.Context, s *remote.Server, _ []string) error {
	var answer remote.List[remote.Agent]
	return a.get(ctx, s, "/v1/agents", "list", &answer, func(w io.Writer) {
		fmt.Fprintln(w, "AGENT\tTURNS\tTOKENS\tTIER\tMEMORY\tSHARED\tDISK\tLAST USED")
		for _, g := range answer.Data {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", value.Clip(g.ID), g.Turns, g.Tokens, g.Tier,
				value.Bytes(g.Bytes.Hot), value.Bytes(g.Bytes.Shared), value.Bytes(g.Bytes.Disk), value.Time(g.LastUsed))
		}
	})
}

func (a *agentsCommand) show(ctx context.Context, s *remote.Server, args []string) error {
	var g remote.Agent
	return a.get(ctx, s, remote.AgentPath(args[0]), "agent", &g, func(w io.Writer) {
		fmt.Fprintf(w, "agent\t%s\nmodel\t%s\nturns\t%d\ntokens\t%d\ntier\t%s\n", g.ID, g.Model, g.Turns, g.Tokens, g.Tier)
		fmt.Fprintf(w, "memory\t%s, %s of it shared\ndisk\t%s\n", value.Bytes(g.Bytes.Hot), value.Bytes(g.Bytes.Shared), value.Bytes(g.Bytes.Disk))
		if g.Parent != "" {
			fmt.Fprintf(w, "parent\t%s\n", g.Parent)
		}
		if g.Pinned {
			fmt.Fprintln(w, "pinned\tin memory")
		}
		fmt.Fprintf(w, "created\t%s\nlast used\t%s\n", value.Time(g.Created), value.Time(g.LastUsed))
	})
}

func (a *agentsCommand) turns(ctx context.Context, s *remote.Server, args []string) error {
	var answer remote.List[remote.Turn]
	return a.get(ctx, s, remote.AgentPath(args[0], "turns"), "list", &answer, func(w io.Writer) {
		fmt.Fprintln(w, "TURN\tPROMPT\tCACHED\tNEW\tANSWER\tTOKENS\tENDED BY\tAT")
		for _, t := range answer.Data {
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", t.Turn, t.Prompt, t.Cached, t.Prompt-t.Cached, t.Completion, t.Tokens, t.Finish, value.Time(t.Created))
		}
	})
}

func (a *agentsCommand) evict(ctx context.Context, s *remote.Server, args []string) error {
	_, err := s.Call(ctx, http.MethodPost, remote.AgentPath(args[0], "evict"), nil)
	return err
}

func (a *agentsCommand) remove(ctx context.Context, s *remote.Server, args []string) error {
	_, err := s.Call(ctx, http.MethodDelete, remote.AgentPath(args[0]), nil)
	return err
}

// resource is something that says what it is.
type resource interface{ Is() string }

// get fetches path, which is to be of a kind, into answer and prints it: table
// writes tab-separated cells.
func (a *agentsCommand) get(ctx context.Context, s *remote.Server, path, kind string, answer resource, table func(io.Writer)) error {
	body, err := s.Call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("server's answer: %w", err)
	}
	if answer.Is() != kind {
		return fmt.Errorf("server's answer is %q, want %q: is it a mneme?", answer.Is(), kind)
	}
	if a.asJSON {
		_, err := fmt.Fprintf(a.out, "%s\n", bytes.TrimSpace(body))
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}
