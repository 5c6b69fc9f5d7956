package cli

import (
	"github.com/spf13/cobra"

	"mneme/internal/cli/doctor"
)

// newDoctor is `mneme doctor`; a model on the command line is looked into.
func newDoctor(w World) *cobra.Command {
	var flags engineFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine has and lacks for serving a model", Args: exactly(0, "no arguments, only flags"),
	}
	cmd.Long = cmd.Short + `.
With --model it says of that model, from the head of its file, whether it fits,
what its KV costs in each format and how many agents there is memory for.`
	flags.register(w, cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of lines")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d := doctor.Doctor{Settings: flags.settings(w), Out: w.Out, AsJSON: asJSON, LooksInside: cmd.Flags().Changed("model")}
		return d.Run(cmd.Context())
	}
	return cmd
}
