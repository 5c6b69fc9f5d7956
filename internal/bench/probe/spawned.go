package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// AnswerPatience is how long a server may not answer at all. To fetch and load
	// its model it may take any time.
	AnswerPatience = 5 * time.Minute

	readyPoll = 5 * time.Millisecond
)

// Spawned is a server process on a temporary folder.
type Spawned struct {
	program string
	args    []string // of its serve command
	addr    string
	dir     string
	log     *os.File
	cmd     *exec.Cmd
	ended   chan error // has the process's end
}

// Spawn starts `program serve args...` on a free port with a temporary data
// folder and waits until it is ready.
func Spawn(ctx context.Context, program string, args []string) (*Spawned, error) {
	dir, err := os.MkdirTemp("", "mneme-bench-")
	if err != nil {
		return nil, err
	}
	s := &Spawned{program: program, args: args, dir: dir}
	if s.addr, err = freePort(); err == nil {
		s.log, err = os.Create(filepath.Join(dir, "server.log"))
	}
	if err == nil {
		_, err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
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

// URL is where it answers.
func (s *Spawned) URL() string { return "http://" + s.addr }

// Data is its data folder.
func (s *Spawned) Data() string { return filepath.Join(s.dir, "data") }

// Start runs the server, which does not run, and waits until it is ready or has
// ended; it says how long that took from the start of the process.
func (s *Spawned) Start(ctx context.Context) (time.Duration, error) {
	args := append([]string{"serve"}, s.args...)
	s.cmd = exec.Command(s.program, append(args, "--addr", s.addr, "--data", s.Data())...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return 0, err
	}
	s.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait() }(s.cmd, s.ended)
	err := s.ready(ctx)
	return time.Since(began), err
}

// ready waits as long as the process lives and answers.
func (s *Spawned) ready(ctx context.Context) error {
	client, heard := NewClient(s.URL(), AnswerPatience), time.Now()
	for {
		status, err := client.Status(ctx, "/readyz")
		switch {
		case status == http.StatusOK:
			return nil
		case err == nil:
			heard = time.Now()
		case time.Since(heard) > AnswerPatience:
			return fmt.Errorf("the server did not answer: %w; it said:\n%s", err, s.said())
		}
		select {
		case err := <-s.ended:
			s.cmd = nil
			return fmt.Errorf("the server ended (%v); it said:\n%s", err, s.said())
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready: %w; it said:\n%s", ctx.Err(), s.said())
		case <-time.After(readyPoll):
		}
	}
}

// said is the end of the server's log.
func (s *Spawned) said() string {
	data, _ := os.ReadFile(s.log.Name())
	return string(data[max(0, len(data)-4<<10):])
}

// Kill ends the process as a power cut would.
func (s *Spawned) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Stop asks the process to end, and waits until it has.
func (s *Spawned) Stop() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := <-s.ended
	s.cmd = nil
	if err != nil {
		return fmt.Errorf("the server did not end well: %w; it said:\n%s", err, s.said())
	}
	return nil
}

// Close ends the server and removes its folder.
func (s *Spawned) Close() error {
	s.Kill()
	if s.log != nil {
		s.log.Close()
	}
	return os.RemoveAll(s.dir)
}
