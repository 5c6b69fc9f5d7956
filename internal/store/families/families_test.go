package families

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// common is what the members of the stories have in common.
func common() format.Family {
	family, err := format.NewFamily(&format.Manifest{Namespace: "team", ID: "x", Tokens: []token.ID{1, 2, 3}}, format.Cipher{})
	if err != nil {
		panic(err)
	}
	return family
}

// folder has a family of ada and bob.
func folder(t *testing.T) Folder {
	t.Helper()
	f := In(vfs.NewCrashable(), "/data", nil)
	must(t, vfs.MkdirDurable(f.FS, f.Dir))
	for _, id := range []string{"ada", "bob"} {
		_, err := f.Join(common(), format.Member{ID: id})
		must(t, err)
	}
	return f
}

// members reads a family: who is in it, whether something is wrong, whether that
// may be a crash's doing.
func members(f Folder) string {
	found, err := f.Read(common().ID)
	var names []string
	for _, m := range found.Members {
		names = append(names, fmt.Sprint(m.ID, map[bool]string{true: "!"}[m.Pinned]))
	}
	var damaged *format.DamagedError
	return fmt.Sprint(strings.Join(names, " "), " ", found.Lost != "", " ", found.Torn, " ", errors.As(err, &damaged), " ", errors.Is(err, fs.ErrNotExist))
}

func write(t *testing.T, f Folder, path string, edit func([]byte) []byte) {
	t.Helper()
	data, err := vfs.ReadFile(f.FS, path)
	must(t, err)
	must(t, vfs.WriteFile(f.FS, path, edit(data)))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 4
		return b
	}
}

// Members come, say something anew, and go; the files go with the family.
func TestMembersComeAndGo(t *testing.T) {
	f := folder(t)
	id := common().ID
	if got := members(f); got != "ada bob false false false false" {
		t.Errorf("two joined: %s", got)
	}
	family, err := f.Join(common(), format.Member{ID: "ada", Pinned: true})
	must(t, err)
	info, err := f.FS.Stat(f.Path(id))
	must(t, err)
	if got := members(f); got != "ada! bob false false false false" || family.Bytes != info.Size {
		t.Errorf("one is pinned: %s; %d bytes of %d", got, family.Bytes, info.Size)
	}
	family, err = f.Leave(id, "bob")
	must(t, err)
	info, err = f.FS.Stat(f.Path(id))
	must(t, err)
	if got := members(f); got != "ada! false false false false" || family.Bytes != info.Size {
		t.Errorf("one left: %s; %d bytes of %d", got, family.Bytes, info.Size)
	}
	_, err = f.Leave(id, "nobody")
	must(t, err)
	ids, stray, err := f.List()
	if err != nil || len(ids) != 1 || ids[0] != id || len(stray) != 0 {
		t.Errorf("listed %v %v %v", ids, stray, err)
	}
	must(t, f.Sync(id))
	must(t, f.Remove(id))
	must(t, f.Remove(id))
	must(t, f.Sync(id))
	_, err = f.Leave(id, "ada")
	must(t, err)
	if got := members(f); got != " false false false true" {
		t.Errorf("removed: %s", got)
	}
	if _, err := f.Common(id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	ids, _, err = In(f.FS, "/nowhere", nil).List()
	if err != nil || ids != nil {
		t.Errorf("no folder at all: %v %v", ids, err)
	}
}

// Whatever happens to one file, the other has everybody; to both, what can be read
// of either counts. The next join makes both whole.
func TestTwoFilesAreRead(t *testing.T) {
	id := common().ID
	for _, c := range []struct {
		name       string
		file, kept func([]byte) []byte
		want       string
	}{
		{"whole", nil, nil, "ada bob false false false false"},
		{"a member damaged", flip(-3), nil, "ada bob true true false false"},
		{"the first member damaged", flip(-30), nil, "ada bob true false false false"},
		{"the common part damaged", flip(45), nil, "ada bob true false false false"},
		{"the head damaged", nil, flip(2), "ada bob true false false false"},
		{"cut", nil, func(b []byte) []byte { return b[:len(b)-1] }, "ada bob true true false false"},
		{"one more in one", func(b []byte) []byte { return append(b, 0) }, nil, "ada bob true true false false"},
		{"a member damaged in each", flip(-3), flip(-30), "ada bob true false false false"},
		{"both common parts damaged", flip(45), flip(46), "ada bob true false true false"},
		{"both heads damaged", flip(2), flip(2), " true false true false"},
		{"a head and a member damaged", flip(2), flip(-3), "ada true false false false"},
	} {
		f := folder(t)
		if c.file != nil {
			write(t, f, f.Path(id), c.file)
		}
		if c.kept != nil {
			write(t, f, f.keptPath(id), c.kept)
		}
		if got := members(f); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		_, err := f.Join(common(), format.Member{ID: "eve"})
		must(t, err)
		names, _, _ := strings.Cut(c.want, " true")
		if got := members(f); c.want != "ada bob false false false false" && got != strings.TrimLeft(names+" eve", " ")+" false false false false" {
			t.Errorf("%s, then one joined: %s", c.name, got)
		}
	}
	f := folder(t)
	must(t, f.FS.Remove(f.Path(id)))
	if got := members(f); got != "ada bob true true false false" {
		t.Errorf("one is gone: %s", got)
	}
}

// A record that is in one file only is read from it: that of a later join.
func TestDifferentFiles(t *testing.T) {
	f := folder(t)
	id := common().ID
	before, err := vfs.ReadFile(f.FS, f.Path(id))
	must(t, err)
	_, err = f.Join(common(), format.Member{ID: "eve", Created: time.Unix(1, 0).UTC()})
	must(t, err)
	for _, path := range f.paths(id) {
		after, err := vfs.ReadFile(f.FS, path)
		must(t, err)
		must(t, vfs.WriteFile(f.FS, path, before))
		if got := members(f); got != "ada bob eve true true false false" {
			t.Errorf("%s is older: %s", path, got)
		}
		must(t, vfs.WriteFile(f.FS, path, after))
	}
}

// A member with a folder among the agents', deleted or not, is not listed with
// those that have nothing of their own.
func TestUnwritten(t *testing.T) {
	f := folder(t)
	for _, id := range []string{"eve", "fay"} {
		_, err := f.Join(common(), format.Member{ID: id})
		must(t, err)
	}
	must(t, vfs.MkdirDurable(f.FS, "/data/agents/"+journal.Folder("team", "ada")))
	must(t, vfs.MkdirDurable(f.FS, "/data/agents/"+journal.Folder("team", "eve")+journal.GoneSuffix))
	must(t, vfs.WriteFile(f.FS, f.Path(common().ID)+vfs.AsideSuffix, nil))
	_, stray, err := f.List()
	must(t, err)
	found, err := f.Read(common().ID)
	must(t, err)
	alone, err := f.Unwritten(&found)
	if got := fmt.Sprintln(alone[0].ID, alone[1].ID, len(alone), len(stray)); err != nil || got != "bob fay 2 1\n" {
		t.Errorf("alone %v, stray %v, %v", alone, stray, err)
	}
}

// An error of the disk is given as it is, and nobody is made up.
func TestDiskFails(t *testing.T) {
	inner := folder(t)
	id := common().ID
	dead := errors.New("dead")
	for _, kind := range []vfs.OpKind{vfs.OpOpen, vfs.OpRead, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir, vfs.OpRemove} {
		f := Folder{FS: vfs.NewFailing(inner.FS, func(op vfs.Op) error {
			if op.Kind == kind {
				return dead
			}
			return nil
		}), Dir: inner.Dir}
		_, err := f.Join(common(), format.Member{ID: "eve"})
		_, left := f.Leave(id, "eve")
		if err = errors.Join(err, left, f.Remove(id), f.Sync(id)); !errors.Is(err, dead) {
			t.Errorf("%s fails: %v", kind, err)
		}
		inner = folder(t)
	}
}
