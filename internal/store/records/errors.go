package records

import "fmt"

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

// KeylessError is an intact file whose key is not there; errors.As a *DamagedError.
type KeylessError struct {
	Damage    *DamagedError
	Namespace Digest // whose key it is
}

func (e *KeylessError) Error() string { return e.Damage.Error() }

// Unwrap is what it costs.
func (e *KeylessError) Unwrap() error { return e.Damage }
