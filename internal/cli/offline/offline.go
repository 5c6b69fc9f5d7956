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
	"mneme/internal/store/families"
	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/store/keyring"
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

// Ring is the keys of a data folder under the master key in a file; nil without one.
func Ring(fsys vfs.FS, dir, keyFile string) (*keyring.Ring, error) {
	if keyFile == "" {
		return nil, nil
	}
	master, err := keyring.ReadMaster(keyFile)
	if err != nil {
		return nil, err
	}
	return keyring.Open(fsys, keysIn(dir), master)
}

func keysIn(dir string) string { return filepath.Join(dir, "keys") }

// Agents lists the agents of a data folder by name and changes nothing in it. An
// agent that cannot be read says why. A *store.LockedError names the process
// that has the folder. An encrypted folder takes its ring.
func Agents(fsys vfs.FS, dir string, ring *keyring.Ring) ([]Agent, error) {
	if err := check(fsys, dir); err != nil {
		return nil, err
	}
	unlock, err := lock(fsys, dir)
	if err != nil {
		return nil, err
	}
	agents, err := all(fsys, dir, ring)
	return agents, errors.Join(err, unlock())
}

// readKeys makes the ring know its keys; without one there must be none.
func readKeys(fsys vfs.FS, dir string, ring *keyring.Ring) error {
	if ring != nil {
		return ring.Peek()
	}
	encrypted, err := keyring.InUse(fsys, keysIn(dir))
	if err == nil && encrypted {
		err = fmt.Errorf("data folder %s %w", dir, store.ErrEncrypted)
	}
	return err
}

// all reads every agent's file.
func all(fsys vfs.FS, dir string, ring *keyring.Ring) (agents []Agent, err error) {
	if err := readKeys(fsys, dir, ring); err != nil {
		return nil, err
	}
	infos, err := fsys.ReadDir(filepath.Join(dir, "agents"))
	if err != nil {
		return nil, err
	}
	family := families.In(fsys, dir, ring)
	for _, info := range infos {
		if !info.Dir || strings.HasSuffix(info.Name, journal.GoneSuffix) {
			continue
		}
		a, err := read(fsys, filepath.Join(dir, "agents", info.Name), family)
		if errors.Is(err, fs.ErrNotExist) {
			continue // left by a first turn that was cut short
		}
		if err != nil {
			return nil, err
		}
		agents = append(agents, a)
	}
	forked, err := unwritten(family)
	agents = append(agents, forked...)
	slices.SortFunc(agents, func(a, b Agent) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	return agents, err
}

// unwritten reads the agents that have no folder: those that were forked and have
// written no turn since.
func unwritten(all families.Folder) (agents []Agent, err error) {
	ids, _, err := all.List()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		found, err := all.Read(id)
		if err != nil && !unreadable(err) {
			return nil, err
		}
		damage := "" // of one of the two files costs no agent
		if err != nil {
			damage = err.Error()
		}
		members, err := all.Unwritten(&found)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			one := m.Of(found.Common)
			agents = append(agents, of(&one, damage))
		}
	}
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
func read(fsys vfs.FS, dir string, family families.Folder) (Agent, error) {
	found, err := journal.Read(fsys, dir, 0, family.Common, family.Ring)
	switch {
	case unreadable(err):
		name := cmp.Or(found.ID, filepath.Base(dir))
		return Agent{Kind: "agent", Namespace: found.Namespace, ID: name, Damage: err.Error()}, nil
	case err != nil:
		return Agent{}, err
	}
	return of(&found.Manifest, found.Lost), nil
}

// of describes the agent of a manifest.
func of(m *format.Manifest, damage string) Agent {
	return Agent{
		Kind: "agent", Namespace: m.Namespace, ID: m.ID, Model: m.Model, Tokens: len(m.Tokens), Turns: len(m.Turns), Parent: m.Parent,
		Created: second(m.Created), LastUsed: second(m.LastUsed), Damage: damage,
	}
}

// unreadable says whether an error is of the file and not of the disk.
func unreadable(err error) bool {
	var damaged *format.DamagedError
	var version *format.VersionError
	return errors.As(err, &damaged) || errors.As(err, &version)
}

// second is an instant as all our resources have it.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
