// Package offline looks at a data folder that no server uses. It knows where the
// agents are in it and how to keep a server out meanwhile; files are left to
// store's rooms, flags to cli.
package offline

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mneme/internal/store"
	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/vfs"
)

// Agent is what an agent's file says of it.
type Agent struct {
	Kind      string    `json:"object"` // "agent"
	Namespace string    `json:"namespace"`
	ID        string    `json:"id"`
	Model     string    `json:"model"`
	Tokens    int       `json:"tokens"`
	Turns     int       `json:"turns"`
	Parent    string    `json:"parent,omitempty"`
	Created   time.Time `json:"created_at"`
	LastUsed  time.Time `json:"last_used_at"`
	Damage    string    `json:"damage,omitempty"` // what of it cannot be read
}

// check refuses a folder that holds no agents: it was never a data folder.
func check(fsys vfs.FS, dir string) error {
	_, err := fsys.Stat(filepath.Join(dir, "agents"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is no data folder: it has no agents", dir)
	}
	return err
}

// Agents lists the agents of a data folder by name and changes nothing in it. An
// agent that cannot be read says why. A *store.LockedError names the process
// that has the folder.
func Agents(fsys vfs.FS, dir string) ([]Agent, error) {
	if err := check(fsys, dir); err != nil {
		return nil, err
	}
	unlock, err := lock(fsys, dir)
	if err != nil {
		return nil, err
	}
	agents, err := all(fsys, dir)
	return agents, errors.Join(err, unlock())
}

// all reads every agent's file.
func all(fsys vfs.FS, dir string) (agents []Agent, err error) {
	infos, err := fsys.ReadDir(filepath.Join(dir, "agents"))
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if !info.Dir || strings.HasSuffix(info.Name, ".gone") {
			continue
		}
		a, err := read(fsys, filepath.Join(dir, "agents", info.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // left by a first turn that was cut short
		}
		if err != nil {
			return nil, err
		}
		agents = append(agents, a)
	}
	slices.SortFunc(agents, func(a, b Agent) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	return agents, nil
}

// lock keeps a server from starting meanwhile. A folder without a lock file has
// never seen one, and gets none.
func lock(fsys vfs.FS, dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	if _, err := fsys.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	held, err := fsys.Lock(path)
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return nil, &store.LockedError{Dir: dir, Holder: holder(fsys, path)}
	case err != nil:
		return nil, err
	}
	return held.Close, nil
}

// holder is the name that a server wrote into its lock file.
func holder(fsys vfs.FS, path string) string {
	text, _ := vfs.ReadFile(fsys, path) // the file is there: it is locked
	return cmp.Or(strings.TrimSpace(string(text)), "it has not said its name")
}

// read describes the agent of one folder; fs.ErrNotExist when it holds none.
func read(fsys vfs.FS, dir string) (Agent, error) {
	found, err := journal.Read(fsys, dir, 0)
	switch {
	case unreadable(err):
		name := cmp.Or(found.ID, filepath.Base(dir))
		return Agent{Kind: "agent", Namespace: found.Namespace, ID: name, Damage: err.Error()}, nil
	case err != nil:
		return Agent{}, err
	}
	m := found.Manifest
	return Agent{
		Kind: "agent", Namespace: m.Namespace, ID: m.ID, Model: m.Model, Tokens: len(m.Tokens), Turns: len(m.Turns), Parent: m.Parent,
		Created: second(m.Created), LastUsed: second(m.LastUsed), Damage: found.Lost,
	}, nil
}

// unreadable says whether an error is of the file and not of the disk.
func unreadable(err error) bool {
	var damaged *format.DamagedError
	var version *format.VersionError
	return errors.As(err, &damaged) || errors.As(err, &version)
}

// second is an instant as all our resources have it.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
