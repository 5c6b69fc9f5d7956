package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"mneme/internal/api/access"
	"mneme/internal/cli/keyfile"
	"mneme/internal/cli/usage"
	"mneme/internal/cli/value"
)

func newKeys(w World) *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Make API keys", RunE: needCommand, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(newKey(w))
	return cmd
}

// newKey is `mneme keys new`.
func newKey(w World) *cobra.Command {
	var (
		requests, tokens keyfile.Rate
		quota            value.Size
		weight           = value.Within(1, 1, keyfile.MaxWeight)
	)
	cmd := &cobra.Command{
		Use: "new NAME", Short: "Make an API key: prints it, and the line for the file of --api-keys",
		Long: "Make an API key. The first line printed is the key, which nobody can find out again;\nthe second goes into the file of mneme serve --api-keys, which reads it on SIGHUP.",
		Args: keyName,
		RunE: func(_ *cobra.Command, args []string) error {
			if quota.Percent > 0 {
				return usage.Errorf("--kv %v: a quota is in bytes, as in 4GiB", quota)
			}
			key, line := keyfile.New(args[0], access.Limits{Requests: access.Rate(requests), Tokens: access.Rate(tokens), DiskBytes: quota.Bytes, Weight: weight.Int()})
			_, err := fmt.Fprintf(w.Out, "%s\n%s\n", key, line)
			return err
		},
	}
	cmd.Flags().Var(&requests, "requests", "most requests, as in 60/m (default no bound)")
	cmd.Flags().Var(&tokens, "tokens", "most tokens computed or generated, as in 100000/m (default no bound)")
	cmd.Flags().Var(&quota, "kv", "most bytes of its agents on disk, as in 4GiB (default no bound)")
	cmd.Flags().Var(&weight, "weight", "its share beside other keys when turns compete")
	return cmd
}

// keyName wants one argument that can be a key's name.
func keyName(cmd *cobra.Command, args []string) error {
	if err := exactly(1, "a name")(cmd, args); err != nil {
		return err
	}
	if err := keyfile.CheckName(args[0]); err != nil {
		return &usage.Error{Err: err}
	}
	return nil
}
