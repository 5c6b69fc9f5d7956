package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"mneme/internal/store/format"
)

// Check reads everything: every frame that can be found, every manifest and the
// one kept back, and the tails they name; every block that a manifest of this KV
// fingerprint names must be there. It reports all it finds, joined; damaged
// blocks are forgotten as Read does. It may run beside anything else.
func (s *Store) Check() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	errs := s.checkBlocks()
	for _, h := range s.List() {
		id := agentID{h.Namespace, h.ID}
		for _, name := range []string{manifestName, keptName} {
			if err := s.checkManifest(id, name); err != nil {
				errs = append(errs, fmt.Errorf("%s of agent %q: %w", name, h.ID, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Store) checkBlocks() (errs []error) {
	var buf []byte
	for _, id := range s.blockIDs() {
		at, ok := s.find(id)
		if !ok {
			continue
		}
		buf = slices.Grow(buf[:0], at.PayloadBytes)[:at.PayloadBytes]
		_, err := s.readFrame(at, format.Wanted{Kind: format.Block, Key: id.Key, Group: id.Group, AnyTokens: true}, buf)
		if err != nil {
			s.quarantine(id, at, err)
			errs = append(errs, ofBlock(id, err))
		}
	}
	return errs
}

func (s *Store) blockIDs() []format.BlockID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]format.BlockID, 0, len(s.index))
	for id := range s.index {
		ids = append(ids, id)
	}
	return ids
}

// checkManifest checks one of an agent's two manifests. That the one kept back,
// or both of an agent deleted meanwhile, do not exist is no error.
func (s *Store) checkManifest(id agentID, name string) error {
	m, _, err := s.readManifest(s.agentDir(id), name)
	if errors.Is(err, fs.ErrNotExist) && (name == keptName || s.agent(id) == nil) {
		return nil
	}
	if err != nil {
		return err
	}
	if m.KVFingerprint != s.o.KVFingerprint {
		return nil // its KV is in another folder
	}
	var errs []error
	for id := range blocksOf(&m) {
		if !s.Has(id.Key, id.Group) {
			errs = append(errs, ofBlock(id, ErrMissing))
		}
	}
	for _, ref := range m.Tail {
		want := format.Wanted{Kind: format.Tail, Group: ref.Group, AnyTokens: true}
		if err := s.readTail(ref, want, make([]byte, max(0, min(ref.Bytes, format.MaxPayloadBytes)))); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
