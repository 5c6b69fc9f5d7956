package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mneme/internal/vfs"
)

const (
	lockName  = "lock"
	probeName = "probe"

	// minFreeBytes is what a data folder must have free at start.
	minFreeBytes = 1 << 20
	probeBytes   = 4096

	cleanMark = "closed\n"
)

// takeLock takes the data folder for this process and writes its name into the
// lock file. clean tells that the last holder ended with Close, or that there
// was none: then nothing in the folder waits to be synced.
func (s *Store) takeLock() (clean bool, err error) {
	path := lockPath(s.o.Dir)
	lock, err := s.o.FS.Lock(path)
	if errors.Is(err, vfs.ErrLocked) {
		return false, &LockedError{Dir: s.o.Dir, Holder: s.holder(path)}
	}
	if err != nil {
		return false, fmt.Errorf("data folder %s cannot be used: %w", s.o.Dir, err)
	}
	s.lock = lock
	before, err := vfs.ReadFile(s.o.FS, path)
	if err != nil {
		return false, fmt.Errorf("data folder: %w", err)
	}
	text := fmt.Sprintf("pid %d, started %s\n", os.Getpid(), s.o.Clock().UTC().Format(time.RFC3339))
	if err := s.writeLock(path, text); err != nil {
		return false, fmt.Errorf("data folder %s cannot be written: %w", s.o.Dir, err)
	}
	return len(before) == 0 || string(before) == cleanMark, nil
}

func lockPath(dir string) string { return filepath.Join(dir, lockName) }

func (s *Store) holder(path string) string {
	text, err := vfs.ReadFile(s.o.FS, path)
	if err != nil || len(text) == 0 {
		return "it has not said its name"
	}
	return strings.TrimSpace(string(text))
}

func (s *Store) writeLock(path, text string) error {
	f, err := s.o.FS.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	return errors.Join(err, f.Close())
}

// markClean says in the lock file that nothing is left to do. If that fails the
// next Open syncs more than it needs to.
func (s *Store) markClean() {
	if err := s.writeLock(lockPath(s.o.Dir), cleanMark); err != nil {
		s.o.Log.Warn("store: mark data folder as closed", "err", err)
	}
}

// probe finds out at start whether the folder takes files at all.
func (s *Store) probe() error {
	free, err := s.o.FS.Free(s.o.Dir)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", s.o.Dir, err)
	}
	if free < minFreeBytes {
		return fmt.Errorf("data folder %s is full: %d bytes free, at least %d are needed", s.o.Dir, free, minFreeBytes)
	}
	path := filepath.Join(s.o.Dir, probeName)
	err = vfs.WriteFile(s.o.FS, path, make([]byte, probeBytes))
	if err == nil {
		err = s.o.FS.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("data folder %s cannot be written: %w", s.o.Dir, err)
	}
	return nil
}
