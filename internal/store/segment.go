package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

// segment is one .seg file. It is never changed below end.
type segment struct {
	number uint32
	path   string

	// under Store.mu
	file vfs.File // nil until first used; closed by Store.Close
	end  int64    // after the last whole frame
	lost error    // of the sync that failed: frames may have vanished
}

// location is where a frame lies and how large it is.
type location struct {
	seg *segment
	at  int64
	format.Shape
}

func (l location) String() string { return fmt.Sprintf("frame at %d of %s", l.at, l.seg.path) }

func segmentPath(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%06d.seg", number))
}

func indexPath(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%06d.idx", number))
}

func segmentNumber(name string) (number uint32, ok bool) {
	digits, found := strings.CutSuffix(name, ".seg")
	if !found || len(digits) < 6 {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &number)
	return number, err == nil && segmentPath("", number) == name
}

// file opens a segment on first use; it stays open until Close.
func (s *Store) file(seg *segment) (vfs.File, error) {
	s.mu.Lock()
	file := seg.file
	s.mu.Unlock()
	if file != nil {
		return file, nil
	}
	opened, err := s.o.FS.OpenFile(seg.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &DamagedError{Where: seg.path, Reason: "the file is gone"}
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	if file := s.adopt(seg, opened); file != opened { // another reader was faster
		if err := opened.Close(); err != nil {
			s.o.Log.Warn("store: close segment", "segment", seg.path, "err", err)
		}
		return file, nil
	}
	return opened, nil
}

// adopt makes file the segment's, unless it has one, and returns the segment's.
func (s *Store) adopt(seg *segment, file vfs.File) vfs.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.file == nil {
		seg.file = file
	}
	return seg.file
}
