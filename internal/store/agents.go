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

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
)

type agentID struct{ namespace, id string }

// agent is what is remembered of an agent's file; replaced, never changed.
type agent struct {
	card       format.Card
	intact     bool      // the file can be read, if not to its end: worth keeping back
	appendable bool      // it is durable and ends at card.End
	body       *Manifest // nil: on disk
	damaged    string    // why there is nothing to read
	lost       string    // what of the file could not be read
	torn       bool      // that may be a crash's doing

	// After a publish that failed: turns that its file may turn out to be at. What
	// they name counts as named until the next publish.
	maybe []*format.Card
}

func (a *agent) name() agentID { return agentID{a.card.Namespace, a.card.ID} }

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

// setAgent replaces an agent; nil takes it off the list. What it names counts
// before what it named is let go.
func (s *Store) setAgent(id agentID, a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.agents[id]
	if a != nil {
		s.agents[id] = a
		s.nameLocked(a)
	} else {
		delete(s.agents, id)
	}
	if before != nil {
		s.unnameLocked(before)
	}
}

// nameLocked counts what an agent names, once the writer has begun to.
func (s *Store) nameLocked(a *agent) {
	if !s.naming {
		return
	}
	s.frames.Name(a.card.Frames())
	for _, c := range a.maybe {
		s.frames.Name(c.Frames())
	}
}

// unnameLocked takes that back.
func (s *Store) unnameLocked(a *agent) {
	if !s.naming {
		return
	}
	s.frames.Unname(a.card.Frames())
	for _, c := range a.maybe {
		s.frames.Unname(c.Frames())
	}
}

// unsure leaves an agent where it stands, or may stand: its file is replaced at
// the next turn.
func (s *Store) unsure(id agentID, maybe ...*format.Card) {
	a := s.agent(id)
	if a == nil {
		return
	}
	other := *a
	other.appendable, other.maybe = false, maybe
	s.replaceAgent(id, a, &other)
}

func (s *Store) forgetBody(id agentID) {
	if a := s.agent(id); a != nil {
		other := *a
		other.body = nil
		s.replaceAgent(id, a, &other)
	}
}

// replaceAgent sets what is known now unless something newer was published meanwhile.
func (s *Store) replaceAgent(id agentID, before, now *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agents[id] == before {
		s.agents[id] = now
		s.nameLocked(now)
		s.unnameLocked(before)
	}
}

// List gives the header of every agent, by namespace and id; those that cannot
// be read say why.
func (s *Store) List() []AgentHeader {
	s.mu.Lock()
	headers := make([]AgentHeader, 0, len(s.agents))
	for _, a := range s.agents {
		headers = append(headers, headerOf(&a.card, a.damaged))
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
	return headerOf(&a.card, a.damaged), true
}

// Load gives an agent's manifest. When the end of its file is damaged the agent
// stands at the turn before from now on, and it is logged and counted. ErrNoAgent
// when there is none, a *DamagedError when it cannot be read.
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
	m, err := s.bodyOf(before)
	if err != nil {
		return Manifest{}, fmt.Errorf("store: load agent %q: %w", id, err)
	}
	return clipped(m), nil
}

// bodyOf gives an agent's manifest, from memory or from its file. If that no
// longer says what it said, the agent becomes what it says.
func (s *Store) bodyOf(a *agent) (Manifest, error) {
	switch {
	case a.damaged != "":
		return Manifest{}, &DamagedError{Where: s.agentDir(a.name()), Reason: a.damaged}
	case a.body != nil:
		return *a.body, nil
	}
	m, now, err := s.readAgent(s.agentDir(a.name()), a.card.End)
	if now != nil && now.damaged != "" {
		s.noteAgent(a, now.damaged)
	}
	if err != nil {
		return m, err
	}
	if now.card.Mark != a.card.Mark {
		s.sayLost(now)
		now.appendable = false
		s.replaceAgent(a.name(), a, now)
	}
	return m, nil
}

// readAgent reads the file in a folder, or the one kept back when it is damaged
// or, after a crash, not there. ErrNoAgent when there is neither. With a
// *DamagedError the agent is given as far as it is known.
func (s *Store) readAgent(dir string, limitBytes int64) (Manifest, *agent, error) {
	found, err := journal.Read(s.o.FS, dir, limitBytes)
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Manifest{}, nil, ErrNoAgent
	case errors.As(err, &damaged):
		return Manifest{}, &agent{card: format.Card{Namespace: found.Namespace, ID: found.ID}, damaged: damaged.Error()}, err
	case err != nil:
		return Manifest{}, nil, err
	}
	m := found.Manifest
	if s.agentDir(agentID{m.Namespace, m.ID}) != dir {
		return Manifest{}, nil, &DamagedError{Where: dir, Reason: fmt.Sprintf("it is of agent %q, which belongs elsewhere", m.ID)}
	}
	a := &agent{
		card:   format.CardOf(&m, s.stillStored(found.Former, m.Keys), found.Mark),
		intact: !found.Kept, appendable: found.Lost == "", lost: found.Lost, torn: found.Torn,
	}
	a.card.DiskBytes = s.diskBytes(&a.card)
	return m, a, nil
}

// sayLost says that an agent's file is not what was written. What a crash can
// have torn was never answered for.
func (s *Store) sayLost(a *agent) {
	log, about := s.o.Log, []any{"agent", a.card.ID, "turns", a.card.Turns, "because", a.lost}
	switch {
	case a.lost == "":
	case a.torn && !s.clean:
		log.Info("store: an agent's last turn was cut short", about...)
	default:
		log.Warn("store: an agent has lost turns", about...)
		s.noteAgent(a, a.lost)
	}
}

func (s *Store) noteAgent(a *agent, reason string) {
	s.count(func(st *Stats) { st.DamagedManifests++ })
	s.frames.Note(Damage{Where: s.agentDir(a.name()), Reason: reason, Namespace: a.card.Namespace, ID: a.card.ID})
}

// diskBytes is the size of an agent's file and of the frames it names.
func (s *Store) diskBytes(c *format.Card) int64 { return c.End + s.frames.BytesOf(c.Frames()) }

// reload makes the list say what is on disk after a publish failed half way.
func (s *Store) reload(id agentID) {
	_, a, err := s.readAgent(s.agentDir(id), 0)
	switch {
	case a != nil && a.name() == id:
		s.setAgent(id, a)
	case errors.Is(err, ErrNoAgent):
		s.setAgent(id, nil)
	default:
		s.o.Log.Error("store: agent cannot be read", "agent", id.id, "err", err)
	}
}
