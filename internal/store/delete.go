package store

import (
	"errors"
	"fmt"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/store/roster"
	"mneme/internal/vfs"
)

// removal is a delete on its way through the writer.
type removal struct {
	id   agentID
	done chan error
}

// Delete removes an agent and erases what only it had: when it returns nil, no
// byte of its file, nor of a block or tail that no other agent names, is on disk
// any more; nor are blocks that its unfinished turns may have left. ErrNoAgent when there is none.
// After another error the agent may be gone from the list; to call Delete again,
// or Open, goes on with erasing.
func (s *Store) Delete(namespace, id string) error {
	r := &removal{agentID{Namespace: namespace, ID: id}, make(chan error, 1)}
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
	err := w.remove(r.id)
	w.s.count(func(st *Stats) {
		switch {
		case err == nil:
			st.Deleted++
		case !errors.Is(err, ErrNoAgent):
			st.Errors++
		}
	})
	w.out.Look()
	r.done <- err
}

func (s *Store) goneFolder(id agentID) string { return s.roster.Folder(id) + journal.GoneSuffix }

// remove takes the whole folder away in one rename, so that no crash leaves the
// file kept back without the newer one, and erases afterwards.
func (w *writer) remove(id agentID) error {
	s := w.s
	gone := s.goneFolder(id)
	a, before := s.roster.Agent(id), len(s.roster.Gone(gone)) > 0
	if a == nil && !before {
		return ErrNoAgent
	}
	if before {
		if err := w.eraseGone(gone); err != nil || a == nil {
			return err
		}
	}
	if err := s.bury(a, gone); err != nil {
		return err
	}
	s.roster.Bury(a, gone)
	if err := s.roster.Sync(); err != nil {
		return err
	}
	return w.eraseGone(gone)
}

// bury makes a deleted agent's folder the one that says so. A member of a family
// that has no file gets one for that: with it no crash can bring the member back.
func (s *Store) bury(a *roster.Agent, gone string) error {
	dir := s.roster.Folder(a.Name())
	if !a.Unwritten() {
		return s.o.FS.Rename(dir, gone)
	}
	if err := vfs.RemoveTree(s.o.FS, dir); err != nil { // of a first turn that failed
		return err
	}
	data, err := s.lastWords(a)
	if err == nil {
		err = s.o.FS.MkdirAll(gone, 0o700)
	}
	if err == nil {
		err = journal.Write(s.o.FS, gone, data, false)
	}
	if err != nil {
		err = errors.Join(err, vfs.RemoveTree(s.o.FS, gone))
	}
	return err
}

// lastWords is the file of a deleted agent that had none: nothing that can be read,
// if the agent is damaged.
func (s *Store) lastWords(a *roster.Agent) (data []byte, err error) {
	m, err := s.roster.Body(a)
	if err != nil {
		return nil, nil
	}
	data, _, err = s.roster.NewJournal(&m, nil, nil)
	return data, err
}

// eraseGone erases deleted agents' frames, in this run's segments and in those of
// other KV fingerprints, what their families say of them, and then their folders.
func (w *writer) eraseGone(dirs ...string) error {
	deleted := w.s.roster.Gone(dirs...)
	if err := w.eraseFrames(deleted); err != nil {
		return err
	}
	if err := w.s.roster.Leave(deleted...); err != nil {
		return err
	}
	return w.s.removeGone(dirs)
}

// eraseFrames erases what only these had, and more if they say so.
func (w *writer) eraseFrames(deleted []*roster.Agent, more ...*format.Card) error {
	unknown := false
	for _, a := range deleted {
		more, unknown = append(more, &a.Card), unknown || a.Damaged != ""
	}
	return w.out.Erase(unknown, more...)
}

// removeGone removes the folders of deleted agents, and forgets them.
func (s *Store) removeGone(dirs []string) error {
	for _, dir := range dirs {
		if err := vfs.RemoveTree(s.o.FS, dir); err != nil {
			return err
		}
	}
	if err := s.roster.Sync(); err != nil {
		return err
	}
	s.roster.Erased(dirs...)
	return nil
}
