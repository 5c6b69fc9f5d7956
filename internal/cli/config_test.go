package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mneme/internal/cli/wire"
	"mneme/internal/engine"
	"mneme/internal/kv"
)

// serveFlag parses a command line up to the point where serve would start and
// gives a flag's value.
func serveFlag(t *testing.T, s *stage, name string, args ...string) (string, error) {
	t.Helper()
	root := newRoot(s.World)
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	serve.RunE = func(*cobra.Command, []string) error { return nil }
	root.SetArgs(append([]string{"serve"}, args...))
	err = root.Execute()
	return serve.Flag(name).Value.String(), err
}

// A flag beats the environment, that beats the file, that beats the default.
func TestPrecedence(t *testing.T) {
	s := newStage(t)
	steps := []struct {
		says string
		do   func()
		args []string
		want string
	}{
		{"default", func() {}, nil, "16"},
		{"file", func() { s.write(t, ".config/mneme/config.yaml", "max-batch: 4\nkv-memory: 25%\n") }, nil, "4"},
		{"environment", func() { s.Environ = append(s.Environ, "MNEME_MAX_BATCH=8") }, nil, "8"},
		{"flag", func() {}, []string{"--max-batch", "12"}, "12"},
		{"an empty variable is none", func() { s.Environ[len(s.Environ)-1] = "MNEME_MAX_BATCH=" }, nil, "4"},
	}
	for _, step := range steps {
		step.do()
		if got, err := serveFlag(t, s, "max-batch", step.args...); got != step.want || err != nil {
			t.Errorf("%s: max-batch %s (%v), want %s", step.says, got, err, step.want)
		}
	}
	if got, err := serveFlag(t, s, "kv-memory"); got != "25%" || err != nil {
		t.Errorf("kv-memory from the file: %s (%v), want 25%%", got, err)
	}
}

// What flags say is what the rooms are opened with; said nothing, a server keeps
// its agents for ever, in plain files.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		args string
		want wire.Settings
	}{
		{"", wire.Settings{KVFormat: kv.FormatQ4, Restore: engine.RestoreAuto}},
		{"--kv-format q3 --restore always --agent-ttl 30d --kv-key-file k", wire.Settings{KVFormat: kv.FormatQ3, Restore: engine.RestoreAlways, AgentTTL: 720 * time.Hour, KeyFile: "k"}},
	} {
		var f engineFlags
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.register(World{}, flags)
		if err := flags.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		got := f.settings(World{})
		if got := (wire.Settings{KVFormat: got.KVFormat, Restore: got.Restore, AgentTTL: got.AgentTTL, KeyFile: got.KeyFile}); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.args, got, c.want)
		}
	}
}

func TestConfigFileByName(t *testing.T) {
	s := newStage(t)
	path := s.write(t, "other.yaml", "kv-format: q8")
	if got, err := serveFlag(t, s, "kv-format", "--config", path); got != "q8" || err != nil {
		t.Errorf("--config: kv-format %s (%v), want q8", got, err)
	}
	s.Environ = append(s.Environ, "MNEME_CONFIG="+path)
	if got, err := serveFlag(t, s, "kv-format"); got != "q8" || err != nil {
		t.Errorf("MNEME_CONFIG: kv-format %s (%v), want q8", got, err)
	}
}

// A configuration that asks for something impossible says where it does.
func TestBadConfiguration(t *testing.T) {
	for _, c := range []struct{ file, variable, args, want string }{
		{file: "max-batch: many", want: `config.yaml: max-batch: "many": must be a whole number from 1 to 1024`},
		{file: "max-bath: 4", want: `config.yaml: unknown key "max-bath"; keys of mneme serve: addr, admin-key-file, agent-ttl, api-keys, context, data, gap-target, kv-disk, kv-format, kv-key-file, kv-memory, log-format, max-batch, min-free, model, models, restore, step-tokens, threads, tls-cert, tls-key`},
		{file: "kv:\n  memory: 4GiB", want: `unknown key "kv.memory"`},
		{file: "max-batch: [", want: "config.yaml: "},
		{file: "threads: 2", variable: "MNEME_THREADS=none", want: `MNEME_THREADS: "none": must be a whole number`},
		{file: "agent-ttl: 1y", want: `config.yaml: agent-ttl: "1y": "1y" is no length of time`},
		{variable: "MNEME_AGENT_TTL=tomorrow", want: `MNEME_AGENT_TTL: "tomorrow": "tomorrow" is no length of time`},
		{variable: "MNEME_RESTORE=never", want: `MNEME_RESTORE: "never": must be one of auto, always`},
		{variable: "MNEME_STEP_TOKENS=0", want: `MNEME_STEP_TOKENS: "0": must be a whole number from 1 to 65536`},
		{args: "--config /nowhere/config.yaml", want: "configuration /nowhere/config.yaml: open"},
	} {
		s := newStage(t, c.variable)
		if c.file != "" {
			s.write(t, ".config/mneme/config.yaml", c.file)
		}
		code := s.run(append([]string{"serve"}, strings.Fields(c.args)...)...)
		if code != exitUsage || !strings.Contains(s.err.String(), c.want) {
			t.Errorf("%+v: exit %d, want %d and %q in\n%s", c, code, exitUsage, c.want, &s.err)
		}
	}
}

// A variable that is nearly one of ours was meant to be it; one of somebody
// else, or an empty one, is no matter.
func TestVariablesThatAreNearlyOurs(t *testing.T) {
	s := newStage(t, "MNEME_KVMEMORY=1GiB", "MNEME_THREAD=2", "MNEME_MAX_BATCH=4", "MNEME_CRASH_AT=", "MNEME_KERNEL=generic", "MNEME_CONFG=", "MNEME_BENCH_RESULTS=x", "OTHER_ADDR=x")
	if code := s.run("version"); code != exitDone {
		t.Fatalf("exit %d: %s", code, &s.err)
	}
	want := "mneme version: warning: MNEME_KVMEMORY is not a variable of ours and does nothing; did you mean MNEME_KV_MEMORY?\n" +
		"mneme version: warning: MNEME_THREAD is not a variable of ours and does nothing; did you mean MNEME_THREADS?\n"
	if s.err.String() != want {
		t.Errorf("it said\n%swant\n%s", &s.err, want)
	}
}

// Folders follow XDG, which systemd's own variables overrule.
func TestFolders(t *testing.T) {
	for _, c := range []struct{ environ, data, models, config string }{
		{"", "/h/.local/share/mneme", "/h/.cache/mneme/models", "/h/.config"},
		{"XDG_DATA_HOME=/d XDG_CACHE_HOME=/c XDG_CONFIG_HOME=/g", "/d/mneme", "/c/mneme/models", "/g"},
		{"XDG_DATA_HOME=relative", "/h/.local/share/mneme", "/h/.cache/mneme/models", "/h/.config"},
		{"XDG_DATA_HOME=/d STATE_DIRECTORY=/var/lib/mneme:/other CACHE_DIRECTORY=/var/cache/mneme", "/var/lib/mneme", "/var/cache/mneme/models", "/h/.config"},
	} {
		w := World{Environ: append(strings.Fields(c.environ), "HOME=/h")}
		if got := [3]string{dataHome(w), modelsHome(w), configHome(w)}; got != [3]string{c.data, c.models, c.config} {
			t.Errorf("%s: %v, want %s %s %s", c.environ, got, c.data, c.models, c.config)
		}
	}
}
