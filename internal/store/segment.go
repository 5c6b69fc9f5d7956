package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"mneme/internal/kv"
	"mneme/internal/vfs"
)

// A segment is a head of 64 bytes and frames, each at a multiple of 64:
//
//	 0  magic "MNEMESEG"
//	 8  version      u32
//	12  number       u32
//	16  fingerprint  32   SHA-256 of the KV fingerprint
//	48  zeros        12
//	60  sum          u32  crc32c of [0,60)
const (
	segmentMagic     = "MNEMESEG"
	segmentVersion   = 1
	segmentHeadBytes = 64
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
	shape
}

func (l location) String() string { return fmt.Sprintf("frame at %d of %s", l.at, l.seg.path) }

// blockID is the identity of a block.
type blockID struct {
	key   kv.Key
	group int
}

// entry is a frame of a segment as the segment's index lists it.
type entry struct {
	kind frameKind
	id   blockID
	at   int64
	shape
}

func segmentPath(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%06d.seg", number))
}

func indexPath(dir string, number uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%06d.idx", number))
}

func segmentHead(number uint32, fingerprint string) []byte {
	b := make([]byte, segmentHeadBytes)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], segmentVersion)
	binary.LittleEndian.PutUint32(b[12:], number)
	digest := sha256.Sum256([]byte(fingerprint))
	copy(b[16:], digest[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// checkSegmentHead returns a *VersionError for an intact head of another
// version, and a *DamagedError for anything else that is not as written.
func checkSegmentHead(b []byte, path string, number uint32, fingerprint string) error {
	if bytes.Equal(b, segmentHead(number, fingerprint)) {
		return nil
	}
	intact := crc32.Checksum(b[:60], castagnoli) == binary.LittleEndian.Uint32(b[60:])
	if v := binary.LittleEndian.Uint32(b[8:]); intact && string(b[:8]) == segmentMagic && v != segmentVersion {
		return &VersionError{Where: path, Have: v, Know: segmentVersion}
	}
	return &DamagedError{Where: path, Reason: "its head does not belong to this segment"}
}

// window reads a file from front to back through one buffer.
type window struct {
	file vfs.File
	size int64
	buf  []byte // the file's bytes from at on
	at   int64
}

const windowBytes = 1 << 20

// bytes returns [off, off+n) of the file, valid until the next call; false when
// the file ends before.
func (w *window) bytes(off int64, n int) ([]byte, bool, error) {
	if off+int64(n) > w.size {
		return nil, false, nil
	}
	if off < w.at || off+int64(n) > w.at+int64(len(w.buf)) {
		if err := w.fill(off, n); err != nil {
			return nil, false, err
		}
	}
	return w.buf[off-w.at:][:n], true, nil
}

func (w *window) fill(off int64, n int) error {
	want := int(min(int64(max(n, windowBytes)), w.size-off))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.at = w.buf[:want], off
	return readFull(w.file, w.buf, off)
}

// readFull fills b from off or fails; a file that ends before is an error.
func readFull(f vfs.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		return fmt.Errorf("%d of %d bytes at %d: %w", n, len(b), off, io.ErrUnexpectedEOF)
	}
	return err
}

// scanned is what reading a whole segment found.
type scanned struct {
	entries []entry
	end     int64 // after the last whole frame
	damaged int   // frames with an intact head and a wrong payload, and stretches that hold none
}

// scan finds the whole frames of a segment. A damaged stretch costs what lies in
// it, not what follows; what comes after the last whole frame is a torn tail.
func scan(w *window) (scanned, error) {
	out := scanned{end: segmentHeadBytes}
	damaged, inGap := 0, false
	for at := int64(segmentHeadBytes); at < w.size; {
		e, whole, err := frameAt(w, at)
		switch {
		case err != nil:
			return scanned{}, err
		case whole:
			out.entries = append(out.entries, e)
			at += e.frameBytes()
			out.end, out.damaged, inGap = at, damaged, false
		default:
			if !inGap {
				damaged, inGap = damaged+1, true
			}
			at += alignBytes
		}
	}
	return out, nil
}

// frameAt reads the frame at an offset; false when no whole, intact one is there.
func frameAt(w *window, at int64) (entry, bool, error) {
	fixed, ok, err := w.bytes(at, fixedBytes)
	if !ok || err != nil {
		return entry{}, false, err
	}
	sh, err := parseShape(fixed)
	if err != nil {
		return entry{}, false, nil
	}
	head, ok, err := w.bytes(at, sh.headBytes())
	if !ok || err != nil {
		return entry{}, false, err
	}
	f, err := parseHead(head)
	if err != nil {
		return entry{}, false, nil
	}
	whole, ok, err := w.bytes(at, int(sh.frameBytes()))
	if !ok || err != nil {
		return entry{}, false, err
	}
	if checkPayload(f.split(whole)) != nil {
		return entry{}, false, nil
	}
	return entry{kind: f.kind, id: blockID{f.key, f.group}, at: at, shape: sh}, true, nil
}
