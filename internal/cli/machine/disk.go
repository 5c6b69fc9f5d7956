package machine

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disk is the size of the disk that has a folder, or will have it once it is
// made, and what of it we may still take; in bytes.
func Disk(dir string) (totalBytes, freeBytes int64, err error) {
	var st unix.Statfs_t
	for {
		err = unix.Statfs(dir, &st)
		above := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || above == dir {
			break
		}
		dir = above
	}
	if err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := int64(st.Bsize)
	return int64(st.Blocks) * block, int64(st.Bavail) * block, nil
}
