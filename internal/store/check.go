package store

import (
	"cmp"
	"errors"
	"fmt"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
)

// Check reads everything: every frame that can be found, every agent's file, and
// whether the frames are there that those of this KV fingerprint name. It reports
// all it finds, joined; damaged frames are forgotten as Read does. It may run
// beside anything else.
func (s *Store) Check() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	errs := s.frames.Check()
	for _, h := range s.List() {
		if err := s.checkAgent(agentID{h.Namespace, h.ID}); err != nil {
			errs = append(errs, fmt.Errorf("agent %q: %w", h.ID, err))
		}
	}
	return errors.Join(errs...)
}

// checkAgent reads an agent's file up to its last turn and looks for the frames
// it names. One that was deleted or published meanwhile is let be.
func (s *Store) checkAgent(id agentID) error {
	a := s.agent(id)
	if a == nil {
		return nil
	}
	found, err := journal.Read(s.o.FS, s.agentDir(id), a.card.End)
	if err == nil && found.Mark != a.card.Mark {
		err = &DamagedError{Where: s.agentDir(id), Reason: cmp.Or(found.Lost, "it is not the turn that was published")}
	}
	missing := s.missingOf(&a.card)
	if s.agent(id) != a {
		return nil
	}
	return errors.Join(err, missing)
}

func (s *Store) missingOf(c *format.Card) error {
	if c.KVFingerprint != s.o.KVFingerprint {
		return nil // its KV is in another folder
	}
	var errs []error
	for id := range c.Frames() {
		if !s.frames.Has(id) {
			errs = append(errs, ofBlock(id, ErrMissing))
		}
	}
	return errors.Join(errs...)
}
