// Package sdk_test has the vendors' own clients, unmodified, talk to this server.
//
//	MNEME_BIN     the program             ../../bin/mneme
//	MNEME_MODEL   a file or an alias      smollm2, which is fetched where it is not there
package sdk_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server is what all tests talk to; it wants key of whoever asks.
var server struct{ url, key, model string }

// patience bounds the start of the server, a model's download included.
const patience = 5 * time.Minute

func TestMain(m *testing.M) {
	code, err := withServer(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withServer runs f while there is a server.
func withServer(f func() int) (code int, err error) {
	dir, err := os.MkdirTemp("", "mneme-sdk")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin := cmp.Or(os.Getenv("MNEME_BIN"), "../../bin/mneme")
	os.Unsetenv("MNEME_BIN") // it is none of the program's own
	keys, err := newKeys(bin, dir)
	if err != nil {
		return 0, fmt.Errorf("%w; MNEME_BIN is %s: make build makes bin/mneme", err, bin)
	}
	server.model = cmp.Or(os.Getenv("MNEME_MODEL"), "smollm2")
	serve := exec.Command(bin, "serve", "--model", server.model, "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "data"),
		"--api-keys", keys, "--context", "4096", "--log-format", "text")
	said, err := serve.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := serve.Start(); err != nil {
		return 0, err
	}
	defer serve.Wait()
	defer serve.Process.Signal(syscall.SIGTERM)
	if server.url, err = listening(said); err != nil {
		return 0, err
	}
	return f(), nil
}

// newKeys makes the file of one key.
func newKeys(bin, dir string) (path string, err error) {
	said, err := exec.Command(bin, "keys", "new", "ada").Output()
	if err != nil {
		return "", fmt.Errorf("keys new: %w", err)
	}
	key, line, _ := strings.Cut(string(said), "\n")
	server.key = key
	path = filepath.Join(dir, "keys")
	return path, os.WriteFile(path, []byte(line), 0o600)
}

var listens = regexp.MustCompile(`mneme listens on (http://[^\s"]+)`)

// listening is the URL that the server says, once it is ready.
func listening(said io.Reader) (string, error) {
	lines := bufio.NewScanner(said)
	var all strings.Builder
	for lines.Scan() {
		fmt.Fprintln(&all, lines.Text())
		if m := listens.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, said)
			return m[1], ready(m[1])
		}
	}
	return "", fmt.Errorf("the server ended: %s", all.String())
}

func ready(url string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		r, err := http.Get(url + "/readyz")
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("not ready after %v", patience)
}
