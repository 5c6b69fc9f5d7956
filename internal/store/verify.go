package store

import (
	"errors"

	"mneme/internal/store/verify"
	"mneme/internal/vfs"
)

// Finding is something that Verify found not to be as it was written.
type Finding = verify.Finding

// Verify reads all of a data folder that no process uses and tells report what
// is damaged, torn or missing. With repair torn ends are cut, damaged frames
// forgotten and erased, and what an agent has kept back put in place; without,
// nothing is changed. The error is ErrLocked, or why reading could not go on.
func Verify(fsys vfs.FS, dir string, repair bool, report func(Finding)) error {
	err := verify.Folder(fsys, dir, repair, report)
	if errors.Is(err, verify.ErrInUse) {
		return &LockedError{Dir: dir, Holder: (&Store{o: Options{FS: fsys}}).holder(lockPath(dir))}
	}
	return err
}
