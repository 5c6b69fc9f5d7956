package shelf

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"mneme/internal/vfs"
)

// A record's file:
//
//	0  magic "mnemresp"  8
//	8  version           u32, little endian
//	12 CRC-32C of what follows
//	16 the record as JSON
const (
	magic      = "mnemresp"
	version    = 1
	headBytes  = 16
	fileSuffix = ".response"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open makes a shelf of what lies in a folder, which is made if it is missing.
// Files that do not read are left where they are, and say why.
func Open(o Options, unread func(path string, why error)) (*Shelf, error) {
	s := &Shelf{o: o.withDefaults(), entries: map[string]*entry{}}
	if o.Dir == "" {
		return s, nil
	}
	if err := vfs.MkdirDurable(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("make folder of responses: %w", err)
	}
	infos, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list responses: %w", err)
	}
	return s, s.load(infos, unread)
}

// found is a record on disk.
type found struct {
	id    string
	order int64
	entry *entry
}

func (s *Shelf) load(infos []vfs.Info, unread func(string, error)) error {
	var all []found
	for _, info := range infos {
		path := filepath.Join(s.o.Dir, info.Name)
		id, ok := strings.CutSuffix(info.Name, fileSuffix)
		switch {
		case strings.HasSuffix(info.Name, vfs.AsideSuffix): // a write that did not finish
			if err := s.o.FS.Remove(path); err != nil {
				return fmt.Errorf("remove what was not finished: %w", err)
			}
		case ok && !info.Dir:
			r, err := s.read(id)
			if err != nil || r.ID != id {
				unread(path, cmp.Or(err, errors.New("it is of another response")))
				continue
			}
			all = append(all, found{id, r.Order, newEntry(r, info.Size-headBytes)})
		}
	}
	return s.enter(all)
}

// enter takes records in their order.
func (s *Shelf) enter(all []found) error {
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.order, b.order) })
	var dropped []string
	for _, f := range all {
		dropped = append(dropped, s.add(f.id, f.entry)...)
		s.last = f.order
	}
	return s.remove(dropped)
}

func (s *Shelf) path(id string) string { return filepath.Join(s.o.Dir, id+fileSuffix) }

func encode(data []byte) []byte {
	file := make([]byte, headBytes, headBytes+len(data))
	copy(file, magic)
	binary.LittleEndian.PutUint32(file[8:], version)
	binary.LittleEndian.PutUint32(file[12:], crc32.Checksum(data, castagnoli))
	return append(file, data...)
}

// read finds a record on disk; one that is gone is unknown.
func (s *Shelf) read(id string) (r Record, err error) {
	file, err := vfs.ReadFile(s.o.FS, s.path(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, ErrUnknown
	case err != nil:
		return r, fmt.Errorf("read response %s: %w", id, err)
	}
	data, err := decode(file)
	if err != nil {
		return r, fmt.Errorf("read response %s: %w", id, err)
	}
	return r, json.Unmarshal(data, &r)
}

func decode(file []byte) ([]byte, error) {
	if len(file) < headBytes || string(file[:8]) != magic {
		return nil, errors.New("it is no record of a response")
	}
	if v := binary.LittleEndian.Uint32(file[8:]); v != version {
		return nil, fmt.Errorf("it has version %d, this program reads %d", v, version)
	}
	data := file[headBytes:]
	if sum := crc32.Checksum(data, castagnoli); sum != binary.LittleEndian.Uint32(file[12:]) {
		return nil, errors.New("its bytes are damaged")
	}
	return data, nil
}

// remove takes files away, durably; missing ones are no error.
func (s *Shelf) remove(ids []string) error {
	if s.o.Dir == "" || len(ids) == 0 {
		return nil
	}
	var errs []error
	for _, id := range ids {
		if err := s.o.FS.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.o.FS.SyncDir(s.o.Dir))...)
}
