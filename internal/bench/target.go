package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"mneme/internal/bench/probe"
)

// Target is a server under test.
type Target interface {
	// URL is where it answers, http://host:port.
	URL() string
	// Forget takes the agents out of memory, so that their next turn is read
	// from disk.
	Forget(ctx context.Context, agents []string) error
	// Close gives back what the target took; agents are those it was used with.
	Close(agents []string) error
}

// Running is a server that somebody else has started.
func Running(url string) Target { return &running{url, probe.NewClient(url, probe.AnswerPatience)} }

type running struct {
	url    string
	client *probe.Client
}

func (t *running) URL() string { return t.url }

func (t *running) Forget(ctx context.Context, agents []string) error {
	for _, id := range agents {
		if err := t.client.Exchange(ctx, http.MethodPost, "/v1/agents/"+id+"/evict", nil, nil); err != nil {
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
		err := t.client.Exchange(ctx, http.MethodDelete, "/v1/agents/"+id, nil, nil)
		if err != nil && !strings.Contains(err.Error(), "404") && first == nil {
			first = fmt.Errorf("cleaning up: %w", err)
		}
	}
	return first
}

// spawned is a server of our own, and how to start others like it.
type spawned struct {
	*probe.Spawned
	program string
	args    []string // of its serve command
}

// Spawn starts `program serve args...` on a free port with a temporary data
// folder and waits until it is ready. Forget kills and restarts it.
func Spawn(ctx context.Context, program string, args []string) (Target, error) {
	s, err := probe.Spawn(ctx, program, args)
	if err != nil {
		return nil, err
	}
	return &spawned{s, program, args}, nil
}

// Forget kills the server as a power cut would and starts it again.
func (s *spawned) Forget(ctx context.Context, _ []string) error {
	s.Kill()
	_, err := s.Start(ctx)
	return err
}

// keyFlag is serve's flag for encryption.
const keyFlag = "--kv-key-file"

// hasKeys says whether the server's own flags encrypt its folder.
func (s *spawned) hasKeys() bool {
	return slices.ContainsFunc(s.args, func(arg string) bool { return arg == keyFlag || strings.HasPrefix(arg, keyFlag+"=") })
}

// Close ends the server and removes its folder.
func (s *spawned) Close([]string) error { return s.Spawned.Close() }
