package segments

import (
	"bytes"
	"io"

	"mneme/internal/store/format"
)

// scanned is what reading a whole segment found.
type scanned struct {
	Entries []format.Entry
	End     int64 // after the last whole frame
	Damaged int   // stretches before End that hold neither a whole frame nor zeros
}

// scan finds the whole frames of a segment of that size. A damaged stretch costs
// what lies in it, not what follows; what comes after the last whole frame is a
// torn tail. Zeros are what erasing leaves. Errors are those of r.
func scan(r io.ReaderAt, sizeBytes int64) (scanned, error) {
	w := &window{r: r, size: sizeBytes}
	out := scanned{End: format.SegmentHeadBytes}
	damaged, inGap := 0, false
	for at := int64(format.SegmentHeadBytes); at < w.size; {
		e, whole, err := w.frame(at)
		switch {
		case err != nil:
			return scanned{}, err
		case whole:
			out.Entries = append(out.Entries, e)
			at = e.End()
			out.End, out.Damaged, inGap = at, damaged, false
		default:
			zeros, err := w.zeros(at)
			if err != nil {
				return scanned{}, err
			}
			if !inGap && !zeros {
				damaged, inGap = damaged+1, true
			}
			at += format.AlignBytes
		}
	}
	return out, nil
}

// window reads a file from front to back through one buffer.
type window struct {
	r    io.ReaderAt
	size int64
	buf  []byte // the file's bytes from at on
	at   int64
}

const windowBytes = 1 << 20

// frame reads the frame at an offset; false when no whole, intact one is there.
func (w *window) frame(at int64) (format.Entry, bool, error) {
	fixed, ok, err := w.bytes(at, format.FixedBytes)
	if !ok || err != nil {
		return format.Entry{}, false, err
	}
	sh, err := format.ParseShape(fixed)
	if err != nil {
		return format.Entry{}, false, nil
	}
	head, ok, err := w.bytes(at, sh.HeadBytes())
	if !ok || err != nil {
		return format.Entry{}, false, err
	}
	if _, err := format.ParseHead(head); err != nil {
		return format.Entry{}, false, nil
	}
	whole, ok, err := w.bytes(at, int(sh.FrameBytes()))
	if !ok || err != nil {
		return format.Entry{}, false, err
	}
	e, err := format.CheckFrame(whole)
	e.Offset = at
	return e, err == nil, nil
}

// zeros tells whether a step of the file is erased.
func (w *window) zeros(at int64) (bool, error) {
	b, _, err := w.bytes(at, int(min(format.AlignBytes, w.size-at)))
	return len(bytes.Trim(b, "\x00")) == 0, err
}

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
	return format.ReadFull(w.r, w.buf, off)
}
