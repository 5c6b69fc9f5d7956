package store

import (
	"context"

	"mneme/internal/store/format"
)

// Fork publishes a new agent that has what another has, or had: m names only what
// is stored. When it returns nil the agent is durable, for the price of a record
// in files that all forks from one point share; its first turn gives it a file of
// its own. Errors are those of Publish, and ErrAgentExists.
func (s *Store) Fork(ctx context.Context, m Manifest) error {
	return s.publish(ctx, "fork", &commit{manifest: clipped(m), fork: true})
}

// fork waits for what is left of a deleted agent of that name: its family's record
// must not become the new one's.
func (w *writer) fork(m *Manifest) error {
	s := w.s
	id := idOf(m)
	if s.roster.Agent(id) != nil {
		return ErrAgentExists
	}
	if gone := s.goneFolder(id); len(s.roster.Gone(gone)) > 0 {
		if err := w.eraseGone(gone); err != nil {
			return err
		}
	}
	s.complete(m, nil)
	family, err := s.newFamily(m)
	if err != nil {
		return err
	}
	return w.join(m, family)
}

// newFamily is the one that a manifest's agent could be in.
func (s *Store) newFamily(m *Manifest) (format.Family, error) {
	c, err := s.o.Ring.Of(m.Namespace)
	if err != nil {
		return format.Family{}, err
	}
	return format.NewFamily(m, c)
}

// join makes an agent a member of the family of its manifest, or says anew what
// one is.
func (w *writer) join(m *Manifest, family format.Family) error {
	err := w.s.frames.SpaceFor(2 * family.Bytes)
	if err == nil {
		err = w.s.roster.Join(m, family)
	}
	if err == nil {
		w.remember(idOf(m))
	}
	return err
}

// inspection has the writer look at the families: nobody changes them then.
type inspection struct{ done chan error }

func (i *inspection) run(w *writer) { i.done <- w.s.roster.CheckFamilies() }

func (s *Store) checkFamilies() error {
	i := &inspection{make(chan error, 1)}
	if err := s.enqueue(i); err != nil {
		return err
	}
	return <-i.done
}
