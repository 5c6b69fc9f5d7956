// Package families is the files of families: what agents that were forked from one
// point have in common, once and a copy of it, and who they are. It knows the two
// files of a family, in which order they become durable, and what one can give
// that the other has lost. The bytes are left to format, when an agent joins and
// leaves to store.
//
// What stays true:
//   - A member that Join returned nil for is in both files, durably; one that Leave
//     returned nil for is in neither.
//   - At every instant one of the two files is whole, and so damage of one costs
//     nothing.
//   - There is no state between calls: no goroutine, no lock, no open file.
package families

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/store/keyring"
	"mneme/internal/vfs"
)

const (
	dirName    = "families"
	keptSuffix = ".kept"
)

// Folder is where the families of a data folder lie.
type Folder struct {
	FS   vfs.FS
	Dir  string
	Ring *keyring.Ring // of the data folder; nil: what is written is plain
}

// In is the folder of families in a data folder.
func In(fsys vfs.FS, dataDir string, ring *keyring.Ring) Folder {
	return Folder{FS: fsys, Dir: filepath.Join(dataDir, dirName), Ring: ring}
}

// Path is a family's file.
func (f Folder) Path(id format.FamilyID) string { return filepath.Join(f.Dir, id.String()) }

func (f Folder) keptPath(id format.FamilyID) string { return f.Path(id) + keptSuffix }

// paths are both files, the newer first.
func (f Folder) paths(id format.FamilyID) [2]string { return [2]string{f.Path(id), f.keptPath(id)} }

// List gives the families there are, in order, and files that did not come to be.
func (f Folder) List() (ids []format.FamilyID, stray []string, err error) {
	infos, err := f.FS.ReadDir(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	for _, info := range infos {
		id, ok := format.ParseFamilyID(strings.TrimSuffix(info.Name, keptSuffix))
		switch {
		case ok && !slices.Contains(ids[max(0, len(ids)-1):], id):
			ids = append(ids, id)
		case strings.HasSuffix(info.Name, vfs.AsideSuffix):
			stray = append(stray, filepath.Join(f.Dir, info.Name))
		}
	}
	return ids, stray, err
}

// Found is a family as its two files have it.
type Found struct {
	format.Family
	Lost string // what of them cannot be read, or differs; empty when both are whole
	Torn bool   // that may be a crash's doing: nobody was told of it
}

// copied is one of the two files.
type copied struct {
	format.Family
	data []byte
	err  error
}

func (c *copied) whole() bool { return c.err == nil && c.Rest == 0 && c.Bad == 0 }

// problem says what is wrong with a file, and whether a crash can have done it.
func (c *copied) problem(path string) (problem string, torn bool) {
	switch {
	case errors.Is(c.err, fs.ErrNotExist):
		return path + " is missing", true
	case c.err != nil:
		return c.err.Error(), false
	case c.Bad > 0:
		return fmt.Sprintf("%d members of %s cannot be read", c.Bad, path), !c.Inner
	case c.Rest > 0:
		return fmt.Sprintf("the last %d bytes of %s cannot be read", c.Rest, path), true
	}
	return "", false
}

// Read reads both files of a family: who is in either is a member.
// fs.ErrNotExist when there is neither; a *format.DamagedError when neither says
// what the members have in common, and then only they are given; a
// *format.KeylessError if that may be for want of a key.
func (f Folder) Read(id format.FamilyID) (Found, error) {
	var both [2]copied
	for i, path := range f.paths(id) {
		c := &both[i]
		if c.data, c.err = vfs.ReadFile(f.FS, path); c.err == nil {
			if i == 1 && bytes.Equal(c.data, both[0].data) && both[0].whole() {
				return Found{Family: both[0].Family}, nil
			}
			c.Family, c.err = format.ReadFamily(c.data, path, id, f.Ring)
		}
		if c.err != nil && !isDamaged(c.err) && !errors.Is(c.err, fs.ErrNotExist) {
			return Found{}, c.err
		}
	}
	out := f.compare(id, &both[0], &both[1])
	best, other := &both[0], &both[1]
	if rank(other) > rank(best) {
		best, other = other, best
	}
	out.Family = best.Family
	for _, m := range other.Members {
		if !slices.ContainsFunc(out.Members, func(have format.Member) bool { return have.ID == m.ID }) {
			out.Members = append(out.Members, m)
		}
	}
	if errors.Is(best.err, fs.ErrNotExist) {
		return Found{}, best.err
	}
	return out, best.err
}

// rank orders files by how much of them can be read.
func rank(c *copied) int {
	var keyless *format.KeylessError
	switch {
	case c.whole():
		return 4
	case c.err == nil:
		return 3
	case errors.As(c.err, &keyless):
		return 2
	case isDamaged(c.err):
		return 1
	}
	return 0
}

func isDamaged(err error) bool {
	var damaged *format.DamagedError
	return errors.As(err, &damaged)
}

// compare says what is wrong with either file, or between two that are not the same.
func (f Folder) compare(id format.FamilyID, a, b *copied) (out Found) {
	out.Torn = true
	var problems []string
	for i, path := range f.paths(id) {
		if problem, torn := [2]*copied{a, b}[i].problem(path); problem != "" {
			problems = append(problems, problem)
			out.Torn = out.Torn && torn
		}
	}
	if problems == nil {
		problems = []string{"the two files of family " + id.String() + " differ"}
	}
	out.Lost = strings.Join(problems, "; ")
	return out
}

// ReadSums reads both files of an encrypted family as far as no key is needed: one
// of them that is whole, nil if neither is, and what is wrong with them. False for a
// family of which neither says that it is encrypted.
func (f Folder) ReadSums(id format.FamilyID) (whole []byte, lost string, encrypted bool, err error) {
	var both [2][]byte
	var problems []string
	for i, path := range f.paths(id) {
		data, err := vfs.ReadFile(f.FS, path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", false, err
		}
		at, rest, err := format.CheckFamily(data, path)
		encrypted = encrypted || at.Encrypted()
		switch {
		case err != nil:
			problems = append(problems, err.Error())
		case rest > 0:
			problems = append(problems, fmt.Sprintf("the last %d bytes of %s cannot be read", rest, path))
		default:
			both[i] = data
		}
	}
	whole = both[0]
	switch {
	case whole == nil:
		whole = both[1]
	case both[1] != nil && !bytes.Equal(both[0], both[1]):
		problems = append(problems, "the two files of family "+id.String()+" differ")
	}
	return whole, strings.Join(problems, "; "), encrypted, nil
}

// Copy makes both files of a family the same, durably.
func (f Folder) Copy(id format.FamilyID, data []byte) error {
	for _, path := range []string{f.keptPath(id), f.Path(id)} {
		if err := vfs.WriteFile(f.FS, path, data); err != nil {
			return err
		}
	}
	return nil
}

// Common is what the members of a family have in common: format.Bases.
func (f Folder) Common(id format.FamilyID) (format.Manifest, error) {
	found, err := f.Read(id)
	return found.Common, err
}

// Unwritten gives those of a family's members that have no folder among the
// agents', of a deleted agent or not.
func (f Folder) Unwritten(found *Found) (members []format.Member, err error) {
	for _, m := range found.Members {
		dir := filepath.Join(filepath.Dir(f.Dir), "agents", journal.Folder(found.Common.Namespace, m.ID))
		has := false
		for _, path := range []string{dir, dir + journal.GoneSuffix} {
			_, statErr := f.FS.Stat(path)
			if statErr != nil && !errors.Is(statErr, fs.ErrNotExist) {
				return nil, statErr
			}
			has = has || statErr == nil
		}
		if !has {
			members = append(members, m)
		}
	}
	return members, nil
}

// Join makes an agent a member of a family, or says anew what one is; the family
// is made if need be. It gives the family as it stands then. After an error the
// member may be there: Read says.
func (f Folder) Join(family format.Family, m format.Member) (format.Family, error) {
	c, err := f.Ring.Of(family.Common.Namespace)
	if err != nil {
		return family, err
	}
	found, err := f.Read(family.ID)
	switch {
	case err == nil && found.Lost == "" && found.Takes(c):
		at := found.Bytes
		record, err := found.Put(m, c)
		if err == nil {
			err = f.append(family.ID, at, record)
		}
		return found.Family, err
	case err == nil || isDamaged(err), errors.Is(err, fs.ErrNotExist):
		family.Members = found.Members
		family.Admit(m)
		return family, f.Write(&family)
	}
	return family, err
}

func (f Folder) append(id format.FamilyID, at int64, record []byte) error {
	for _, path := range f.paths(id) {
		file, err := f.FS.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = file.WriteAt(record, at)
		if err == nil {
			err = file.Sync()
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Write writes both files anew, durably: a record for each member, encrypted if
// there is a ring.
func (f Folder) Write(family *format.Family) error {
	c, err := f.Ring.Of(family.Common.Namespace)
	if err != nil {
		return err
	}
	data, err := family.Encode(c)
	if err != nil {
		return err
	}
	return f.Copy(family.ID, data)
}

// Leave takes members out of a family: no byte of their records stays. One that is
// not there is no error. It gives the family as it stands then.
func (f Folder) Leave(id format.FamilyID, members ...string) (format.Family, error) {
	found, err := f.Read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return found.Family, f.SyncNames()
	}
	if err != nil && !isDamaged(err) {
		return found.Family, err
	}
	before := len(found.Members)
	found.Members = slices.DeleteFunc(found.Members, func(m format.Member) bool { return slices.Contains(members, m.ID) })
	if len(found.Members) == before && (err != nil || found.Lost == "") {
		return found.Family, f.SyncNames()
	}
	return found.Family, f.Write(&found.Family)
}

// Remove removes families, durably; one that is not there is no error.
func (f Folder) Remove(ids ...format.FamilyID) error {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		for _, path := range f.paths(id) {
			if err := f.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return f.SyncNames()
}

// SyncNames makes durable which files there are.
func (f Folder) SyncNames() error { return f.FS.SyncDir(f.Dir) }

// Sync makes durable what Read found: its writer may not have come to that.
func (f Folder) Sync(id format.FamilyID) error {
	for _, path := range f.paths(id) {
		file, err := f.FS.OpenFile(path, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	return nil
}
