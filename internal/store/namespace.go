package store

import (
	"cmp"
	"fmt"

	"mneme/internal/store/format"
	"mneme/internal/store/keyring"
	"mneme/internal/store/roster"
	"mneme/internal/vfs"
)

// erasure is an EraseNamespace on its way through the writer.
type erasure struct {
	namespace string
	done      chan error
}

// EraseNamespace deletes all agents of a namespace, destroys its key if it has one,
// and erases what is left of its blocks, all of them at once. Agents that could not
// be read because the key is gone go too. What is published in it later has a new
// key. After an error some of it may be gone; to call it again goes on.
func (s *Store) EraseNamespace(namespace string) error {
	e := &erasure{namespace, make(chan error, 1)}
	err := s.enqueue(e)
	if err == nil {
		err = <-e.done
	}
	if err != nil {
		return fmt.Errorf("store: erase namespace %q: %w", namespace, err)
	}
	return nil
}

func (e *erasure) run(w *writer) {
	err := w.eraseNamespace(e.namespace)
	if err != nil {
		w.s.count(func(st *Stats) { st.Errors++ })
	}
	w.out.Look()
	e.done <- err
}

// eraseNamespace lets the agents go before their key, so that no crash leaves files
// that cannot be told from those of a key that was lost, and the key before the
// frames: then they are dead whatever happens.
func (w *writer) eraseNamespace(namespace string) error {
	s := w.s
	agents := s.roster.In(namespace)
	if err := w.buryAll(agents); err != nil {
		return err
	}
	gone := s.roster.AllGone()
	deleted := s.roster.Gone(gone...)
	if err := s.roster.Leave(deleted...); err != nil {
		return err
	}
	if err := s.eraseKey(namespace); err != nil {
		return err
	}
	s.frames.DropUnreadable()
	if err := w.eraseFrames(deleted, &format.Card{Namespace: namespace}); err != nil {
		return err
	}
	s.count(func(st *Stats) { st.Deleted += int64(len(agents)) })
	return s.removeGone(gone)
}

// buryAll buries agents, durably. A family's members that have no file go with the
// family, which is all of one namespace.
func (w *writer) buryAll(agents []*roster.Agent) error {
	s := w.s
	if before := s.roster.AllGone(); len(before) > 0 {
		if err := w.eraseGone(before...); err != nil {
			return err
		}
	}
	for _, a := range agents {
		dir, gone := s.roster.Folder(a.Name()), s.goneFolder(a.Name())
		bury := func() error { return s.o.FS.Rename(dir, gone) }
		if a.Unwritten() {
			bury = func() error { return vfs.RemoveTree(s.o.FS, dir) }
		}
		if err := bury(); err != nil {
			return err
		}
		s.roster.Bury(a, gone)
	}
	return s.roster.Sync()
}

// eraseKey destroys the key of a namespace, and what there is that had lost it.
func (s *Store) eraseKey(namespace string) error {
	if s.o.Ring == nil {
		return nil
	}
	if err := s.roster.RemoveKeyless(keyring.DigestOf(namespace)); err != nil {
		return err
	}
	return s.o.Ring.Erase(namespace)
}

// encrypt writes anew what was plain when the folder got a ring: families, and
// agents' files. Frames stay as they are.
func (w *writer) encrypt() error {
	families, err := w.s.roster.EncryptFamilies()
	plain := w.s.roster.Plain()
	for _, a := range plain {
		if failed := w.s.rewrite(a); failed != nil {
			err = cmp.Or(err, fmt.Errorf("agent %q: %w", a.Card.ID, failed))
			continue
		}
		w.remember(a.Name())
	}
	if len(plain)+families > 0 {
		w.s.o.Log.Info("store: encrypted what was plain", "agents", len(plain), "families", families)
	}
	return err
}
