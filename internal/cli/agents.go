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
		a.reading("show ID", "Show one agent", agentID, a.show),
		a.reading("turns ID", "List an agent's turns", agentID, a.turns),
		a.command("evict ID", "Write an agent out and drop it from memory", agentID, a.evict),
		a.removal(),
	)
	return cmd
}

func (a *agentsCommand) removal() *cobra.Command {
	cmd := a.command("rm ID", "Delete an agent", agentID, a.remove)
	cmd.Long = "Delete an agent: nobody can go on from its turns. Its KV stays on disk as unnamed blocks\n" +
		"until garbage collection, which this version does not have yet."
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
		return usagef("%s %q: use 1 to 256 of A-Z a-z 0-9 . _ : -, and more than one or two dots", what, id)
	}
	return nil
}

// agentName is the alphabet of agents' names.
var agentName = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,256}$`)

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
	var answer list[agent]
	return a.get(ctx, c, "/v1/agents", "list", &answer, func(w io.Writer) {
		fmt.Fprintln(w, "AGENT\tTURNS\tTOKENS\tTIER\tMEMORY\tSHARED\tDISK\tLAST USED")
		for _, g := range answer.Data {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", clip(g.ID), g.Turns, g.Tokens, g.Tier,
				value.Bytes(g.Bytes.Hot), value.Bytes(g.Bytes.Shared), value.Bytes(g.Bytes.Disk), when(g.LastUsed))
		}
	})
}

func (a *agentsCommand) show(ctx context.Context, c *client, args []string) error {
	var g agent
	return a.get(ctx, c, agentPath(args[0]), "agent", &g, func(w io.Writer) {
		fmt.Fprintf(w, "agent\t%s\nmodel\t%s\nturns\t%d\ntokens\t%d\ntier\t%s\n", g.ID, g.Model, g.Turns, g.Tokens, g.Tier)
		fmt.Fprintf(w, "memory\t%s, %s of it shared\ndisk\t%s\n", value.Bytes(g.Bytes.Hot), value.Bytes(g.Bytes.Shared), value.Bytes(g.Bytes.Disk))
		if g.Parent != "" {
			fmt.Fprintf(w, "parent\t%s\n", g.Parent)
		}
		fmt.Fprintf(w, "created\t%s\nlast used\t%s\n", when(g.Created), when(g.LastUsed))
	})
}

func (a *agentsCommand) turns(ctx context.Context, c *client, args []string) error {
	var answer list[turn]
	return a.get(ctx, c, agentPath(args[0], "turns"), "list", &answer, func(w io.Writer) {
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

// resource is something that says what it is.
type resource interface{ kind() string }

// get fetches path, which is to be of a kind, into answer and prints it: table
// writes tab-separated cells.
func (a *agentsCommand) get(ctx context.Context, c *client, path, kind string, answer resource, table func(io.Writer)) error {
	body, err := c.call(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("server's answer: %w", err)
	}
	if answer.kind() != kind {
		return fmt.Errorf("server's answer is %q, want %q: is it a mneme?", answer.kind(), kind)
	}
	if a.asJSON {
		_, err := fmt.Fprintf(a.out, "%s\n", bytes.TrimSpace(body))
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// clip keeps one long name from widening every row.
func clip(id string) string {
	const most = 40
	if len(id) <= most {
		return id
	}
	return id[:most-1] + "…"
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
