// Package verify reads a data folder that no program uses, every byte that has a
// sum, says what is not as it was written, and repairs what can be without
// making anything up. It knows which files there are and what they owe each
// other. The bytes are left to format, segments and journal; a running store
// checks itself.
//
// What stays true:
//   - Without repair nothing in the folder is changed.
//   - Repair only cuts, forgets, and puts back what was kept: an agent's tokens
//     are ones that were written; a block that is forgotten is computed anew.
package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mneme/internal/store/families"
	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/store/keyring"
	"mneme/internal/store/segments"
	"mneme/internal/vfs"
)

// ErrInUse is returned while a process holds the folder's lock.
var ErrInUse = errors.New("data folder is in use by another process")

// Finding is one thing that is not as it was written.
type Finding struct {
	Path     string
	Reason   string
	Repaired bool
}

// check is one walk over a data folder.
type check struct {
	fs     vfs.FS
	dir    string
	repair bool
	report func(Finding)
	stored map[string]map[format.BlockID]bool // by KV fingerprint: whole frames

	families families.Folder
}

// Folder checks the data folder dir and tells report what it finds. The error is
// ErrInUse, or why the check could not go on; findings are none.
func Folder(fsys vfs.FS, dir string, repair bool, report func(Finding)) error {
	unlock, err := lock(fsys, dir, repair)
	if err != nil {
		return err
	}
	c := &check{
		fs: fsys, dir: dir, repair: repair, report: report, stored: map[string]map[format.BlockID]bool{}, families: families.In(fsys, dir, nil),
	}
	return errors.Join(c.run(), unlock())
}

// lock keeps a program from starting meanwhile. A folder that never had one has
// no lock file, and gets none unless it is to be changed.
func lock(fsys vfs.FS, dir string, make bool) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	if _, err := fsys.Stat(path); errors.Is(err, fs.ErrNotExist) && !make {
		return func() error { return nil }, nil
	}
	held, err := fsys.Lock(path)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	return held.Close, nil
}

func (c *check) run() error {
	if err := c.dropCatalogue(); err != nil {
		return err
	}
	if err := keyring.Inspect(c.fs, filepath.Join(c.dir, "keys"), c.repair, c.say); err != nil {
		return err
	}
	if err := c.each("kv", c.segments); err != nil {
		return err
	}
	if err := c.eachFamily(); err != nil {
		return err
	}
	return c.each("agents", c.agent)
}

// dropCatalogue: what it says may not be true after a repair.
func (c *check) dropCatalogue() error {
	if !c.repair {
		return nil
	}
	return c.remove(filepath.Join(c.dir, "agents", "catalogue"))
}

// each checks every folder in a folder of dir.
func (c *check) each(sub string, one func(dir string) error) error {
	for _, name := range c.list(sub) {
		if err := one(filepath.Join(c.dir, sub, name)); err != nil {
			return err
		}
	}
	return nil
}

// list gives the folders in a folder of dir; none if it is not there.
func (c *check) list(sub string) (names []string) {
	infos, err := c.fs.ReadDir(filepath.Join(c.dir, sub))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.say(filepath.Join(c.dir, sub), err.Error(), false)
	}
	for _, info := range infos {
		if info.Dir {
			names = append(names, info.Name)
		}
	}
	return names
}

func (c *check) say(path, reason string, repaired bool) {
	c.report(Finding{Path: path, Reason: reason, Repaired: repaired})
}

func (c *check) remove(path string) error {
	if err := c.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *check) segments(dir string) error {
	folder := segments.Folder{FS: c.fs, Dir: dir, Fingerprint: filepath.Base(dir)}
	listed, err := folder.List()
	if err != nil {
		return err
	}
	c.stored[folder.Fingerprint] = map[format.BlockID]bool{}
	err = c.strays(listed.Stray)
	for _, seg := range listed.Segments {
		err = errors.Join(err, c.segment(folder, seg))
	}
	return err
}

func (c *check) strays(paths []string) (err error) {
	for _, path := range paths {
		if c.repair {
			err = errors.Join(err, c.remove(path))
		}
		c.say(path, "left over by a crash", c.repair)
	}
	return err
}

// segment reads every frame of a segment and compares its index.
func (c *check) segment(folder segments.Folder, seg segments.Segment) error {
	path := folder.Path(seg.Number)
	found, err := folder.Scan(seg)
	if err != nil {
		c.say(path, err.Error(), false)
		return nil
	}
	wanted, indexErr := indexed(folder, seg, found.Entries)
	for _, e := range wanted {
		c.stored[folder.Fingerprint][e.ID] = true
	}
	isTorn, err := torn(c.fs, path, min(found.End, seg.Bytes), seg.Bytes)
	if err != nil {
		return err
	}
	problems := problemsOf(found, seg, isTorn, indexErr)
	if c.repair && len(problems) > 0 {
		if err := mend(folder, seg, wanted, found); err != nil {
			return fmt.Errorf("repair %s: %w", path, err)
		}
	}
	for _, p := range problems {
		c.say(path, p, c.repair)
	}
	return nil
}

// torn tells whether something follows the last whole frame but what was erased.
func torn(fsys vfs.FS, path string, end, sizeBytes int64) (bool, error) {
	file, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	rest := make([]byte, sizeBytes-end)
	_, err = file.ReadAt(rest, end)
	if err == io.EOF {
		err = nil
	}
	return len(bytes.Trim(rest, "\x00")) > 0, errors.Join(err, file.Close())
}

func problemsOf(found segments.Found, seg segments.Segment, torn bool, indexErr error) (problems []string) {
	if found.Head != nil {
		problems = append(problems, found.Head.Error()+" (its frames count all the same)")
	}
	if found.Damaged > 0 {
		problems = append(problems, fmt.Sprintf("%d stretches hold no whole frame", found.Damaged))
	}
	if torn && seg.Bytes > format.SegmentHeadBytes {
		problems = append(problems, fmt.Sprintf("torn: %d bytes after the last whole frame", seg.Bytes-found.End))
	}
	if indexErr != nil {
		problems = append(problems, indexErr.Error())
	}
	return problems
}

// indexed gives the whole frames that the index lists, all without an index; the
// error says what the index lists that is not whole.
func indexed(folder segments.Folder, seg segments.Segment, whole []format.Entry) ([]format.Entry, error) {
	data, err := vfs.ReadFile(folder.FS, folder.IndexPath(seg.Number))
	if errors.Is(err, fs.ErrNotExist) {
		return whole, nil
	}
	if err != nil {
		return whole, fmt.Errorf("index: %w", err)
	}
	listed, _, err := segments.DecodeIndex(data, seg.Number, seg.Bytes)
	if err != nil {
		return whole, fmt.Errorf("index: %w", err)
	}
	return stillWhole(listed, whole)
}

// stillWhole gives the entries of an index that are whole frames; the error says
// which are not.
func stillWhole(listed, whole []format.Entry) (kept []format.Entry, err error) {
	there := map[int64]format.BlockID{}
	for _, e := range whole {
		there[e.Offset] = e.ID
	}
	for _, e := range listed {
		if id, ok := there[e.Offset]; ok && id == e.ID {
			kept = append(kept, e)
		} else {
			err = errors.Join(err, fmt.Errorf("block %s of group %d at %d is damaged", e.ID.Key, e.ID.Group, e.Offset))
		}
	}
	return kept, err
}

// mend cuts a segment after its last whole frame and gives it an index of the
// frames wanted, and its head if that is damaged; the rest is erased.
func mend(folder segments.Folder, seg segments.Segment, wanted []format.Entry, found segments.Found) error {
	if found.Head != nil {
		if err := folder.WriteHead(seg.Number, found.Entries); err != nil {
			return err
		}
	}
	_, err := folder.Erase(seg.Number, found.End, wanted)
	return err
}

// agent reads an agent's folder and looks for what its last turn names.
func (c *check) agent(dir string) error {
	if strings.HasSuffix(dir, journal.GoneSuffix) {
		c.say(dir, "a delete that was cut short; the next start finishes it", false)
		return nil
	}
	if sums, encrypted, err := journal.ReadSums(c.fs, dir); encrypted {
		return c.sums(dir, sums, err)
	}
	found, err := journal.Read(c.fs, dir, 0, c.families.Common, nil)
	if err != nil {
		return c.unreadable(dir, err)
	}
	if found.Lost != "" {
		if err := c.restore(dir, found); err != nil {
			return fmt.Errorf("repair %s: %w", dir, err)
		}
	}
	c.frames(dir, &found.Manifest)
	return nil
}

// unreadable says what is wrong with an agent of which nothing can be read; other
// errors are the disk's.
func (c *check) unreadable(dir string, err error) error {
	var damaged *format.DamagedError
	var version *format.VersionError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.say(dir, "left over by a first turn that was cut short", false)
	case errors.As(err, &damaged), errors.As(err, &version):
		c.say(dir, err.Error(), false)
	default:
		return err
	}
	return nil
}

// restore puts what can be read in place of an agent's file.
func (c *check) restore(dir string, found journal.Found) error {
	if c.repair {
		data, _, err := format.NewJournal(&found.Manifest, found.Former, found.Base, format.Cipher{})
		if err == nil {
			err = journal.Write(c.fs, dir, data, false)
		}
		if err != nil {
			return err
		}
	}
	c.say(dir, fmt.Sprintf("agent %q stands at turn %d: %s", found.ID, len(found.Manifest.Turns), found.Lost), c.repair)
	return nil
}

// frames says how many of an agent's blocks are not there: they are computed anew.
func (c *check) frames(dir string, m *format.Manifest) {
	stored, ok := c.stored[m.KVFingerprint]
	if !ok && len(m.Keys)+len(m.Tail) == 0 {
		return
	}
	missing, card := 0, format.CardOf(m, nil, format.Mark{})
	for id := range card.Frames() {
		if !stored[id] {
			missing++
		}
	}
	if missing > 0 {
		c.say(dir, fmt.Sprintf("agent %q: %d of its blocks are missing; they are computed anew", m.ID, missing), false)
	}
}
