// Package keyring is the keys that a data folder is encrypted with: a random one
// for each namespace, in a file of its own, wrapped by a master key that the
// folder does not have. It knows how a key is made, kept, found and destroyed.
// What is encrypted with it is left to format, frames and journal; the lock of
// the folder, under which all of this happens, to store.
//
// What stays true:
//   - A key is durable before anything is encrypted with it.
//   - Without the master key nothing is changed; a key that cannot be read is
//     neither used nor replaced.
//   - After Erase no key of the namespace is on disk, whatever was encrypted with it.
//
// Locks: Ring.mu stands above the keys in memory. None is held over I/O. Of, Load
// and Erase are one goroutine's; Find and Has may be called at the same time.
package keyring

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

const (
	masterName = "master" // the file that proves the master key
	goneSuffix = ".gone"  // ends the name of a key that is being erased
)

var (
	// ErrMaster is returned for a folder that another master key has encrypted.
	ErrMaster = errors.New("the master key is not the one that the folder is encrypted with")
	// ErrGone is why something encrypted cannot be read: there is no such key.
	ErrGone = errors.New("the key of its namespace is gone")

	errNone = errors.New("it is encrypted, and there are no keys")
)

// Ring is the keys of one data folder; nil is that of a plain one, which has none
// and makes none.
type Ring struct {
	Random io.Reader // of keys and nonces: crypto/rand, unless a test sets it before Load

	fs     vfs.FS
	dir    string
	master cipher.AEAD

	mu      sync.RWMutex
	keys    map[digest]format.Cipher
	byID    map[format.KeyID]cipher.AEAD
	damaged map[digest]error // keys that cannot be read
	mended  []error          // what was wrong with others
}

// Open is the ring in dir, the folder keys of a data folder, under a master key of
// 32 bytes. It reads and makes nothing yet: store.Open does, under its lock.
func Open(fsys vfs.FS, dir string, master []byte) (*Ring, error) {
	aead, err := newAEAD(master)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	r := &Ring{Random: rand.Reader, fs: fsys, dir: dir, master: aead}
	r.forgetAll()
	return r, nil
}

func (r *Ring) forgetAll() {
	r.keys, r.byID = map[digest]format.Cipher{}, map[format.KeyID]cipher.AEAD{}
	r.damaged, r.mended = map[digest]error{}, nil
}

// Dir is the folder of the keys.
func (r *Ring) Dir() string { return r.dir }

// InUse tells whether a folder of keys has any: then the data folder is encrypted.
func InUse(fsys vfs.FS, dir string) (bool, error) {
	infos, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, info := range infos {
		if !strings.HasSuffix(info.Name, vfs.AsideSuffix) {
			return true, nil
		}
	}
	return false, nil
}

// Check changes nothing and says ErrMaster when it is sure of it.
func (r *Ring) Check() error {
	_, err := r.read(masterName, digest{})
	if errors.Is(err, errUnopened) {
		return fmt.Errorf("%s: %w", r.dir, ErrMaster)
	}
	return nil
}

// Load reads all keys and makes the folder if it is missing. The error is ErrMaster,
// a *format.VersionError, or the disk's; keys that are damaged are no error but
// listed by Damaged.
func (r *Ring) Load() error {
	if err := vfs.MkdirDurable(r.fs, r.dir); err != nil {
		return fmt.Errorf("make folder of keys: %w", err)
	}
	infos, err := r.readAll()
	if err != nil {
		return err
	}
	if err := r.prove(); err != nil {
		return err
	}
	for _, info := range infos {
		if err := r.tidy(info.Name); err != nil {
			return fmt.Errorf("tidy keys: %w", err)
		}
	}
	return r.fs.SyncDir(r.dir) // a killed process may not have come to it
}

// Peek is Load for who only reads: it changes nothing. A folder that is not there
// has no keys.
func (r *Ring) Peek() error {
	err := r.Check()
	if err == nil {
		_, err = r.readAll()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *Ring) readAll() ([]vfs.Info, error) {
	r.forgetAll()
	infos, err := r.fs.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	for _, info := range infos {
		if err := r.load(info.Name); err != nil {
			return nil, err
		}
	}
	return infos, nil
}

// load reads the key of a namespace.
func (r *Ring) load(name string) error {
	d, ok := digestIn(name)
	if !ok {
		return nil
	}
	key, err := r.read(name, d)
	var other *format.VersionError
	switch {
	case err == nil:
		return r.add(d, key)
	case errors.Is(err, errTorn) || errors.Is(err, errUnopened):
		r.damaged[d] = &format.DamagedError{Where: r.path(name), Reason: err.Error()}
		return nil
	case errors.As(err, &other):
		return err
	}
	return fmt.Errorf("read key: %w", err)
}

func (r *Ring) read(name string, d digest) ([]byte, error) {
	file, err := vfs.ReadFile(r.fs, r.path(name))
	if err != nil {
		return nil, err
	}
	return decode(r.master, r.path(name), file, d)
}

func (r *Ring) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Ring) add(d digest, key []byte) error {
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := idOf(key)
	r.keys[d] = format.Cipher{ID: id, Namespace: format.Digest(d), NameKey: nameKeyOf(key), AEAD: aead, Random: r.Random}
	r.byID[id] = aead
	return nil
}

// prove refuses another master key than the folder's. The file that proves it is
// made when there is none; where it is damaged any key that was opened will do.
func (r *Ring) prove() error {
	_, err := r.read(masterName, digest{})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnopened):
		return fmt.Errorf("%s: %w", r.dir, ErrMaster)
	case !errors.Is(err, errTorn) && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read %s: %w", r.path(masterName), err)
	}
	if len(r.keys) == 0 && len(r.damaged) > 0 {
		return fmt.Errorf("%s: none of %d keys can be read: %w", r.dir, len(r.damaged), ErrMaster)
	}
	return r.write(masterName, digest{}, make([]byte, keyBytes))
}

// write makes a key durable.
func (r *Ring) write(name string, d digest, key []byte) error {
	file, err := encode(r.master, r.Random, d, key)
	if err == nil {
		err = vfs.WriteFile(r.fs, r.path(name), file)
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// tidy ends what a crash cut short and mends files of which one copy is whole.
func (r *Ring) tidy(name string) error {
	d, _ := digestIn(name)
	switch {
	case isKey(name) && r.damaged[d] == nil:
		damage, _, err := inspect(r.fs, r.path(name), true)
		if damage != nil {
			r.mended = append(r.mended, damage)
		}
		return err
	case strings.HasSuffix(name, goneSuffix):
		return r.shred(name)
	case strings.HasSuffix(name, vfs.AsideSuffix):
		if err := r.fs.Remove(r.path(name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Damaged lists the keys that could not be read, and those that were mended.
func (r *Ring) Damaged() []error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append(slices.Clone(r.mended), slices.Collect(maps.Values(r.damaged))...)
}

// Of is the key of a namespace, made now if it has none. One that is there and
// cannot be read is an error. Without a ring what is written is plain.
func (r *Ring) Of(namespace string) (format.Cipher, error) {
	if r == nil {
		return format.Cipher{}, nil
	}
	d := digestOf(namespace)
	if c, err := r.of(d); err != nil || c.AEAD != nil {
		return c, err
	}
	key, err := r.draw()
	if err != nil {
		return format.Cipher{}, err
	}
	if err := r.write(d.name(), d, key); err != nil {
		return format.Cipher{}, err
	}
	if err := r.add(d, key); err != nil {
		return format.Cipher{}, err
	}
	return r.of(d)
}

// draw is a key with an id that no other one has.
func (r *Ring) draw() ([]byte, error) {
	for {
		key := make([]byte, keyBytes)
		if _, err := io.ReadFull(r.Random, key); err != nil || !r.Has(idOf(key)) {
			return key, err
		}
	}
}

func (r *Ring) of(d digest) (format.Cipher, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[d], r.damaged[d]
}

// Find is the key of that id. The error is ErrGone, and how many keys are
// damaged that may be the one.
func (r *Ring) Find(id format.KeyID) (cipher.AEAD, error) {
	if r == nil {
		return nil, errNone
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch aead := r.byID[id]; {
	case aead != nil:
		return aead, nil
	case len(r.damaged) > 0:
		return nil, fmt.Errorf("%w, or is one of %d that are damaged", ErrGone, len(r.damaged))
	}
	return nil, ErrGone
}

// Has tells whether there is a key of that id.
func (r *Ring) Has(id format.KeyID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id] != nil
}

// Erase destroys the key of a namespace: overwritten, synced, removed. A namespace
// without one is no error. After an error the key may be there or not, and Erase
// is to be called again.
func (r *Ring) Erase(namespace string) error {
	d := digestOf(namespace)
	if err := r.erase(d); err != nil {
		return fmt.Errorf("erase key: %w", err)
	}
	return nil
}

func (r *Ring) erase(d digest) error {
	gone := d.name() + goneSuffix
	if err := r.shred(gone); err != nil { // of an Erase that failed
		return err
	}
	if err := r.fs.Rename(r.path(d.name()), r.path(gone)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.forget(d)
	return r.shred(gone)
}

func (r *Ring) forget(d digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, r.keys[d].ID)
	delete(r.keys, d)
	delete(r.damaged, d)
}

// shred overwrites a file with zeros, syncs it, and removes it durably. Its name is
// synced before: no crash brings back another one for the zeros.
func (r *Ring) shred(name string) error {
	if err := r.fs.SyncDir(r.dir); err != nil {
		return err
	}
	f, err := r.fs.OpenFile(r.path(name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(make([]byte, size), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := r.fs.Remove(r.path(name)); err != nil {
		return err
	}
	return r.fs.SyncDir(r.dir)
}
