package store

import (
	"slices"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/store/journal"
)

// install makes a manifest its agent's: a turn record at the end of the agent's
// file, or a new file when there is none that can be gone on with.
func (w *writer) install(m *Manifest) error {
	s := w.s
	id := agentID{m.Namespace, m.ID}
	before := s.agent(id)
	s.complete(m, before)
	former := s.formerKeys(before, m)
	mark, err := s.record(m, before, former)
	if err != nil {
		tried := format.CardOf(m, former, mark)
		if before != nil {
			s.unsure(id, &before.card, &tried)
		} else {
			s.unsure(id, &tried)
		}
		return err
	}
	s.setAgent(id, s.agentOf(m, former, mark))
	w.remember(id)
	return nil
}

// record writes the turn; mark is where the file ends then. After an error the
// agent is what its file says, which has to be replaced.
func (s *Store) record(m *Manifest, before *agent, former []kv.Key) (mark format.Mark, err error) {
	id := agentID{m.Namespace, m.ID}
	if before != nil && before.appendable {
		if record, mark, ok := s.turnRecord(before, m); ok {
			if err = s.frames.SpaceFor(int64(len(record))); err == nil {
				err = journal.Append(s.o.FS, s.agentDir(id), before.card.End, record)
			}
			return mark, err
		}
	}
	data, mark := format.NewJournal(m, former)
	return mark, s.replaceFile(id, data, before)
}

func (s *Store) turnRecord(before *agent, m *Manifest) (record []byte, next format.Mark, ok bool) {
	old, err := s.bodyOf(before)
	if err != nil || s.agent(before.name()) != before { // its file is not what it was
		return nil, format.Mark{}, false
	}
	return before.card.AppendTurn(&old, m)
}

// replaceFile writes an agent's file anew and keeps the one before if it is
// worth it.
func (s *Store) replaceFile(id agentID, data []byte, before *agent) error {
	if err := s.frames.SpaceFor(int64(len(data))); err != nil {
		return err
	}
	dir := s.agentDir(id)
	if before == nil {
		if err := s.makeAgentDir(dir); err != nil {
			return err
		}
	}
	if err := journal.Write(s.o.FS, dir, data, before != nil && before.intact); err != nil {
		s.reload(id)
		return err
	}
	return nil
}

// makeAgentDir makes an agent's folder and its name durable. The folder may be
// there from a publish that failed: its name is synced all the same.
func (s *Store) makeAgentDir(dir string) error {
	if err := s.o.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return s.o.FS.SyncDir(s.agentsDir)
}

func (s *Store) complete(m *Manifest, before *agent) {
	now := s.o.Clock().UTC()
	if m.Created.IsZero() {
		m.Created = now
		if before != nil && before.damaged == "" {
			m.Created = before.card.Created
		}
	}
	if m.LastUsed.IsZero() {
		m.LastUsed = now
	}
}

// formerKeys are the blocks an agent has named and does not any more, as far as
// they are stored: they go when it is deleted.
func (s *Store) formerKeys(before *agent, m *Manifest) []kv.Key {
	if before == nil {
		return nil
	}
	kept := 0
	for kept < len(m.Keys) && kept < len(before.card.Keys) && m.Keys[kept] == before.card.Keys[kept] {
		kept++
	}
	if kept == len(before.card.Keys) && len(before.card.Former) == 0 {
		return nil
	}
	former := slices.Concat(before.card.Former, before.card.Keys[kept:])
	return s.stillStored(former, m.Keys)
}

func (s *Store) stillStored(former, named []kv.Key) []kv.Key {
	seen := map[kv.Key]bool{}
	for _, key := range named {
		seen[key] = true
	}
	return slices.DeleteFunc(former, func(key kv.Key) bool {
		again := seen[key]
		seen[key] = true
		return again || !s.frames.Has(format.BlockID{Key: key})
	})
}

// agentOf is an agent whose file has just been written.
func (s *Store) agentOf(m *Manifest, former []kv.Key, mark format.Mark) *agent {
	a := &agent{card: format.CardOf(m, former, mark), intact: true, appendable: true, body: m}
	a.card.DiskBytes = s.diskBytes(&a.card)
	return a
}

// maxBodies is how many agents' tokens are kept in memory for their next turn.
const maxBodies = 64

// remember notes that an agent's tokens are in memory, and lets others' go.
func (w *writer) remember(id agentID) {
	w.bodies = append(slices.DeleteFunc(w.bodies, func(other agentID) bool { return other == id }), id)
	if len(w.bodies) <= maxBodies {
		return
	}
	w.s.forgetBody(w.bodies[0])
	w.bodies = slices.Delete(w.bodies, 0, 1)
}

// outgrown tells that an agent's turn records outweigh its snapshot.
func outgrown(c *format.Card) bool {
	return c.End-c.SnapshotBytes > max(c.SnapshotBytes, compactBytes)
}

const compactBytes = 64 << 10

// compact writes an agent's file anew as one snapshot when its turns outweigh it.
func (w *writer) compact(id agentID) {
	before := w.s.agent(id)
	if before == nil || !before.appendable || !outgrown(&before.card) {
		return
	}
	m, err := w.s.bodyOf(before)
	if err == nil {
		data, mark := format.NewJournal(&m, before.card.Former)
		if err = w.s.replaceFile(id, data, before); err == nil {
			w.s.setAgent(id, w.s.agentOf(&m, before.card.Former, mark))
		}
	}
	if err != nil {
		w.s.unsure(id, &before.card)
		w.s.o.Log.Warn("store: write an agent's file anew", "agent", id.id, "err", err)
	}
}
