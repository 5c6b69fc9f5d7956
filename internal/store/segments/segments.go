// Package segments is the files NNNNNN.seg and NNNNNN.idx of one folder: their
// names, heads and indexes, how they are read at start, cut, erased in part and
// removed. It knows which frames a segment has and that an index may be missing or
// wrong. The bytes of a frame are left to format, which frames are wanted to store.
//
// What stays true:
//   - Without a usable index a segment is scanned and has one again; nothing is
//     lost but frames that are damaged themselves.
//   - Erasing writes zeros, then syncs; an index that names what is erased goes first.
//   - There is no state between calls: no goroutine, no lock, no open file.
package segments

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

// Folder is where segments of one KV fingerprint lie.
type Folder struct {
	FS          vfs.FS
	Dir         string
	Fingerprint string
}

// Path is a segment's file.
func (f Folder) Path(number uint32) string {
	return filepath.Join(f.Dir, fmt.Sprintf("%06d.seg", number))
}

// IndexPath is a segment's index.
func (f Folder) IndexPath(number uint32) string {
	return filepath.Join(f.Dir, fmt.Sprintf("%06d.idx", number))
}

// Listed is what a folder holds.
type Listed struct {
	Segments []Segment // by number
	Stray    []string  // paths of indexes without segment and files that did not come to be
}

// Segment is a segment's file.
type Segment struct {
	Number uint32
	Bytes  int64 // of the file
}

// List reads the names of a folder.
func (f Folder) List() (Listed, error) {
	infos, err := f.FS.ReadDir(f.Dir)
	if err != nil {
		return Listed{}, fmt.Errorf("list segments: %w", err)
	}
	var out Listed
	have := map[uint32]bool{}
	for _, info := range infos {
		if n, ok := number(info.Name, ".seg"); ok {
			have[n] = true
			out.Segments = append(out.Segments, Segment{n, info.Size})
		}
	}
	for _, info := range infos {
		n, index := number(info.Name, ".idx")
		if index && !have[n] || strings.HasSuffix(info.Name, vfs.AsideSuffix) {
			out.Stray = append(out.Stray, filepath.Join(f.Dir, info.Name))
		}
	}
	return out, nil
}

func number(name, suffix string) (n uint32, ok bool) {
	digits, found := strings.CutSuffix(name, suffix)
	if !found || len(digits) < 6 {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &n)
	return n, err == nil && fmt.Sprintf("%06d", n) == digits
}

// Found is what a segment holds.
type Found struct {
	Entries []format.Entry
	End     int64 // after the last whole frame
	Damaged int   // stretches that hold no whole frame
	Why     error // it was scanned instead of reading its index
	Head    error // its head is damaged, which costs nothing
}

// Load reads what a segment holds, from its index if that can be used. Else the
// segment is scanned and synced, for its writer may not have come to that, its
// torn tail is cut off, and it has an index again. A segment of another version
// is a *format.VersionError.
func (f Folder) Load(seg Segment) (Found, error) {
	entries, end, why := f.readIndex(seg)
	if why == nil {
		return Found{Entries: entries, End: end}, nil
	}
	found, err := f.mend(seg)
	found.Why = why
	return found, err
}

func (f Folder) readIndex(seg Segment) ([]format.Entry, int64, error) {
	b, err := vfs.ReadFile(f.FS, f.IndexPath(seg.Number))
	if err != nil {
		return nil, 0, err
	}
	return DecodeIndex(b, seg.Number, seg.Bytes)
}

func (f Folder) mend(seg Segment) (Found, error) {
	file, err := f.FS.OpenFile(f.Path(seg.Number), os.O_RDWR, 0)
	if err != nil {
		return Found{}, err
	}
	defer file.Close()
	found, err := f.scan(file, seg)
	if err != nil || len(found.Entries) == 0 {
		return found, err
	}
	if found.End < seg.Bytes {
		if err := file.Truncate(found.End); err != nil {
			return found, fmt.Errorf("cut torn tail: %w", err)
		}
	}
	if err := file.Sync(); err != nil {
		return found, fmt.Errorf("sync: %w", err)
	}
	_ = f.WriteIndex(seg.Number, found.End, found.Entries) // without it the next start scans again
	return found, nil
}

// Scan reads a whole segment, every sum of it, and changes nothing.
func (f Folder) Scan(seg Segment) (Found, error) {
	file, err := f.FS.OpenFile(f.Path(seg.Number), os.O_RDONLY, 0)
	if err != nil {
		return Found{}, err
	}
	defer file.Close()
	return f.scan(file, seg)
}

func (f Folder) scan(file vfs.File, seg Segment) (Found, error) {
	headErr, err := f.checkHead(file, seg)
	if err != nil {
		return Found{}, err
	}
	s, err := scan(file, seg.Bytes)
	return Found{Entries: s.Entries, End: s.End, Damaged: s.Damaged, Head: headErr}, err
}

// checkHead refuses a segment of another version. A damaged head is only said:
// frames prove themselves.
func (f Folder) checkHead(file vfs.File, seg Segment) (damage, err error) {
	if seg.Bytes < format.SegmentHeadBytes {
		return nil, nil
	}
	err = checkHead(file, f.Path(seg.Number), seg.Number, f.Fingerprint)
	var damaged *format.DamagedError
	if errors.As(err, &damaged) {
		return err, nil
	}
	return nil, err
}

// WriteIndex spares the next Load a scan; without it nothing is lost.
func (f Folder) WriteIndex(number uint32, end int64, entries []format.Entry) error {
	return vfs.WriteFile(f.FS, f.IndexPath(number), EncodeIndex(number, end, entries))
}

// WriteHead writes the head of a segment that has these frames already and syncs it.
func (f Folder) WriteHead(number uint32, entries []format.Entry) error {
	file, err := f.FS.OpenFile(f.Path(number), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(Head(number, f.Fingerprint, coverOf(entries)), 0)
	return errors.Join(err, file.Sync(), file.Close())
}

// coverOf is Encrypted when a frame is.
func coverOf(entries []format.Entry) (c format.Cover) {
	for _, e := range entries {
		c = max(c, e.Cover)
	}
	return c
}

// Remove removes a segment and its index; missing ones are no error. It syncs
// nothing.
func (f Folder) Remove(number uint32) error {
	for _, path := range []string{f.IndexPath(number), f.Path(number)} {
		if err := f.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
