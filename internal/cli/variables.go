package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"mneme/internal/cli/value"
)

// keyVariable has the API key that commands show to a server.
const keyVariable = "MNEME_API_KEY"

// hooks are variables that are no flag's, beside MNEME_CONFIG.
var hooks = []string{"MNEME_KERNEL", "MNEME_CRASH_AT", keyVariable}

// warnOfVariables names every MNEME_ variable that is nearly one of ours: it was
// meant, and does nothing. Others may be somebody else's.
func warnOfVariables(w World, root, cmd *cobra.Command) {
	known := append([]string{envName("config")}, hooks...)
	for _, key := range knownKeys(root) {
		known = append(known, envName(key))
	}
	for _, entry := range w.Environ {
		name, text, _ := strings.Cut(entry, "=")
		if near := value.Nearest(name, known); text != "" && strings.HasPrefix(name, envPrefix) && near != "" && near != name {
			fmt.Fprintf(w.Err, "%s: warning: %s is not a variable of ours and does nothing; did you mean %s?\n", cmd.CommandPath(), name, near)
		}
	}
}
