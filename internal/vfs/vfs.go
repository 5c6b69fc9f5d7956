// Package vfs is the few file operations the program uses, so that a test can
// fail, count or lose any one of them.
//
//   - Real is the operating system.
//   - Failing numbers the operations of another FS and asks a hook about each.
//   - Crashable lives in memory and can lose what was not synced, as a machine
//     does whose power goes.
//
// It knows names, bytes and syncs. What the files mean is left to store.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is returned by Lock while somebody else holds the lock.
var ErrLocked = errors.New("locked")

// FS is a file system. Errors are those of package os: errors.Is with
// fs.ErrNotExist and friends works on every implementation.
type FS interface {
	// OpenFile takes the flags of os.OpenFile except O_APPEND.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// MkdirAll makes a folder and those above it; it syncs nothing, see MkdirDurable.
	MkdirAll(dir string, perm fs.FileMode) error
	// Rename replaces what has the new name.
	Rename(from, to string) error
	// Link gives a file a second name, which must be free.
	Link(from, to string) error
	// Remove removes a file or an empty folder.
	Remove(name string) error
	// ReadDir lists a folder, sorted by name.
	ReadDir(dir string) ([]Info, error)
	Stat(name string) (Info, error)
	// SyncDir makes the names in a folder durable: what was created, renamed or
	// removed in it before the call.
	SyncDir(dir string) error
	// Free is the number of bytes an ordinary user may still write under dir.
	Free(dir string) (freeBytes uint64, err error)
	// Lock takes the exclusive lock of a file, made if missing, without waiting:
	// ErrLocked when another holder, in this process or not, has it. Close
	// releases it; so does the end of the process.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may be called at the same time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the bytes durable, not the name: that is SyncDir's.
	Sync() error
	Truncate(sizeBytes int64) error
	Size() (sizeBytes int64, err error)
}

// Info describes a name in a folder.
type Info struct {
	Name string // without folder
	Size int64  // bytes; 0 for folders
	Dir  bool
}
