package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
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
		{file: "max-bath: 4", want: `config.yaml: unknown key "max-bath"; keys of mneme serve: addr, context, data, kv-disk, kv-format, kv-memory, log-format, max-batch, min-free, model, models, step-tokens, threads`},
		{file: "kv:\n  memory: 4GiB", want: `unknown key "kv.memory"`},
		{file: "max-batch: [", want: "config.yaml: "},
		{file: "threads: 2", variable: "MNEME_THREADS=none", want: `MNEME_THREADS: "none": must be a whole number`},
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
