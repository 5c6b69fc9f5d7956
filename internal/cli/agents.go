package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mneme/internal/cli/value"
)

// agentsCommand is what every command below `mneme agents` shares.
type agentsCommand struct {
	out    io.Writer
	addr   value.Address
	asJSON bool
}

func newAgents(w World) *cobra.Command {
	a := &agentsCommand{out: w.Out, addr: defaultAddr}
	cmd := &cobra.Command{Use: "agents", Short: "Look at the agents of a running server, put them aside or remove them", RunE: needCommand, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(
		a.reading("ls", "List the agents", exactly(0, "nothing"), a.list),
		a.reading("show ID", "Show one agent", exactly(1, "an agent id"), a.show),
		a.reading("turns ID", "List an agent's turns", exactly(1, "an agent id"), a.turns),
		a.command("evict ID", "Write an agent out and drop it from memory", exactly(1, "an agent id"), a.evict),
		a.command("rm ID", "Delete an agent and what it remembers", exactly(1, "an agent id"), a.remove),
	)
	return cmd
}

func (a *agentsCommand) command(use, short string, args cobra.PositionalArgs, run func(context.Context, *client, []string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), newClient(a.addr), args) },
	}
	cmd.Flags().Var(&a.addr, "addr", "the server's address")
	return cmd
}

// reading is a command with a table for people and --json for programs.
func (a *agentsCommand) reading(use, short string, args cobra.PositionalArgs, run func(context.Context, *client, []string) error) *cobra.Command {
	cmd := a.command(use, short, args, run)
	cmd.Flags().BoolVar(&a.asJSON, "json", false, "print the server's JSON")
	return cmd
}

func (a *agentsCommand) list(ctx context.Context, c *client, _ []string) error {
	var answer struct {
		Data []agent `json:"data"`
	}
	return a.get(ctx, c, "/v1/agents", &answer, func(w io.Writer) {
		fmt.Fprintln(w, "AGENT\tTURNS\tTOKENS\tTIER\tMEMORY\tSHARED\tDISK\tLAST USED")
		for _, g := range answer.Data {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.Turns, g.Tokens, g.Tier,
				value.Bytes(g.Bytes.Hot), value.Bytes(g.Bytes.Shared), value.Bytes(g.Bytes.Disk), when(g.LastUsed))
		}
	})
}

func (a *agentsCommand) show(ctx context.Context, c *client, args []string) error {
	var g agent
	return a.get(ctx, c, agentPath(args[0]), &g, func(w io.Writer) {
		fmt.Fprintf(w, "agent\t%s\nmodel\t%s\nturns\t%d\ntokens\t%d\ntier\t%s\n", g.ID, g.Model, g.Turns, g.Tokens, g.Tier)
		fmt.Fprintf(w, "memory\t%s, %s of it shared\ndisk\t%s\n", value.Bytes(g.Bytes.Hot), value.Bytes(g.Bytes.Shared), value.Bytes(g.Bytes.Disk))
		if g.Parent != "" {
			fmt.Fprintf(w, "parent\t%s\n", g.Parent)
		}
		fmt.Fprintf(w, "created\t%s\nlast used\t%s\n", when(g.Created), when(g.LastUsed))
	})
}

func (a *agentsCommand) turns(ctx context.Context, c *client, args []string) error {
	var answer struct {
		Data []turn `json:"data"`
	}
	return a.get(ctx, c, agentPath(args[0], "turns"), &answer, func(w io.Writer) {
		fmt.Fprintln(w, "TURN\tPROMPT\tCACHED\tNEW\tANSWER\tTOKENS\tENDED BY\tAT")
		for _, t := range answer.Data {
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", t.Turn, t.Prompt, t.Cached, t.Prompt-t.Cached, t.Completion, t.Tokens, t.Finish, when(t.Created))
		}
	})
}

func (a *agentsCommand) evict(ctx context.Context, c *client, args []string) error {
	_, err := c.call(ctx, http.MethodPost, agentPath(args[0], "evict"))
	return err
}

func (a *agentsCommand) remove(ctx context.Context, c *client, args []string) error {
	_, err := c.call(ctx, http.MethodDelete, agentPath(args[0]))
	return err
}

// get fetches path into answer and prints it: table writes tab-separated cells.
func (a *agentsCommand) get(ctx context.Context, c *client, path string, answer any, table func(io.Writer)) error {
	body, err := c.call(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	if a.asJSON {
		_, err := fmt.Fprintf(a.out, "%s\n", body)
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("server's answer: %w", err)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
