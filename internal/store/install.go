package store

import (
	"slices"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/store/roster"
)

// install makes a manifest its agent's: a turn record at the end of the agent's
// file, or a new file when there is none that can be gone on with.
func (w *writer) install(m *Manifest) error {
	s := w.s
	id := idOf(m)
	before := s.roster.Agent(id)
	s.complete(m, before)
	if before != nil && before.Unwritten() && before.Appendable {
		family, err := s.newFamily(m)
		if err != nil {
			return err
		}
		if family.ID == before.Card.Family {
			return w.join(m, family)
		}
	}
	former := s.roster.Former(before, m)
	mark, err := s.record(m, before, former)
	if err != nil {
		tried := format.CardOf(m, former, mark)
		if before != nil {
			s.roster.Unsure(id, &before.Card, &tried)
		} else {
			s.roster.Unsure(id, &tried)
		}
		return err
	}
	s.roster.Set(id, s.roster.Written(m, former, mark, before))
	w.remember(id)
	return nil
}

// record writes the turn; mark is where the file ends then. After an error the
// agent is what its file says, which has to be replaced.
func (s *Store) record(m *Manifest, before *roster.Agent, former []kv.Key) (mark format.Mark, err error) {
	id := idOf(m)
	if before != nil && before.Appendable {
		if record, mark, ok := s.turnRecord(before, m); ok {
			if err = s.frames.SpaceFor(int64(len(record))); err == nil {
				err = journal.Append(s.o.FS, s.roster.Folder(id), before.Card.End, record)
			}
			return mark, err
		}
	}
	data, mark, err := s.roster.NewJournal(m, former, before)
	if err != nil {
		return mark, err
	}
	return mark, s.replaceFile(id, data, before)
}

func (s *Store) turnRecord(before *roster.Agent, m *Manifest) (record []byte, next format.Mark, ok bool) {
	old, err := s.roster.Body(before)
	if err != nil || s.roster.Agent(before.Name()) != before { // its file is not what it was
		return nil, format.Mark{}, false
	}
	c, err := s.o.Ring.Of(m.Namespace)
	if err != nil {
		return nil, format.Mark{}, false // NewJournal says so
	}
	return before.Card.AppendTurn(&old, m, c)
}

// replaceFile writes an agent's file anew and keeps the one before if it is
// worth it.
func (s *Store) replaceFile(id agentID, data []byte, before *roster.Agent) error {
	if err := s.frames.SpaceFor(int64(len(data))); err != nil {
		return err
	}
	dir := s.roster.Folder(id)
	if before == nil || before.Unwritten() {
		if err := s.makeAgentDir(dir); err != nil {
			return err
		}
	}
	if err := s.writeJournal(dir, data, before); err != nil {
		s.roster.Reload(id)
		return err
	}
	return nil
}

func (s *Store) writeJournal(dir string, data []byte, before *roster.Agent) error {
	if before != nil && s.roster.IsPlain(before) {
		return journal.Overwrite(s.o.FS, dir, data)
	}
	return journal.Write(s.o.FS, dir, data, before != nil && before.Intact)
}

// makeAgentDir makes an agent's folder and its name durable. The folder may be
// there from a publish that failed: its name is synced all the same.
func (s *Store) makeAgentDir(dir string) error {
	if err := s.o.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return s.roster.Sync()
}

func (s *Store) complete(m *Manifest, before *roster.Agent) {
	now := s.o.Clock().UTC()
	if m.Created.IsZero() {
		m.Created = now
		if before != nil && before.Damaged == "" {
			m.Created = before.Card.Created
		}
	}
	if m.LastUsed.IsZero() {
		m.LastUsed = now
	}
}

// maxBodies is how many agents' tokens are kept in memory for their next turn.
const maxBodies = 64

// remember notes that an agent's tokens are in memory, and lets others' go.
func (w *writer) remember(id agentID) {
	w.bodies = append(slices.DeleteFunc(w.bodies, func(other agentID) bool { return other == id }), id)
	if len(w.bodies) <= maxBodies {
		return
	}
	w.s.roster.ForgetBody(w.bodies[0])
	w.bodies = slices.Delete(w.bodies, 0, 1)
}

// outgrown tells that an agent's turn records outweigh its snapshot.
func outgrown(c *format.Card) bool {
	return c.End-c.SnapshotBytes > max(c.SnapshotBytes, compactBytes)
}

const compactBytes = 64 << 10

// compact writes an agent's file anew as one snapshot when its turns outweigh it.
func (w *writer) compact(id agentID) {
	s := w.s
	before := s.roster.Agent(id)
	if before == nil || !before.Appendable || !outgrown(&before.Card) {
		return
	}
	if err := s.rewrite(before); err != nil {
		s.o.Log.Warn("store: write an agent's file anew", "agent", id.ID, "err", err)
	}
}

// rewrite writes an agent's file anew as one snapshot. After an error only another
// one can go on.
func (s *Store) rewrite(before *roster.Agent) error {
	var data []byte
	var mark format.Mark
	m, err := s.roster.Body(before)
	if err == nil {
		data, mark, err = s.roster.NewJournal(&m, before.Card.Former, before)
	}
	if err == nil {
		err = s.replaceFile(before.Name(), data, before)
	}
	if err != nil {
		s.roster.Unsure(before.Name(), &before.Card)
		return err
	}
	s.roster.Set(before.Name(), s.roster.Written(&m, before.Card.Former, mark, before))
	return nil
}
