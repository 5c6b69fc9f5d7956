package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"mneme/internal/store/keyring"
)

var (
	// ErrEncrypted is returned by Open for an encrypted data folder without Options.Ring.
	ErrEncrypted = errors.New("is encrypted; --kv-key-file is needed")
	// ErrMaster is returned by Open for a folder that another master key has encrypted.
	ErrMaster = keyring.ErrMaster
)

// checkKeys refuses, before anything is changed, a folder whose keys are not
// those of the ring.
func (s *Store) checkKeys() error {
	dir := filepath.Join(s.o.Dir, "keys")
	if s.o.Ring != nil {
		if s.o.Ring.Dir() != dir {
			return fmt.Errorf("the ring's folder is %s, not %s", s.o.Ring.Dir(), dir)
		}
		return s.o.Ring.Check()
	}
	encrypted, err := keyring.InUse(s.o.FS, dir)
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	if encrypted {
		return fmt.Errorf("data folder %s %w", s.o.Dir, ErrEncrypted)
	}
	return nil
}

func (s *Store) loadKeys() error {
	if s.o.Ring == nil {
		return nil
	}
	return s.o.Ring.Load()
}

// noteKeys says which keys cannot be read.
func (s *Store) noteKeys() {
	if s.o.Ring == nil {
		return
	}
	for _, err := range s.o.Ring.Damaged() {
		s.o.Log.Error("store: key of a namespace cannot be read", "err", err)
		var damaged *DamagedError
		if errors.As(err, &damaged) {
			s.frames.Note(Damage{Where: damaged.Where, Reason: damaged.Reason})
		}
	}
}
