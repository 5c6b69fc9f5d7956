package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mneme/internal/cli/usage"
)

const envPrefix = "MNEME_"

// envName is the environment variable of a flag: kv-memory, MNEME_KV_MEMORY.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// configure gives every flag of cmd that the command line left alone the value
// of the environment, else of the configuration file; both use flags' names.
func configure(w World, root, cmd *cobra.Command) error {
	given := koanf.New(".")
	warnOfVariables(w, root, cmd)
	path, err := loadFile(w, root, cmd, given)
	if err != nil {
		return err
	}
	inFile := given.Copy()
	if err := given.Load(environment(w), nil); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	var bad error
	flagsOf(cmd).VisitAll(func(f *pflag.Flag) {
		if f.Changed || !given.Exists(f.Name) || bad != nil {
			return
		}
		value := given.String(f.Name)
		if err := f.Value.Set(value); err != nil {
			bad = usage.Errorf("%s: %q: %w", source(w, f.Name, inFile, path), value, err)
		}
	})
	return bad
}

// source names the place a value came from, for an error.
func source(w World, flag string, inFile *koanf.Koanf, path string) string {
	if w.Getenv(envName(flag)) == "" && inFile.Exists(flag) {
		return path + ": " + flag
	}
	return envName(flag)
}

// environment provides MNEME_KV_MEMORY=x as kv-memory: x. An empty variable is
// one that is not set.
func environment(w World) *env.Env {
	return env.Provider("", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return w.Environ },
		TransformFunc: func(name, value string) (string, any) {
			if value == "" {
				return "", nil
			}
			return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, envPrefix), "_", "-")), value
		},
	})
}

// loadFile reads the configuration file into k. Only a file that --config or
// MNEME_CONFIG names has to exist. It returns the path, for errors.
func loadFile(w World, root, cmd *cobra.Command, k *koanf.Koanf) (string, error) {
	path, _ := cmd.Flags().GetString("config")
	if path == "" {
		path = w.Getenv(envPrefix + "CONFIG")
	}
	wanted := path != ""
	if !wanted {
		path = filepath.Join(configHome(w), "mneme", "config.yaml")
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !wanted {
		return path, nil
	}
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return path, usage.Errorf("configuration %s: %w", path, err)
	}
	known := knownKeys(root) // one file serves all commands
	for _, key := range k.Keys() {
		if !slices.Contains(known, key) {
			return path, usage.Errorf("configuration %s: unknown key %q; keys of %s: %s", path, key, cmd.CommandPath(), strings.Join(knownKeys(cmd), ", "))
		}
	}
	return path, nil
}

// knownKeys are the flags of a command and of those below it, sorted.
func knownKeys(cmd *cobra.Command) []string {
	var keys []string
	flagsOf(cmd).VisitAll(func(f *pflag.Flag) { keys = append(keys, f.Name) })
	for _, c := range cmd.Commands() {
		keys = append(keys, knownKeys(c)...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
