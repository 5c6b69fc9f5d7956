package store

import (
	"errors"
	"fmt"

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

// remove takes the whole folder away in one rename, so that no crash leaves the
// file kept back without the newer one, and erases afterwards.
func (w *writer) remove(id agentID) error {
	s := w.s
	dir := s.agentDir(id)
	gone := dir + goneSuffix
	a, before := s.agent(id), s.gone[gone]
	if a == nil && before == nil {
		return ErrNoAgent
	}
	if before != nil {
		if err := w.eraseGone(gone); err != nil || a == nil {
			return err
		}
	}
	if err := s.o.FS.Rename(dir, gone); err != nil {
		return err
	}
	s.gone[gone] = a
	s.setAgent(id, nil)
	if err := s.o.FS.SyncDir(s.agentsDir); err != nil {
		return err
	}
	return w.eraseGone(gone)
}

// eraseGone erases a deleted agent's frames, in this run's segments and in those
// of other KV fingerprints, and then its folder.
func (w *writer) eraseGone(dir string) error {
	s := w.s
	a := s.gone[dir]
	if err := w.out.Erase(&a.card, a.damaged != ""); err != nil {
		return err
	}
	if err := vfs.RemoveTree(s.o.FS, dir); err != nil {
		return err
	}
	if err := s.o.FS.SyncDir(s.agentsDir); err != nil {
		return err
	}
	delete(s.gone, dir)
	return nil
}
