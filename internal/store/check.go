package store

import (
	"context"
	"errors"
	"fmt"

	"mneme/internal/store/format"
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
	errs := append(s.frames.Check(), s.checkFamilies())
	for _, h := range s.List() {
		if err := s.checkAgent(agentID{Namespace: h.Namespace, ID: h.ID}); err != nil {
			errs = append(errs, fmt.Errorf("agent %q: %w", h.ID, err))
		}
	}
	return errors.Join(errs...)
}

// checkAgent reads an agent's file up to its last turn and looks for the frames
// it names. One that was deleted or published meanwhile is let be.
func (s *Store) checkAgent(id agentID) error {
	a := s.roster.Agent(id)
	if a == nil {
		return nil
	}
	err := errors.Join(s.roster.Check(a), s.missingOf(&a.Card))
	if err != nil {
		_ = s.Flush(context.Background()) // the writer may be about to say why
	}
	if s.roster.Agent(id) != a {
		return nil
	}
	return err
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
