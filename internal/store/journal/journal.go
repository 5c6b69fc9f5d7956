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
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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

	GoneSuffix = ".gone" // ends the folder of a deleted agent until it is erased
)

// Folder is the name of an agent's folder: the SHA-256 of its two names.
func Folder(namespace, id string) string {
	var b []byte
	for _, name := range []string{namespace, id} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(name)))
		b = append(b, name...)
	}
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:])
}

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
// neither can be used, with the agent's names if they can be read, and a
// *format.KeylessError if that may be for want of a key. What a file is based on is
// found by bases.
func Read(fsys vfs.FS, dir string, limitBytes int64, bases format.Bases, keys format.Keys) (Found, error) {
	path := filepath.Join(dir, Name)
	j, err := read(fsys, path, limitBytes, bases, keys)
	if err == nil {
		return Found{Journal: j, Lost: lost(j, path), Torn: !j.Inner}, nil
	}
	if !isDamaged(err) && !errors.Is(err, fs.ErrNotExist) {
		return Found{}, err
	}
	return readKept(fsys, dir, j, err, bases, keys)
}

func isDamaged(err error) bool {
	var damaged *format.DamagedError
	return errors.As(err, &damaged)
}

func isKeyless(err error) bool {
	var keyless *format.KeylessError
	return errors.As(err, &keyless)
}

// readKept reads the file kept back, because of what reading the other gave.
func readKept(fsys vfs.FS, dir string, j format.Journal, because error, bases format.Bases, keys format.Keys) (Found, error) {
	kept, err := read(fsys, filepath.Join(dir, Kept), 0, bases, keys)
	if err == nil {
		return Found{Journal: kept, Kept: true, Lost: because.Error(), Torn: !isDamaged(because)}, nil
	}
	if !isDamaged(because) || isKeyless(err) && !isKeyless(because) {
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

func read(fsys vfs.FS, path string, limitBytes int64, bases format.Bases, keys format.Keys) (format.Journal, error) {
	data, err := readBytes(fsys, path, limitBytes)
	if err != nil {
		return format.Journal{}, err
	}
	return format.ReadJournal(data, path, bases, keys)
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

// Sums are what can be said of an agent's encrypted file without a key.
type Sums struct {
	Data []byte // what is whole of it
	Kept bool   // from the file kept back
	Lost string // what is not; empty when the file is whole
}

// ReadSums reads an agent's file as far as no key is needed; false for one that is
// not encrypted. Of a file that is torn or damaged, what comes before that counts;
// without any, the file kept back. A *format.DamagedError when neither can be used.
func ReadSums(fsys vfs.FS, dir string) (s Sums, encrypted bool, err error) {
	path := filepath.Join(dir, Name)
	s, encrypted, err = readSums(fsys, path)
	if err == nil || !isDamaged(err) && !errors.Is(err, fs.ErrNotExist) {
		return s, encrypted, err
	}
	kept, keptEncrypted, keptErr := readSums(fsys, filepath.Join(dir, Kept))
	if keptErr == nil {
		kept.Kept, kept.Lost = true, err.Error()
		return kept, keptEncrypted, nil
	}
	return s, encrypted || keptEncrypted, err
}

func readSums(fsys vfs.FS, path string) (s Sums, encrypted bool, err error) {
	data, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return s, false, err
	}
	at, rest, err := format.CheckJournal(data, path)
	if err == nil && rest > 0 {
		s.Lost = fmt.Sprintf("the last %d bytes of %s cannot be read", rest, path)
	}
	s.Data = data[:at.End]
	return s, at.Encrypted(), err
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

// Overwrite puts a new file in place of the old one and of the one kept back: what
// they say is in neither any more.
func Overwrite(fsys vfs.FS, dir string, data []byte) error {
	kept := filepath.Join(dir, Kept)
	switch _, err := fsys.Stat(kept); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := vfs.WriteFile(fsys, kept, data); err != nil {
			return err
		}
	}
	return vfs.WriteFile(fsys, filepath.Join(dir, Name), data)
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
