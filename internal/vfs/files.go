package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700

	// AsideSuffix ends the name under which WriteFile prepares a file. One that
	// is found belongs to a write that did not finish.
	AsideSuffix = ".new"
)

// WriteFile puts data in place of path, whole or not at all, durable when it
// returns nil: written aside, synced, renamed, and the folder synced. After an
// error before the rename the old file stands and nothing is left behind. One
// path has one writer at a time.
func WriteFile(fsys FS, path string, data []byte) error {
	return replace(fsys, path, data, func() error { return nil })
}

// WriteFileKeeping is WriteFile, and keeps the file that stood at path as kept,
// in the same folder. At every instant, and after a crash at any, path or kept
// is a whole file, and path is one wherever files can have two names.
func WriteFileKeeping(fsys FS, path, kept string, data []byte) error {
	return replace(fsys, path, data, func() error { return keep(fsys, path, kept) })
}

func replace(fsys FS, path string, data []byte, beforeRename func() error) error {
	aside := path + AsideSuffix
	if err := writeSynced(fsys, aside, data); err != nil {
		return errors.Join(err, removeIfThere(fsys, aside))
	}
	if err := beforeRename(); err != nil {
		return errors.Join(err, removeIfThere(fsys, aside))
	}
	if err := fsys.Rename(aside, path); err != nil {
		return errors.Join(err, removeIfThere(fsys, aside))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// keep gives path's file the name kept as well; where a file cannot have two
// names it is moved there. Without a file at path, what is kept stays.
func keep(fsys FS, path, kept string) error {
	if _, err := fsys.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := removeIfThere(fsys, kept); err != nil {
		return err
	}
	if err := fsys.Link(path, kept); err == nil {
		return nil
	}
	return fsys.Rename(path, kept)
}

func writeSynced(fsys FS, path string, data []byte) error {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile returns the whole file.
func ReadFile(fsys FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); err != nil && !(err == io.EOF && n == len(data)) {
		return nil, fmt.Errorf("read %s: %d of %d bytes: %w", path, n, size, err)
	}
	return data, nil
}

// MkdirDurable makes a folder and those above it that are missing, and syncs the
// folder above each one it made, and above the one that was there: who made that
// may not have come to it. Where only the latter may not be read, it is left.
func MkdirDurable(fsys FS, dir string) error {
	if info, err := fsys.Stat(dir); err == nil {
		if !info.Dir {
			return fmt.Errorf("%s is a file, not a folder", dir)
		}
		if err := fsys.SyncDir(filepath.Dir(dir)); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirDurable(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, dirPerm); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

// RemoveTree removes a folder and the files and folders in it; a missing one is
// no error. It syncs nothing.
func RemoveTree(fsys FS, dir string) error {
	infos, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, info := range infos {
		path := filepath.Join(dir, info.Name)
		if info.Dir {
			err = RemoveTree(fsys, path)
		} else {
			err = removeIfThere(fsys, path)
		}
		if err != nil {
			return err
		}
	}
	return removeIfThere(fsys, dir)
}
