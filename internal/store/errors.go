package store

import (
	"errors"
	"fmt"
)

var (
	// ErrLocked is returned by Open while another process has the data folder;
	// the error names it.
	ErrLocked = errors.New("data folder is in use")
	// ErrMissing is returned for a block or tail that is not stored.
	ErrMissing = errors.New("not stored")
	// ErrNoAgent is returned for an agent that was never published, or deleted.
	ErrNoAgent = errors.New("no such agent")
	// ErrClosed is returned once Close has begun.
	ErrClosed = errors.New("store is closed")
)

// LockedError says who has the data folder; errors.Is ErrLocked.
type LockedError struct{ Dir, Holder string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("data folder %s is in use by another process (%s)", e.Dir, e.Holder)
}

// Unwrap is ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// DamagedError says what on disk is not as it was written.
type DamagedError struct{ Where, Reason string }

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.Where, e.Reason) }

// VersionError is an intact file of a version that this program does not read.
type VersionError struct {
	Where      string
	Have, Know uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program reads version %d", e.Where, e.Have, e.Know)
}
