// Package cli is the program's face: commands, flags, the configuration file
// and the environment. It is the only room that reads them; it turns them into
// plain values and wires the other rooms together (wire.go). What a command
// does lives below: serving in api and engine, fetching in hub, measuring in
// bench.
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
	var usage *usageError
	if !errors.As(err, &usage) {
		return exitFailed
	}
	fmt.Fprintf(w.Err, "%q lists what it takes.\n", cmd.CommandPath()+" --help")
	return exitUsage
}

// usageError marks a command line, a configuration or an environment that asks
// for something impossible; the program ends with exitUsage.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
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
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return configure(w, root, cmd) }
	root.AddCommand(
		newServe(w), newRun(w), newPull(w), newList(w), newRemove(w),
		newAgents(w), newBench(w), newDoctor(w), newVersion(w),
	)
	completeShells(root)
	return root
}

// completeShells adds cobra's completion command, held to our rules of usage.
func completeShells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	cmd, _, err := root.Find([]string{"completion"})
	if err != nil {
		panic(fmt.Sprintf("cli: cobra has no completion command: %v", err))
	}
	cmd.Args, cmd.RunE, cmd.SuggestionsMinimumDistance = cobra.ArbitraryArgs, needCommand, 2
	for _, shell := range cmd.Commands() {
		shell.Args = exactly(0, "no arguments")
	}
}

// needCommand answers a command that only has commands below it.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("which command? one of %s", strings.Join(commandNames(cmd), ", "))
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(" (did you mean %q?)", near[0])
	}
	return usagef("unknown command %q%s", args[0], hint)
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
		return usagef("takes %s, got %d arguments", what, len(args))
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
