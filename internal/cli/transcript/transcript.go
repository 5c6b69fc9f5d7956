// Package transcript keeps the messages of a chat in the terminal, so that the
// next one can send them again; the agent's KV then covers them. Over HTTP clients
// do that.
package transcript

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"mneme/internal/chat"
	"mneme/internal/vfs"
)

// File has the messages of one agent.
type File struct{ Path string }

// Path is where the file of an agent is; its name may be longer than a file's.
func Path(dataDir, agent string) string {
	digest := sha256.Sum256([]byte(agent))
	return filepath.Join(dataDir, "terminal", hex.EncodeToString(digest[:16])+".json")
}

// line is one message in the file.
type line struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Load reads the messages; none when there is no file.
func (t File) Load() ([]chat.Message, error) {
	data, err := os.ReadFile(t.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []line
	if err := json.Unmarshal(data, &lines); err != nil {
		return nil, fmt.Errorf("%s is no list of messages (remove it to start afresh): %w", t.Path, err)
	}
	var messages []chat.Message
	for _, l := range lines {
		messages = append(messages, chat.Message{Role: l.Role, Content: l.Content})
	}
	return messages, nil
}

// Save replaces the file.
func (t File) Save(messages []chat.Message) error {
	lines := make([]line, len(messages))
	for i, m := range messages {
		lines[i] = line{m.Role, m.Content}
	}
	data, err := json.MarshalIndent(lines, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(t.Path), 0o700); err != nil {
		return err
	}
	return vfs.WriteFile(vfs.Real(), t.Path, data)
}
