// Package journal is the file of one agent in its folder: read with what is kept
// back behind it, appended to, replaced. It knows in which order that becomes
// durable and what a torn end costs. The bytes are left to format, whose agent
// it is and when a turn counts to store.
//
// What stays true:
//   - A turn that Append or Write returned nil for survives kill and power loss.
//   - At every instant the folder of a published agent holds a whole snapshot.
//   - There is no state between calls: no goroutine, no lock, no open file.
package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

const (
	Name = "journal"
	Kept = "journal.prev"
)

// Found is an agent as its folder has it.
type Found struct {
	format.Journal
	Kept bool   // from the file kept back
	Lost string // what could not be read; empty when the file is whole
	Torn bool   // what is lost may be a crash's doing: nobody was told of it
}

// Read reads an agent's file, its first limitBytes if that is not 0. Of a file
// that is torn or damaged, what comes before that counts; without any, the file
// kept back. fs.ErrNotExist when there is neither; a *format.DamagedError when
// neither can be used, with the agent's names if they can be read.
func Read(fsys vfs.FS, dir string, limitBytes int64) (Found, error) {
	path := filepath.Join(dir, Name)
	j, err := read(fsys, path, limitBytes)
	if err == nil {
		return Found{Journal: j, Lost: lost(j, path), Torn: !j.Inner}, nil
	}
	if !isDamaged(err) && !errors.Is(err, fs.ErrNotExist) {
		return Found{}, err
	}
	return readKept(fsys, dir, j, err)
}

func isDamaged(err error) bool {
	var damaged *format.DamagedError
	return errors.As(err, &damaged)
}

// readKept reads the file kept back, because of what reading the other gave.
func readKept(fsys vfs.FS, dir string, j format.Journal, because error) (Found, error) {
	kept, err := read(fsys, filepath.Join(dir, Kept), 0)
	if err == nil {
		return Found{Journal: kept, Kept: true, Lost: because.Error(), Torn: !isDamaged(because)}, nil
	}
	if !isDamaged(because) {
		return Found{Journal: kept}, err
	}
	if j.ID == "" {
		j = kept
	}
	return Found{Journal: j}, because
}

func lost(j format.Journal, path string) string {
	if j.Rest == 0 {
		return ""
	}
	return fmt.Sprintf("the last %d bytes of %s cannot be read", j.Rest, path)
}

func read(fsys vfs.FS, path string, limitBytes int64) (format.Journal, error) {
	data, err := readBytes(fsys, path, limitBytes)
	if err != nil {
		return format.Journal{}, err
	}
	return format.ReadJournal(data, path)
}

func readBytes(fsys vfs.FS, path string, limitBytes int64) ([]byte, error) {
	if limitBytes == 0 {
		return vfs.ReadFile(fsys, path)
	}
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, limitBytes)
	n, err := f.ReadAt(data, 0)
	if err == io.EOF {
		err = nil
	}
	return data[:n], err
}

// Write puts a new file in place of the old one, which is kept back if keep. After
// an error the folder has the old or the new one, and only another Write makes
// that sure.
func Write(fsys vfs.FS, dir string, data []byte, keep bool) error {
	path := filepath.Join(dir, Name)
	if !keep {
		return vfs.WriteFile(fsys, path, data)
	}
	return vfs.WriteFileKeeping(fsys, path, filepath.Join(dir, Kept), data)
}

// Append puts a record behind the last whole one and syncs. After an error the
// record may be there, in part or whole: the file must be replaced by Write.
func Append(fsys vfs.FS, dir string, at int64, record []byte) error {
	f, err := fsys.OpenFile(filepath.Join(dir, Name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(record, at)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Sync makes durable what Read found: its writer may not have come to that.
func Sync(fsys vfs.FS, dir string) error {
	for _, name := range []string{Name, Kept} {
		f, err := fsys.OpenFile(filepath.Join(dir, name), os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}
