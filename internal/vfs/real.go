package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Real is the file system of the operating system.
func Real() FS { return real{} }

type real struct{}

type realFile struct{ *os.File }

func (f realFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (real) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return realFile{f}, nil
}

func (real) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }
func (real) Rename(from, to string) error                { return os.Rename(from, to) }
func (real) Link(from, to string) error                  { return os.Link(from, to) }
func (real) Remove(name string) error                    { return os.Remove(name) }

func (real) ReadDir(dir string) ([]Info, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() { // its size is not asked for: a thousand agents are a thousand folders
			infos = append(infos, Info{Name: e.Name(), Dir: true})
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed since it was listed
		}
		infos = append(infos, infoOf(info))
	}
	return infos, nil
}

func (real) Stat(name string) (Info, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return infoOf(info), nil
}

func infoOf(info fs.FileInfo) Info {
	if info.IsDir() {
		return Info{Name: info.Name(), Dir: true}
	}
	return Info{Name: info.Name(), Size: info.Size()}
}

func (real) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil // a file system without such a thing
}

func (real) Free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

func (real) Lock(name string) (io.Closer, error) {
	lock := flock.New(name, flock.SetPermissions(0o600))
	got, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if !got {
		return nil, fmt.Errorf("%s: %w", name, ErrLocked)
	}
	return lock, nil
}
