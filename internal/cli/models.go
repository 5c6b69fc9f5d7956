package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mneme/internal/cli/value"
	"mneme/internal/hub"
)

func newPull(w World) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "pull MODEL", Short: "Fetch a model file, again if it is damaged", Args: exactly(1, "a model"),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := hub.Pull(cmd.Context(), args[0], hub.Options{Dir: dir, Progress: w.Err})
			if err == nil {
				_, err = fmt.Fprintln(w.Out, model.Path)
			}
			return err
		},
	}
	modelsFlag(w, cmd, &dir)
	return cmd
}

func newList(w World) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "ls", Short: "List the model files on this machine, and what can be fetched", Args: exactly(0, "nothing"),
		RunE: func(*cobra.Command, []string) error { return listModels(w, dir) },
	}
	modelsFlag(w, cmd, &dir)
	return cmd
}

func newRemove(w World) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "rm MODEL", Short: "Remove a model file", Args: exactly(1, "a model"),
		RunE: func(_ *cobra.Command, args []string) error { return hub.Remove(dir, args[0]) },
	}
	modelsFlag(w, cmd, &dir)
	return cmd
}

func modelsFlag(w World, cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "models", modelsHome(w), "`folder` of the model files")
}

// listModels prints the files of dir, then the aliases that are not among them.
func listModels(w World, dir string) error {
	models, err := hub.List(dir)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MODEL\tSIZE\tFILE")
	here := map[string]bool{}
	for _, m := range models {
		here[m.Alias] = true
		name := m.Alias
		if name == "" {
			name = m.Name
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", name, value.Bytes(m.SizeBytes), m.Path)
	}
	for _, a := range hub.Aliases() {
		if !here[a.Name] {
			fmt.Fprintf(t, "%s\t%s\tnot here yet; fetch it with: mneme pull %s\n", a.Name, value.Bytes(a.SizeBytes), a.Name)
		}
	}
	return t.Flush()
}
