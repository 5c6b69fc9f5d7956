package vfs

import (
	"fmt"
	"io"
	"os"
)

// ReadPrivate reads at most limit bytes of one of the system's files that holds a
// secret. One that the group or others may use is refused.
func ReadPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others than its owner may use it; chmod 600 it", path, mode)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
