package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// stage is a world of a test's own: an empty home, no terminal.
type stage struct {
	World
	home     string
	out, err bytes.Buffer
}

func newStage(t *testing.T, environ ...string) *stage {
	t.Helper()
	s := &stage{home: t.TempDir()}
	s.World = World{In: strings.NewReader(""), Out: &s.out, Err: &s.err, Environ: append([]string{"HOME=" + s.home}, environ...)}
	return s
}

// run is one command line; what it printed before is forgotten.
func (s *stage) run(args ...string) int {
	s.out.Reset()
	s.err.Reset()
	return MainContext(context.Background(), args, s.World)
}

func (s *stage) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Wrong usage ends with 2, says what is wrong and where to read on.
func TestWrongUsage(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct{ line, says string }{
		{"", "mneme: which command? one of agents, bench,"},
		{"srve", `mneme: unknown command "srve" (did you mean "serve"?)`},
		{"serve --speed 9", "mneme serve: unknown flag: --speed"},
		{"serve --gap-target soon", `invalid argument "soon" for "--gap-target" flag: "soon" is no length of time`},
		{"serve --kv-format q2", `mneme serve: invalid argument "q2" for "--kv-format" flag: must be one of q4, q3, q8, f16`},
		{"serve --restore never", `mneme serve: invalid argument "never" for "--restore" flag: must be one of auto, always`},
		{"serve --agent-ttl soon", `invalid argument "soon" for "--agent-ttl" flag: "soon" is no length of time; write 30d, 720h, 90m, or 0 for never`},
		{"serve --agent-ttl -1h", `invalid argument "-1h" for "--agent-ttl" flag: a time of -1h lies in the past`},
		{"serve --kv-memory lots", `"lots" is no size; write 512MiB, 4GiB or 25%`},
		{"serve --max-batch 0", `invalid argument "0" for "--max-batch" flag: must be a whole number from 1 to 1024`},
		{"serve --max-batch 1025", `invalid argument "1025" for "--max-batch" flag: must be a whole number from 1 to 1024`},
		{"serve --step-tokens 65537", `invalid argument "65537" for "--step-tokens" flag: must be a whole number from 1 to 65536`},
		{"serve --threads 0", `invalid argument "0" for "--threads" flag: must be a whole number from 1 to ` + fmt.Sprint(4*runtime.NumCPU())},
		{"serve --threads 100000", `invalid argument "100000" for "--threads" flag: must be a whole number from 1 to ` + fmt.Sprint(4*runtime.NumCPU())},
		{"serve --context -5", `invalid argument "-5" for "--context" flag: must be a whole number, 16 or more`},
		{"serve --context 15", `invalid argument "15" for "--context" flag: must be a whole number, 16 or more`},
		{"completion foo", `mneme completion: unknown command "foo"`},
		{"completion bsh", `mneme completion: unknown command "bsh" (did you mean "bash"?)`},
		{"completion", "mneme completion: which command? one of bash, fish, powershell, zsh"},
		{"completion bash again", "mneme completion bash: takes no arguments, got 1 arguments"},
		{"serve --addr 8080", "must be host:port"},
		{"serve --addr localhost:70000", `port "70000" must be a number from 0 to 65535`},
		{"serve smollm2", "mneme serve: takes no arguments, only flags, got 1 arguments"},
		{"run --agent a/b", `mneme run: --agent "a/b": use 1 to 256 of`},
		{"pull", "mneme pull: takes a model, got 0 arguments"},
		{"keys", "mneme keys: which command? one of new"},
		{"keys new", "mneme keys new: takes a name, got 0 arguments"},
		{"keys new default", `mneme keys new: "default" is what agents belong to where there are no keys`},
		{"keys new Ada", `mneme keys new: "Ada" is no name of a key`},
		{"keys new ada --requests 60", `invalid argument "60" for "--requests" flag: "60" is no rate; write 60/m`},
		{"keys new ada --kv 5%", "--kv 5%: a quota is in bytes, as in 4GiB"},
		{"agents", "mneme agents: which command? one of evict, export, fork, import, ls, rm, rollback, show, turns, verify"},
		{"agents frok ada", `mneme agents: unknown command "frok" (did you mean "fork"?)`},
		{"agents show ..", `mneme agents show: agent id "..": use 1 to 256 of A-Z a-z 0-9 . _ : -, and more than one or two dots`},
		{"agents rm ../agents", `mneme agents rm: agent id "../agents": use 1 to 256`},
		{"run --agent .", `mneme run: --agent ".": use 1 to 256`},
		{"agents show", "mneme agents show: takes an agent id, got 0 arguments"},
		{"bench", "mneme bench: give --addr of a running server, or --spawn"},
		{"bench --spawn --addr localhost:1", "--addr and --spawn exclude each other"},
		{"bench --perplexity text --spawn", "--perplexity measures no server"},
		{"bench --perplexity text --addr :1", "--perplexity measures no server"},
		{"bench --perplexity text --kv-format q4,q2", `invalid argument "q4,q2" for "--kv-format" flag: every entry must be one of q8, q4, q3, f16`},
		{"bench --perplexity text --window 100", "must be a whole number from 128 to 131072"},
		{"bench --spawn --kv-format q4", "--kv-format goes with --perplexity only; flags of a server of its own follow --spawn --"},
		{"bench --spawn --lengths 5", "too short to measure"},
		{"bench --spawn --lengths 500,x", "every entry must be a whole number"},
		{"bench --spawn --rounds 99", `invalid argument "99" for "--rounds" flag: must be a whole number from 1 to 20`},
		{"bench --addr localhost:1 -- --kv-format q8", "only go with --spawn"},
	} {
		code := s.run(strings.Fields(c.line)...)
		if code != exitUsage || !strings.Contains(s.err.String(), c.says) || !strings.Contains(s.err.String(), `--help" lists what it takes.`) {
			t.Errorf("mneme %s: exit %d, want %d; want %q in\n%s", c.line, code, exitUsage, c.says, &s.err)
		}
		if s.out.Len() > 0 {
			t.Errorf("mneme %s: wrong usage wrote to standard output: %q", c.line, &s.out)
		}
	}
}

func TestVersion(t *testing.T) {
	s := newStage(t)
	want := "mneme " + Build().String() + "\n"
	for _, line := range []string{"version", "--version"} {
		if code := s.run(line); code != exitDone || s.out.String() != want {
			t.Errorf("mneme %s: exit %d, %q; want %q", line, code, &s.out, want)
		}
	}
}

func TestVersionNamesTheCommitShortly(t *testing.T) {
	b := BuildInfo{Version: "v0.1.0", Commit: "0123456789abcdef", Date: "2026-11-24T00:00:00Z", Go: "go1.26.8", OS: "linux", Arch: "amd64"}
	if got, want := b.String(), "v0.1.0 0123456789ab 2026-11-24T00:00:00Z go1.26.8 linux/amd64"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCompletionIsOffered(t *testing.T) {
	s := newStage(t)
	if code := s.run("completion", "bash"); code != exitDone || !strings.Contains(s.out.String(), "__start_mneme") {
		t.Errorf("exit %d, %d bytes of script", code, s.out.Len())
	}
}

// A shell that asks is told the words of a flag and the short names of models.
func TestWordsAreOffered(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct{ flag, want string }{
		{"--kv-format", "q4\nq3\nq8\nf16\n:4\n"}, // 4: and no files
		{"--restore", "auto\nalways\n:4\n"},
		{"--model", "smollm2\n"},
	} {
		if code := s.run("__complete", "serve", c.flag, ""); code != exitDone || !strings.HasPrefix(s.out.String(), c.want) {
			t.Errorf("%s: exit %d, %q, want %q", c.flag, code, &s.out, c.want)
		}
	}
}

// Every flag belongs to the page of names that users rely on; one of a later
// issue must not be there yet.
func TestServeFlags(t *testing.T) {
	serve, _, err := newRoot(newStage(t).World).Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	got := knownKeys(serve)
	want := "addr admin-key-file agent-ttl api-keys context data gap-target kv-disk kv-format kv-key-file kv-memory log-format max-batch min-free model models restore step-tokens threads tls-cert tls-key"
	if strings.Join(got, " ") != want {
		t.Errorf("serve takes %v\nwant %s", got, want)
	}
}
