package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mneme/internal/hub"
)

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

// completeWords has the shell offer what a flag out of a few words takes, and the
// models that have a short name, below a command.
func completeWords(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch v := f.Value.(type) {
		case interface{ Words() []string }: // one of them, or a list
			offer(cmd, f.Name, v.Words(), cobra.ShellCompDirectiveNoFileComp)
		default:
			if f.Name == "model" {
				offer(cmd, f.Name, aliasNames(), cobra.ShellCompDirectiveDefault) // or a file
			}
		}
	})
	for _, c := range cmd.Commands() {
		completeWords(c)
	}
}

func offer(cmd *cobra.Command, flag string, words []cobra.Completion, also cobra.ShellCompDirective) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, also)); err != nil {
		panic(fmt.Sprintf("cli: completion of %s --%s: %v", cmd.CommandPath(), flag, err))
	}
}

func aliasNames() (names []string) {
	for _, a := range hub.Aliases() {
		names = append(names, a.Name)
	}
	return names
}
