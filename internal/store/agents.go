package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

const (
	manifestName = "manifest"
	keptName     = "manifest.prev"
	goneSuffix   = ".gone" // ends the folder of a deleted agent until it is emptied
)

type agentID struct{ namespace, id string }

// agent is what is remembered of a manifest; replaced, never changed.
type agent struct {
	header AgentHeader
	intact bool // it was read from manifest, not from manifest.prev
}

// agentDir is the folder of an agent: the SHA-256 of its two names.
func (s *Store) agentDir(id agentID) string {
	var b []byte
	for _, name := range []string{id.namespace, id.id} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(name)))
		b = append(b, name...)
	}
	digest := sha256.Sum256(b)
	return filepath.Join(s.agentsDir, hex.EncodeToString(digest[:]))
}

func (s *Store) agent(id agentID) *agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agents[id]
}

func (s *Store) setAgent(id agentID, a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[id] = a
}

// List gives the header of every agent, by namespace and id.
func (s *Store) List() []AgentHeader {
	s.mu.Lock()
	headers := make([]AgentHeader, 0, len(s.agents))
	for _, a := range s.agents {
		headers = append(headers, a.header)
	}
	s.mu.Unlock()
	slices.SortFunc(headers, func(a, b AgentHeader) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	return headers
}

// Header is the header of one agent; false if there is none of that name.
func (s *Store) Header(namespace, id string) (AgentHeader, bool) {
	a := s.agent(agentID{namespace, id})
	if a == nil {
		return AgentHeader{}, false
	}
	return a.header, true
}

// Load reads an agent's manifest. When that is damaged the one kept back is
// returned, the agent stands at that turn from now on, and it is logged and
// counted. ErrNoAgent when there is none.
func (s *Store) Load(namespace, id string) (Manifest, error) {
	if err := s.enter(); err != nil {
		return Manifest{}, err
	}
	defer s.leave()
	name := agentID{namespace, id}
	before := s.agent(name)
	if before == nil {
		return Manifest{}, fmt.Errorf("store: agent %q: %w", id, ErrNoAgent)
	}
	m, a, err := s.readAgent(s.agentDir(name))
	if err != nil {
		return Manifest{}, fmt.Errorf("store: load agent %q: %w", id, err)
	}
	if a.intact != before.intact {
		s.replaceAgent(name, before, a)
	}
	return m, nil
}

// replaceAgent sets what was read unless something newer was published meanwhile.
func (s *Store) replaceAgent(id agentID, before, now *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agents[id] == before {
		s.agents[id] = now
	}
}

// readAgent reads the manifest in a folder, or the one kept back when it is
// damaged or, after a crash, not there.
func (s *Store) readAgent(dir string) (Manifest, *agent, error) {
	m, a, err := s.readManifest(dir, manifestName)
	var damaged *DamagedError
	isDamaged := errors.As(err, &damaged)
	if !isDamaged && !errors.Is(err, fs.ErrNotExist) {
		return m, a, err
	}
	if isDamaged {
		s.count(func(st *Stats) { st.DamagedManifests++ })
	}
	kept, a, keptErr := s.readManifest(dir, keptName)
	switch {
	case keptErr == nil:
		s.o.Log.Warn("store: using the manifest kept back", "agent", kept.ID, "turns", len(kept.Turns), "because", err)
		return kept, a, nil
	case isDamaged:
		return Manifest{}, nil, err
	case errors.Is(keptErr, fs.ErrNotExist):
		return Manifest{}, nil, ErrNoAgent
	}
	return Manifest{}, nil, keptErr
}

func (s *Store) readManifest(dir, name string) (Manifest, *agent, error) {
	path := filepath.Join(dir, name)
	data, err := vfs.ReadFile(s.o.FS, path)
	if err != nil {
		return Manifest{}, nil, err
	}
	m, err := format.DecodeManifest(data, path)
	if err != nil {
		return Manifest{}, nil, err
	}
	if s.agentDir(agentID{m.Namespace, m.ID}) != dir {
		return Manifest{}, nil, &DamagedError{Where: path, Reason: fmt.Sprintf("it is of agent %q, which belongs elsewhere", m.ID)}
	}
	return m, &agent{headerOf(&m, s.diskBytes(&m, len(data))), name == manifestName}, nil
}

// diskBytes is the size of a manifest and of the frames it names.
func (s *Store) diskBytes(m *Manifest, manifestBytes int) int64 {
	total := int64(manifestBytes)
	for _, t := range m.Tail {
		total += tailShape(t).FrameBytes()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range blocksOf(m) {
		if at, ok := s.index[id]; ok {
			total += at.FrameBytes()
		}
	}
	return total
}

// loadAgents reads every manifest. After an unclean end the folders are synced
// first: what is read must not be lost later.
func (s *Store) loadAgents(clean bool) error {
	if !clean {
		if err := s.o.FS.SyncDir(s.agentsDir); err != nil {
			return fmt.Errorf("sync agents: %w", err)
		}
	}
	infos, err := s.o.FS.ReadDir(s.agentsDir)
	if err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	for _, info := range infos {
		dir := filepath.Join(s.agentsDir, info.Name)
		switch {
		case !info.Dir:
		case strings.HasSuffix(info.Name, goneSuffix):
			err = vfs.RemoveTree(s.o.FS, dir)
		default:
			err = s.loadAgent(dir, clean)
		}
		if err != nil {
			return fmt.Errorf("agent folder %s: %w", info.Name, err)
		}
	}
	return nil
}

// loadAgent takes one agent into the list. One whose manifests are both damaged
// is left out, and its folder left alone.
func (s *Store) loadAgent(dir string, clean bool) error {
	if !clean {
		if err := s.o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	m, a, err := s.readAgent(dir)
	var damaged *DamagedError
	switch {
	case errors.Is(err, ErrNoAgent): // a first publish that did not finish
		return vfs.RemoveTree(s.o.FS, dir)
	case errors.As(err, &damaged):
		s.o.Log.Error("store: agent cannot be read", "err", err)
		return nil
	case err != nil:
		return err
	}
	s.setAgent(agentID{m.Namespace, m.ID}, a)
	return nil
}

// reload makes the list say what is on disk after a publish failed half way.
func (s *Store) reload(id agentID) {
	_, a, err := s.readAgent(s.agentDir(id))
	switch {
	case err == nil:
		s.setAgent(id, a)
	case errors.Is(err, ErrNoAgent):
		s.forgetAgent(id)
	default:
		s.o.Log.Error("store: agent cannot be read", "agent", id.id, "err", err)
	}
}

func (s *Store) forgetAgent(id agentID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.agents, id)
}

// removal is a delete on its way through the writer.
type removal struct {
	id   agentID
	done chan error
}

// Delete removes an agent, durably when it returns nil. Its frames stay: others
// may share them. ErrNoAgent when there is none.
func (s *Store) Delete(namespace, id string) error {
	r := &removal{agentID{namespace, id}, make(chan error, 1)}
	err := s.enqueue(r)
	if err == nil {
		err = <-r.done
	}
	if err != nil {
		return fmt.Errorf("store: delete agent %q: %w", id, err)
	}
	return nil
}

func (r *removal) run(w *writer) {
	err := w.s.remove(r.id)
	w.s.count(func(st *Stats) {
		switch {
		case err == nil:
			st.Deleted++
		case !errors.Is(err, ErrNoAgent):
			st.Errors++
		}
	})
	r.done <- err
}

// remove takes the whole folder away in one rename, so that no crash leaves the
// manifest kept back without the newer one, and empties it afterwards.
func (s *Store) remove(id agentID) error {
	if s.agent(id) == nil {
		return ErrNoAgent
	}
	dir := s.agentDir(id)
	gone := dir + goneSuffix
	if err := vfs.RemoveTree(s.o.FS, gone); err != nil {
		return err
	}
	if err := s.o.FS.Rename(dir, gone); err != nil {
		return err
	}
	s.forgetAgent(id)
	if err := s.o.FS.SyncDir(s.agentsDir); err != nil {
		return err
	}
	if err := vfs.RemoveTree(s.o.FS, gone); err != nil {
		s.o.Log.Warn("store: empty the folder of a deleted agent", "folder", gone, "err", err)
	}
	return nil
}
