// Package cli is the program's face: commands, flags, the configuration file
// and the environment. It is the only room that reads them; it turns them into
// plain values. What a command does lives below: the rooms of a model are wired
// together in wire, this machine is looked at in doctor, serving is api's and
// engine's business, fetching hub's, measuring bench's.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mneme/internal/cli/usage"
)

// Exit codes of the program.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// World is what the program sees of its surroundings. Tests make their own.
type World struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string // "NAME=value"
}

// Process is the world of the running process.
func Process() World {
	return World{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}
}

// Getenv finds an environment variable, "" when it is not set.
func (w World) Getenv(name string) string {
	for i := len(w.Environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(w.Environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// Main runs one command line and returns the exit code.
func Main(args []string, w World) int {
	return MainContext(context.Background(), args, w)
}

// MainContext is Main with a context that ends the command early.
func MainContext(ctx context.Context, args []string, w World) int {
	root := newRoot(w)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(w.Err, "%s: %v\n", cmd.CommandPath(), err)
	var wrong *usage.Error
	if !errors.As(err, &wrong) {
		return exitFailed
	}
	fmt.Fprintf(w.Err, "%q lists what it takes.\n", cmd.CommandPath()+" --help")
	return exitUsage
}

func newRoot(w World) *cobra.Command {
	root := &cobra.Command{
		Use:           "mneme",
		Short:         "A language model server that remembers its agents",
		Version:       Build().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needCommand,

		SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("mneme {{.Version}}\n")
	root.SetIn(w.In)
	root.SetOut(w.Out)
	root.SetErr(w.Err)
	root.PersistentFlags().String("config", "", "configuration `file` (default $XDG_CONFIG_HOME/mneme/config.yaml)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usage.Error{Err: err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return configure(w, root, cmd) }
	root.AddCommand(
		newServe(w), newRun(w), newPull(w), newList(w), newRemove(w),
		newAgents(w), newKeys(w), newBench(w), newDoctor(w), newVersion(w),
	)
	completeShells(root)
	completeWords(root)
	return root
}

// needCommand answers a command that only has commands below it.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage.Errorf("which command? one of %s", strings.Join(commandNames(cmd), ", "))
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(" (did you mean %q?)", near[0])
	}
	return usage.Errorf("unknown command %q%s", args[0], hint)
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	return names
}

// exactly wants n arguments and says which when there are others.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return usage.Errorf("takes %s, got %d arguments", what, len(args))
	}
}

// flagsOf are the flags that a configuration may set for a command: its own,
// without cobra's help and version.
func flagsOf(cmd *cobra.Command) *pflag.FlagSet {
	own := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "version" && f.Name != "config" {
			own.AddFlag(f)
		}
	})
	return own
}
