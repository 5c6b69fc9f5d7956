package cli

import (
	"github.com/spf13/cobra"

	"mneme/internal/cli/offline"
	"mneme/internal/cli/usage"
	"mneme/internal/vfs"
)

// listing is `agents ls`, which also reads a folder without a server. Only the
// command line asks for that: in a configuration data is where a server's is.
func (a *agentsCommand) listing() *cobra.Command {
	var dir, keyFile string
	cmd := a.reading("ls", "List the agents", exactly(0, "nothing"), a.list)
	online := cmd.RunE
	cmd.Flags().StringVar(&dir, "data", "", "list those of a data `folder` that no server uses")
	cmd.Flags().StringVar(&keyFile, "kv-key-file", "", "with --data: `file` with the master key that encrypts the folder")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !cmd.Flags().Changed("data"):
			return online(cmd, args)
		case cmd.Flags().Changed("addr"):
			return usage.Errorf("give --addr or --data, not both")
		}
		ring, err := offline.Ring(vfs.Real(), dir, keyFile)
		if err != nil {
			return usage.Errorf("--kv-key-file: %w", err)
		}
		return offline.List(a.out, dir, ring, a.asJSON)
	}
	return cmd
}

// newVerify is `agents verify`: the whole folder, every byte that has a sum.
func newVerify(w World) *cobra.Command {
	var dir string
	var repair bool
	cmd := &cobra.Command{
		Use: "verify", Short: "Check a data folder that no server uses, to the last byte", Args: exactly(0, "no arguments, only flags"),
		RunE: func(*cobra.Command, []string) error { return offline.Verify(w.Out, dir, repair) },
	}
	cmd.Flags().StringVar(&dir, "data", dataHome(w), "the data `folder`")
	cmd.Flags().BoolVar(&repair, "repair", false, "cut torn ends, forget what is damaged: it is computed again")
	return cmd
}
