package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
)

// LastTurn stands for an agent's last turn.
const LastTurn = -1

// Fork makes an agent of another as it stood after a turn.
func (s *Server) Fork(ctx context.Context, id, to string, turn int) (Agent, error) {
	body := map[string]any{"id": to}
	if turn != LastTurn {
		body["turn"] = turn
	}
	return agentOf(s.Call(ctx, http.MethodPost, AgentPath(id, "fork"), body))
}

// Rollback makes an agent stand where it stood after a turn.
func (s *Server) Rollback(ctx context.Context, id string, turn int) (Agent, error) {
	return agentOf(s.Call(ctx, http.MethodPost, AgentPath(id, "rollback"), map[string]any{"turn": turn}))
}

// Export writes an agent as one file. After an error part of it may be written.
func (s *Server) Export(ctx context.Context, id string, withKV bool, w io.Writer) error {
	answer, err := s.send(ctx, http.MethodGet, AgentPath(id, "export")+fmt.Sprintf("?kv=%v", withKV), nil, -1)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	const kind = "application/octet-stream"
	if got := answer.Header.Get("Content-Type"); got != kind {
		return fmt.Errorf("server's answer is %q, want %s: is it a mneme?", got, kind)
	}
	_, err = io.Copy(w, answer.Body)
	return err
}

// ExportFile is Export into a file, which is there whole or not at all.
func (s *Server) ExportFile(ctx context.Context, id string, withKV bool, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".mneme-export-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = s.Export(ctx, id, withKV, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// ImportFile makes an agent of an exported file; to "" keeps its name.
func (s *Server) ImportFile(ctx context.Context, path, to string) (Agent, error) {
	f, err := os.Open(path)
	if err != nil {
		return Agent{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Agent{}, err
	}
	route := "/v1/agents/import?" + url.Values{"id": {to}}.Encode()
	answer, err := s.send(ctx, http.MethodPost, route, f, info.Size())
	if err != nil {
		return Agent{}, err
	}
	defer answer.Body.Close()
	return agentOf(io.ReadAll(answer.Body))
}

// agentOf reads an answer that is to be an agent.
func agentOf(body []byte, err error) (a Agent, _ error) {
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("server's answer: %w", err)
	}
	if a.Is() != "agent" {
		return a, fmt.Errorf("server's answer is %q, want %q: is it a mneme?", a.Is(), "agent")
	}
	return a, nil
}
