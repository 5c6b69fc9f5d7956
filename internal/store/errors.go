package store

import (
	"errors"
	"fmt"

	"mneme/internal/store/format"
	"mneme/internal/store/frames"
	"mneme/internal/store/roster"
)

var (
	// ErrLocked is returned by Open while another process has the data folder;
	// the error names it.
	ErrLocked = errors.New("data folder is in use")
	// ErrMissing is returned for a block or tail that is not stored.
	ErrMissing = frames.ErrMissing
	// ErrNoAgent is returned for an agent that was never published, or deleted.
	ErrNoAgent = roster.ErrNoAgent
	// ErrAgentExists is returned by Fork for a name that is taken.
	ErrAgentExists = errors.New("there is such an agent")
	// ErrClosed is returned once Close has begun.
	ErrClosed = errors.New("store is closed")
	// ErrNoSpace is why something was not written: less than Options.MinFreeBytes
	// would have been left. The error gives the numbers.
	ErrNoSpace = frames.ErrNoSpace
)

// LockedError says who has the data folder; errors.Is ErrLocked.
type LockedError struct{ Dir, Holder string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("data folder %s is in use by another process (%s)", e.Dir, e.Holder)
}

// Unwrap is ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// What reading a file can say of it.
type (
	DamagedError = format.DamagedError
	VersionError = format.VersionError
)

// Damage is a block or tail that was forgotten, or an agent that cannot be read
// or has lost turns.
type Damage = frames.Damage

func ofBlock(id format.BlockID, err error) error {
	return fmt.Errorf("block %s of group %d: %w", id.Key, id.Group, err)
}
