package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// write changes the live bytes and remembers the write until the next sync.
func (n *node) write(w memWrite) {
	w.data = slices.Clone(w.data)
	n.data = w.apply(n.data)
	n.writes = append(n.writes, w)
}

// memFile is an open file of a Crashable.
type memFile struct {
	fs       *Crashable
	process  int // that opened it
	node     *node
	name     string
	readOnly bool
	closed   bool
}

// begin locks the file system for one operation; the caller unlocks it.
func (f *memFile) begin(op string, writes bool) error {
	f.fs.mu.Lock()
	switch {
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case f.fs.crashed || f.process != f.fs.process:
		return ErrCrashed
	case writes && f.readOnly:
		return pathError(op, f.name, fs.ErrPermission)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.begin("read", false)
	defer f.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.begin("write", true)
	defer f.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	f.node.write(memWrite{at: off, data: p})
	return len(p), nil
}

func (f *memFile) Sync() error {
	err := f.begin("sync", false)
	defer f.fs.mu.Unlock()
	if err != nil {
		return err
	}
	for _, w := range f.node.writes {
		f.node.synced = w.apply(f.node.synced)
	}
	f.node.writes = nil
	return nil
}

func (f *memFile) Truncate(sizeBytes int64) error {
	err := f.begin("truncate", true)
	defer f.fs.mu.Unlock()
	if err != nil {
		return err
	}
	if sizeBytes < 0 {
		return pathError("truncate", f.name, fmt.Errorf("size %d", sizeBytes))
	}
	f.node.write(memWrite{at: sizeBytes, truncate: true})
	return nil
}

func (f *memFile) Size() (int64, error) {
	err := f.begin("size", false)
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), err
}

// Close works after a crash as well: the process lets go of its handles.
func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	if f.process == f.fs.process {
		f.fs.handles--
	}
	return nil
}

// memLock is the lock of a file, and its handle.
type memLock struct{ *memFile }

func (l *memLock) Close() error {
	if err := l.memFile.Close(); err != nil {
		return err
	}
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.process == l.fs.process {
		delete(l.fs.locks, l.name)
	}
	return nil
}
