package store

import (
	"errors"
	"fmt"
	"os"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

// writer is the goroutine that makes every change on disk.
type writer struct {
	s   *Store
	buf []byte // a frame being built

	active   *segment       // nil: the next frame starts one
	file     vfs.File       // of active
	entries  []format.Entry // all frames of active
	unsynced int            // of entries, the last so many
	lastErr  error          // why something was last dropped; nil after a good sync
}

func (w *writer) loop() {
	for j, ok := w.s.take(); ok; j, ok = w.s.take() {
		j.run(w)
	}
	w.retire()
}

// append writes one frame at the end of the open segment; sum is its frame sum.
// After an error the segment is retired and the next frame goes to a new one.
func (w *writer) append(f format.Frame, fill func(dst []byte)) (at location, sum uint32, err error) {
	sizeBytes := f.Shape().FrameBytes()
	if err := w.makeRoom(sizeBytes); err != nil {
		return location{}, 0, w.failed(fmt.Errorf("start segment: %w", err))
	}
	b := w.buffer(int(sizeBytes))
	sum = f.Encode(b, fill)
	at = location{w.active, w.active.end, f.Shape()}
	if _, err := w.file.WriteAt(b, at.at); err != nil {
		w.retire()
		return location{}, 0, w.failed(fmt.Errorf("write %s: %w", at, err))
	}
	w.advance(f.Entry(at.at))
	return at, sum, nil
}

func (w *writer) makeRoom(sizeBytes int64) error {
	if w.active != nil && len(w.entries) > 0 && w.active.end+sizeBytes > w.s.o.SegmentBytes {
		w.retire()
	}
	if w.active == nil {
		return w.start()
	}
	return nil
}

func (w *writer) buffer(n int) []byte {
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	return w.buf[:n]
}

func (w *writer) advance(e format.Entry) {
	w.entries = append(w.entries, e)
	w.unsynced++
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.active.end = e.End()
	w.s.stats.WrittenFrames++
	w.s.stats.WrittenBytes += e.FrameBytes()
}

// failed says it once: a disk in trouble fails every frame.
func (w *writer) failed(err error) error {
	if w.lastErr == nil {
		w.s.o.Log.Error("store: writing fails", "err", err)
	}
	w.lastErr = err
	return err
}

// start makes the next segment and its name durable.
func (w *writer) start() error {
	s := w.s
	number := s.lastTaken + 1
	path := segmentPath(s.kvDir, number)
	file, err := s.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	s.lastTaken = number
	if err != nil {
		return err
	}
	_, err = file.WriteAt(format.SegmentHead(number, s.o.KVFingerprint), 0)
	if err == nil {
		err = s.o.FS.SyncDir(s.kvDir)
	}
	if err != nil {
		return errors.Join(err, file.Close(), s.o.FS.Remove(path))
	}
	w.active, w.file = &segment{number: number, path: path, file: file, end: format.SegmentHeadBytes}, file
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[number] = w.active
	return nil
}

// sync makes all frames written so far durable. After an error nobody knows which
// are: those since the last sync are forgotten, and the segment is left.
func (w *writer) sync() error {
	if w.unsynced == 0 {
		return nil
	}
	err := w.file.Sync()
	w.s.count(func(st *Stats) { st.Fsyncs++ })
	if err != nil {
		err = w.failed(fmt.Errorf("sync %s: %w", w.active.path, err))
		w.lose(err)
		return err
	}
	w.unsynced, w.lastErr = 0, nil
	return nil
}

// lose forgets the frames of the open segment that no sync has covered.
func (w *writer) lose(err error) {
	w.s.mu.Lock()
	for _, e := range w.entries[len(w.entries)-w.unsynced:] {
		if e.Kind == format.Block {
			delete(w.s.index, e.ID)
			w.s.stats.Dropped++
		}
	}
	w.s.stats.Errors++
	w.active.lost = err
	w.s.mu.Unlock()
	w.leave()
}

// leave lets the open segment be: its file stays open for readers.
func (w *writer) leave() {
	w.active, w.file, w.entries, w.unsynced = nil, nil, nil, 0
}

// retire closes the open segment: synced and indexed, or removed when no frame
// came to be in it.
func (w *writer) retire() {
	if w.active == nil {
		return
	}
	if len(w.entries) == 0 {
		w.discard()
		return
	}
	if w.sync() != nil {
		return
	}
	w.s.writeIndex(w.active.number, w.active.end, w.entries)
	w.leave()
}

func (w *writer) discard() {
	w.s.mu.Lock()
	delete(w.s.segments, w.active.number)
	w.s.mu.Unlock()
	if err := errors.Join(w.file.Close(), w.s.o.FS.Remove(w.active.path)); err != nil {
		w.s.o.Log.Warn("store: remove empty segment", "segment", w.active.path, "err", err)
	}
	w.leave()
}
