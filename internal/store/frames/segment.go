package frames

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

// segment is one .seg file. Below end only what nobody can find is changed.
type segment struct {
	number uint32
	path   string

	// under Shelf.mu
	file    vfs.File // nil until first used; closed by Store.Close
	end     int64    // after the last whole frame
	live    int64    // bytes of the frames that the index finds here
	zeros   int64    // bytes of dead frames known to be erased
	lost    error    // of the sync that failed: frames may have vanished
	gone    bool     // removed: no file is opened any more
	stuck   bool     // collecting it failed; not tried again in this run
	touched bool     // uses are newer than its index says
}

func (seg *segment) dead() int64 { return seg.end - format.SegmentHeadBytes - seg.live }

// location is where a frame lies and how large it is.
type location struct {
	seg *segment
	at  int64
	format.Shape
}

func (l location) String() string { return fmt.Sprintf("frame at %d of %s", l.at, l.seg.path) }

// file opens a segment on first use; it stays open until Close, or until the
// segment is removed.
func (s *Shelf) file(seg *segment) (vfs.File, error) {
	s.mu.Lock()
	file := seg.file
	s.mu.Unlock()
	if file != nil {
		return file, nil
	}
	opened, err := s.o.Folder.FS.OpenFile(seg.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, goneError(seg)
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	if file = s.adopt(seg, opened); file == opened {
		return file, nil
	}
	if err := opened.Close(); err != nil {
		s.o.Log.Warn("store: close segment", "segment", seg.path, "err", err)
	}
	if file == nil {
		return nil, goneError(seg)
	}
	return file, nil
}

func goneError(seg *segment) error {
	return &format.DamagedError{Where: seg.path, Reason: "the file is gone"}
}

// adopt makes file the segment's, unless it has one or is removed, and returns
// the segment's.
func (s *Shelf) adopt(seg *segment, file vfs.File) vfs.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.file == nil && !seg.gone {
		seg.file = file
	}
	return seg.file
}
