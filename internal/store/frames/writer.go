package frames

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"mneme/internal/store/format"
	"mneme/internal/store/segments"
	"mneme/internal/vfs"
)

// Writer makes every change in the folder of a Shelf; it is one goroutine's.
type Writer struct {
	s   *Shelf
	buf []byte // a frame being built

	active   *segment         // nil: the next frame starts one
	file     vfs.File         // of active
	unsynced []format.BlockID // frames of active that no sync has covered
	frames   int              // of active
	lastErr  error            // why something was last dropped; nil after a good sync

	collector
}

// NewWriter is the one writer of a shelf.
func NewWriter(s *Shelf) *Writer { return &Writer{s: s} }

// Place is where a frame was written.
type Place struct{ location }

// Lost is why the frame may have vanished; nil while it has not.
func (p Place) Lost() error { return p.seg.lost }

// LastErr is why something was last dropped; nil after a sync that went well.
func (w *Writer) LastErr() error { return w.lastErr }

// Append writes a frame of a namespace and lets it be found. It is durable after Sync.
func (w *Writer) Append(namespace string, f format.Frame, fill func(dst []byte)) (Place, error) {
	key, err := w.key(namespace)
	if err != nil {
		return Place{}, w.failed(err)
	}
	at, err := w.append(f, key, fill)
	if err != nil {
		return Place{}, err
	}
	now := w.s.seconds()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.putLocked(f.ID(), &stored{location: at, kind: f.Kind, parent: f.Parent, key: key.ID, used: now, noted: now})
	w.more = true
	return Place{at}, nil
}

// Close closes the open segment and keeps the uses of blocks.
func (w *Writer) Close() {
	w.Retire()
	w.s.saveUses()
}

// key is that of a namespace, none without a ring.
func (w *Writer) key(namespace string) (format.Cipher, error) {
	if w.s.o.Ring == nil {
		return format.Cipher{}, nil
	}
	return w.s.o.Ring.Of(namespace)
}

// append writes one frame at the end of the open segment. After an error the
// segment is retired and the next frame goes to a new one.
func (w *Writer) append(f format.Frame, key format.Cipher, fill func(dst []byte)) (location, error) {
	if key.AEAD == nil {
		return w.write(f.ID(), f.Shape(), func(b []byte) error { f.Encode(b, fill); return nil })
	}
	return w.write(f.ID(), f.Shape().Under(format.Encrypted), func(b []byte) error { return f.Encrypt(b, key, fill) })
}

// write is append for a frame that encode gives the bytes of.
func (w *Writer) write(id format.BlockID, shape format.Shape, encode func(b []byte) error) (location, error) {
	sizeBytes := shape.FrameBytes()
	if err := w.s.SpaceFor(sizeBytes); err != nil {
		return location{}, w.failed(err)
	}
	if err := w.makeRoom(sizeBytes); err != nil {
		return location{}, w.failed(fmt.Errorf("start segment: %w", err))
	}
	b := w.buffer(int(sizeBytes))
	if err := encode(b); err != nil {
		return location{}, w.failed(err)
	}
	at := location{w.active, w.active.end, shape}
	if _, err := w.file.WriteAt(b, at.at); err != nil {
		w.Retire()
		return location{}, w.failed(fmt.Errorf("write %s: %w", at, err))
	}
	w.advance(id, sizeBytes)
	return at, nil
}

// SpaceFor refuses with ErrNoSpace what would leave less than is to stay free.
func (s *Shelf) SpaceFor(sizeBytes int64) error {
	if s.o.MinFreeBytes == 0 {
		return nil
	}
	free, err := s.o.Folder.FS.Free(s.o.Folder.Dir)
	if err != nil || free >= uint64(sizeBytes+s.o.MinFreeBytes) {
		return nil // not knowing is no reason
	}
	return fmt.Errorf("%d bytes wanted, %d are free, %d of them to stay: %w", sizeBytes, free, s.o.MinFreeBytes, ErrNoSpace)
}

func (w *Writer) makeRoom(sizeBytes int64) error {
	if w.active != nil && w.frames > 0 && w.active.end+sizeBytes > w.s.o.SegmentBytes {
		w.Retire()
	}
	if w.active == nil {
		return w.start()
	}
	return nil
}

func (w *Writer) buffer(n int) []byte {
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	return w.buf[:n]
}

func (w *Writer) advance(id format.BlockID, sizeBytes int64) {
	w.unsynced = append(w.unsynced, id)
	w.frames++
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.active.end += sizeBytes
	w.s.stats.WrittenFrames++
	w.s.stats.WrittenBytes += sizeBytes
}

// failed says it once: a disk in trouble fails every frame.
func (w *Writer) failed(err error) error {
	if w.lastErr == nil {
		w.s.o.Log.Error("store: writing fails", "err", err)
	}
	w.lastErr = err
	return err
}

// start makes the next segment and its name durable.
func (w *Writer) start() error {
	s := w.s
	number := s.lastTaken + 1
	path := s.o.Folder.Path(number)
	file, err := s.o.Folder.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	s.lastTaken = number
	if err != nil {
		return err
	}
	_, err = file.WriteAt(segments.Head(number, s.o.Folder.Fingerprint, s.cover()), 0)
	if err == nil {
		err = s.o.Folder.FS.SyncDir(s.o.Folder.Dir)
	}
	if err != nil {
		return errors.Join(err, file.Close(), s.o.Folder.FS.Remove(path))
	}
	w.active, w.file = &segment{number: number, path: path, file: file, end: format.SegmentHeadBytes}, file
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[number] = w.active
	return nil
}

// Sync makes all frames written so far durable. After an error nobody knows which
// are: those since the last sync are forgotten, and the segment is left.
func (w *Writer) Sync() error {
	if len(w.unsynced) == 0 {
		return nil
	}
	err := w.file.Sync()
	w.s.count(func(st *Stats) { st.Fsyncs++ })
	if err != nil {
		err = w.failed(fmt.Errorf("sync %s: %w", w.active.path, err))
		w.lose(err)
		return err
	}
	w.unsynced, w.lastErr = nil, nil
	return nil
}

// lose forgets the frames of the open segment that no sync has covered.
func (w *Writer) lose(err error) {
	w.s.mu.Lock()
	for _, id := range w.unsynced {
		if p := w.s.index[id]; p != nil && p.seg == w.active {
			w.s.dropLocked(id)
			w.s.stats.Lost++
		}
	}
	w.active.lost = err
	w.s.mu.Unlock()
	w.leave()
}

// leave lets the open segment be: its file stays open for readers.
func (w *Writer) leave() {
	w.active, w.file, w.unsynced, w.frames = nil, nil, nil, 0
}

// Retire closes the open segment: synced and indexed, or removed when no frame
// came to be in it.
func (w *Writer) Retire() {
	if w.active == nil {
		return
	}
	if w.frames == 0 {
		w.discard()
		return
	}
	if w.Sync() != nil {
		return
	}
	w.s.writeIndex(w.active, w.active.end, w.s.entriesOf(w.active, w.copies()))
	w.leave()
}

// entriesOf lists what is found in a segment, in order, and the copies in it
// that will be once their own segment goes.
func (s *Shelf) entriesOf(seg *segment, copies []moved) []format.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.touched = false
	entries := s.entriesLocked(func(other *segment) bool { return other == seg })[seg]
	for _, c := range copies {
		if c.now.seg == seg && s.index[c.id] == c.old {
			entries = append(entries, c.now.entry(c.id))
		}
	}
	return inOrder(entries)
}

func inOrder(entries []format.Entry) []format.Entry {
	slices.SortFunc(entries, func(a, b format.Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	return entries
}

// saveUses writes the uses of blocks into the indexes of their segments.
func (s *Shelf) saveUses() {
	s.mu.Lock()
	fresh := s.entriesLocked(func(seg *segment) bool { return seg.touched })
	s.mu.Unlock()
	for seg, entries := range fresh {
		s.writeIndex(seg, seg.end, inOrder(entries))
	}
}

func (w *Writer) discard() {
	w.s.mu.Lock()
	delete(w.s.segments, w.active.number)
	w.s.mu.Unlock()
	if err := errors.Join(w.file.Close(), w.s.o.Folder.FS.Remove(w.active.path)); err != nil {
		w.s.o.Log.Warn("store: remove empty segment", "segment", w.active.path, "err", err)
	}
	w.leave()
}
