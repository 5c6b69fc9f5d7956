package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// answerPatience is how long a server may not answer at all. To fetch and load
// its model it may take any time.
const answerPatience = 5 * time.Minute

// Running is a server that somebody else has started.
func Running(url string) Target { return &running{newClient(url, answerPatience)} }

type running struct{ client *client }

func (t *running) URL() string { return t.client.base }

func (t *running) Forget(ctx context.Context, agents []string) error {
	for _, id := range agents {
		if err := t.client.exchange(ctx, http.MethodPost, "/v1/agents/"+id+"/evict", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Close deletes the agents: the server belongs to somebody.
func (t *running) Close(agents []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var first error
	for _, id := range agents {
		err := t.client.exchange(ctx, http.MethodDelete, "/v1/agents/"+id, nil, nil)
		if err != nil && !strings.Contains(err.Error(), "404") && first == nil {
			first = fmt.Errorf("cleaning up: %w", err)
		}
	}
	return first
}

// spawned is a server of our own on a data folder of its own.
type spawned struct {
	program string
	args    []string // of its serve command
	addr    string
	dir     string
	log     *os.File
	cmd     *exec.Cmd
	ended   chan error // has the process's end
}

// Spawn starts `program serve args...` on a free port with a temporary data
// folder and waits until it is ready. Forget kills and restarts it.
func Spawn(ctx context.Context, program string, args []string) (Target, error) {
	dir, err := os.MkdirTemp("", "mneme-bench-")
	if err != nil {
		return nil, err
	}
	s := &spawned{program: program, args: args, dir: dir}
	if s.addr, err = freePort(); err == nil {
		s.log, err = os.Create(filepath.Join(dir, "server.log"))
	}
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close(nil))
	}
	return s, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *spawned) URL() string { return "http://" + s.addr }

// start runs the server and waits until it is ready or has ended.
func (s *spawned) start(ctx context.Context) error {
	args := append([]string{"serve"}, s.args...)
	s.cmd = exec.Command(s.program, append(args, "--addr", s.addr, "--data", filepath.Join(s.dir, "data"))...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	s.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait() }(s.cmd, s.ended)
	return s.ready(ctx)
}

// ready waits as long as the process lives and answers.
func (s *spawned) ready(ctx context.Context) error {
	client, heard := newClient(s.URL(), answerPatience), time.Now()
	for {
		status, err := client.status(ctx, "/readyz")
		switch {
		case status == http.StatusOK:
			return nil
		case err == nil:
			heard = time.Now()
		case time.Since(heard) > answerPatience:
			return fmt.Errorf("the server did not answer: %w; it said:\n%s", err, s.said())
		}
		select {
		case err := <-s.ended:
			s.cmd = nil
			return fmt.Errorf("the server ended (%v); it said:\n%s", err, s.said())
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready: %w; it said:\n%s", ctx.Err(), s.said())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// said is the end of the server's log.
func (s *spawned) said() string {
	data, _ := os.ReadFile(s.log.Name())
	return string(data[max(0, len(data)-4<<10):])
}

// Forget kills the server as a power cut would and starts it again.
func (s *spawned) Forget(ctx context.Context, _ []string) error {
	s.kill()
	return s.start(ctx)
}

func (s *spawned) kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Close ends the server and removes its folder.
func (s *spawned) Close([]string) error {
	s.kill()
	if s.log != nil {
		s.log.Close()
	}
	return os.RemoveAll(s.dir)
}
