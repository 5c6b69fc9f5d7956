package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

// OpKind names an operation.
type OpKind string

const (
	OpOpen     OpKind = "open"
	OpCreate   OpKind = "create" // an open that may make or empty the file
	OpRead     OpKind = "read"
	OpWrite    OpKind = "write"
	OpSync     OpKind = "sync"
	OpTruncate OpKind = "truncate"
	OpSize     OpKind = "size"
	OpClose    OpKind = "close"
	OpMkdir    OpKind = "mkdir"
	OpRename   OpKind = "rename"
	OpLink     OpKind = "link"
	OpRemove   OpKind = "remove"
	OpReadDir  OpKind = "readdir"
	OpStat     OpKind = "stat"
	OpSyncDir  OpKind = "syncdir"
	OpFree     OpKind = "free"
	OpLock     OpKind = "lock"
)

// Changes tells whether the operation changes what is on disk, or what of it is
// durable.
func (k OpKind) Changes() bool {
	switch k {
	case OpCreate, OpWrite, OpSync, OpTruncate, OpMkdir, OpRename, OpLink, OpRemove, OpSyncDir:
		return true
	}
	return false
}

// Op is one operation about to happen.
type Op struct {
	N      int64 // its number among all, from 1
	Change int64 // its number among those that change something, from 1; 0 for others
	Kind   OpKind
	Name   string // of the file or folder
	Bytes  int    // of a read or write
}

func (op Op) String() string {
	return fmt.Sprintf("operation %d (change %d): %s %s, %d bytes", op.N, op.Change, op.Kind, op.Name, op.Bytes)
}

// TornWrite is what a hook returns to let a write put down its first Bytes bytes
// and then fail with Err.
type TornWrite struct {
	Bytes int
	Err   error
}

func (e *TornWrite) Error() string { return fmt.Sprintf("after %d bytes: %v", e.Bytes, e.Err) }

// Unwrap is the error behind the torn write.
func (e *TornWrite) Unwrap() error { return e.Err }

// Failing numbers every operation of another FS and asks a hook before each: an
// error from the hook is the operation's result, and the operation does not
// happen (closing does, so that nothing leaks). The hook may be called by
// several goroutines at once.
type Failing struct {
	inner   FS
	hook    func(Op) error
	ops     atomic.Int64
	changes atomic.Int64
}

// NewFailing wraps inner; a nil hook only counts.
func NewFailing(inner FS, hook func(Op) error) *Failing {
	if hook == nil {
		hook = func(Op) error { return nil }
	}
	return &Failing{inner: inner, hook: hook}
}

// NewKilling calls before ahead of every numbered operation, which may end the
// process there.
func NewKilling(inner FS, before func(Op)) *Failing {
	return NewFailing(inner, func(op Op) error {
		before(op)
		return nil
	})
}

// Ops is the number of operations so far.
func (f *Failing) Ops() int64 { return f.ops.Load() }

// Changes is the number of operations so far that change something.
func (f *Failing) Changes() int64 { return f.changes.Load() }

func (f *Failing) ask(kind OpKind, name string, bytes int) error {
	op := Op{N: f.ops.Add(1), Kind: kind, Name: name, Bytes: bytes}
	if kind.Changes() {
		op.Change = f.changes.Add(1)
	}
	return f.hook(op)
}

// OpenFile is an OpCreate with os.O_CREATE or os.O_TRUNC, else an OpOpen.
func (f *Failing) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	kind := OpOpen
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		kind = OpCreate
	}
	if err := f.ask(kind, name, 0); err != nil {
		return nil, err
	}
	file, err := f.inner.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &failingFile{File: file, fs: f, name: name}, nil
}

// MkdirAll is an OpMkdir.
func (f *Failing) MkdirAll(dir string, perm fs.FileMode) error {
	if err := f.ask(OpMkdir, dir, 0); err != nil {
		return err
	}
	return f.inner.MkdirAll(dir, perm)
}

// Rename is an OpRename, named by where it goes.
func (f *Failing) Rename(from, to string) error {
	if err := f.ask(OpRename, to, 0); err != nil {
		return err
	}
	return f.inner.Rename(from, to)
}

// Link is an OpLink, named by the new name.
func (f *Failing) Link(from, to string) error {
	if err := f.ask(OpLink, to, 0); err != nil {
		return err
	}
	return f.inner.Link(from, to)
}

// Remove is an OpRemove.
func (f *Failing) Remove(name string) error {
	if err := f.ask(OpRemove, name, 0); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

// ReadDir is an OpReadDir.
func (f *Failing) ReadDir(dir string) ([]Info, error) {
	if err := f.ask(OpReadDir, dir, 0); err != nil {
		return nil, err
	}
	return f.inner.ReadDir(dir)
}

// Stat is an OpStat.
func (f *Failing) Stat(name string) (Info, error) {
	if err := f.ask(OpStat, name, 0); err != nil {
		return Info{}, err
	}
	return f.inner.Stat(name)
}

// SyncDir is an OpSyncDir.
func (f *Failing) SyncDir(dir string) error {
	if err := f.ask(OpSyncDir, dir, 0); err != nil {
		return err
	}
	return f.inner.SyncDir(dir)
}

// Free is an OpFree.
func (f *Failing) Free(dir string) (uint64, error) {
	if err := f.ask(OpFree, dir, 0); err != nil {
		return 0, err
	}
	return f.inner.Free(dir)
}

// Lock is an OpLock.
func (f *Failing) Lock(name string) (io.Closer, error) {
	if err := f.ask(OpLock, name, 0); err != nil {
		return nil, err
	}
	return f.inner.Lock(name)
}
