package segments

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

const chunkBytes = 1 << 20

// Erase leaves of a closed segment only the kept entries: everything else up to
// end becomes zeros, what follows is cut off, and all of it is synced before the
// new index is written. A segment that keeps nothing is removed; then its
// folder is synced. It returns how many bytes were erased.
func (f Folder) Erase(number uint32, end int64, keep []format.Entry) (erasedBytes int64, err error) {
	if len(keep) == 0 {
		if err := f.Remove(number); err != nil {
			return 0, err
		}
		return end, f.FS.SyncDir(f.Dir)
	}
	if err := f.removeIndex(number); err != nil {
		return 0, err
	}
	file, err := f.FS.OpenFile(f.Path(number), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	erasedBytes, err = EraseGaps(file, keep, end)
	if err == nil {
		err = errors.Join(file.Truncate(end), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return erasedBytes, fmt.Errorf("erase in %s: %w", f.Path(number), err)
	}
	return erasedBytes, f.WriteIndex(number, end, keep)
}

// removeIndex makes it durable that a segment has no index.
func (f Folder) removeIndex(number uint32) error {
	err := f.FS.Remove(f.IndexPath(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.FS.SyncDir(f.Dir)
}

// EraseGaps writes zeros over all of a segment's frames up to end but the kept
// ones, where there are none yet. It syncs nothing.
func EraseGaps(file vfs.File, keep []format.Entry, end int64) (erasedBytes int64, err error) {
	keep = slices.SortedFunc(slices.Values(keep), func(a, b format.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	at := int64(format.SegmentHeadBytes)
	for _, e := range append(keep, format.Entry{Offset: end}) {
		n, err := eraseRange(file, at, e.Offset)
		erasedBytes += n
		if err != nil {
			return erasedBytes, err
		}
		at = max(at, e.End())
	}
	return erasedBytes, nil
}

func eraseRange(file vfs.File, from, to int64) (erasedBytes int64, err error) {
	buf := make([]byte, max(0, min(chunkBytes, to-from)))
	for ; from < to; from += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), to-from)]
		n, err := file.ReadAt(buf, from)
		if err != nil && err != io.EOF {
			return erasedBytes, err
		}
		if len(bytes.Trim(buf[:n], "\x00")) == 0 {
			continue
		}
		clear(buf)
		if _, err := file.WriteAt(buf, from); err != nil {
			return erasedBytes, err
		}
		erasedBytes += int64(len(buf))
	}
	return erasedBytes, nil
}
