package vfs

import "errors"

// failingFile asks its file system's hook before each operation.
type failingFile struct {
	File
	fs   *Failing
	name string
}

func (f *failingFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.ask(OpRead, f.name, len(p)); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.ask(OpWrite, f.name, len(p))
	if err == nil {
		return f.File.WriteAt(p, off)
	}
	var torn *TornWrite
	if !errors.As(err, &torn) {
		return 0, err
	}
	n, writeErr := f.File.WriteAt(p[:min(torn.Bytes, len(p))], off)
	return n, errors.Join(err, writeErr)
}

func (f *failingFile) Sync() error {
	if err := f.fs.ask(OpSync, f.name, 0); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *failingFile) Truncate(sizeBytes int64) error {
	if err := f.fs.ask(OpTruncate, f.name, 0); err != nil {
		return err
	}
	return f.File.Truncate(sizeBytes)
}

func (f *failingFile) Size() (int64, error) {
	if err := f.fs.ask(OpSize, f.name, 0); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Close closes whatever the hook says; its error is reported all the same.
func (f *failingFile) Close() error {
	return errors.Join(f.fs.ask(OpClose, f.name, 0), f.File.Close())
}
