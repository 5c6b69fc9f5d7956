package store

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"mneme/internal/vfs"
)

var update = flag.Bool("update", false, "write testdata/v3 anew; only while version 3 is not released")

const (
	golden1 = "testdata/v1"
	golden2 = "testdata/v2"
	golden3 = "testdata/v3" // encrypted
)

// counted gives 0, 1, 2, ... instead of random bytes: in a golden folder keys and
// nonces are these.
type counted struct{ next byte }

func (c *counted) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = c.next
		c.next++
	}
	return len(b), nil
}

// goldenOptions are those of the golden folders: the third is encrypted.
func goldenOptions(t *testing.T, golden string, fsys vfs.FS) Options {
	t.Helper()
	if golden != golden3 {
		return options(fsys)
	}
	o := encrypted(t, fsys, 'g')
	o.Ring.Random = new(counted)
	return o
}

// goldenFolder is the history of the golden files: two turns of ada, a fork after
// the first that goes on and one that is only pinned, and a block nobody names;
// everything of it but the lock is compared. The export is of the fork.
func goldenFolder(t *testing.T, golden string) (*vfs.Crashable, []byte) {
	t.Helper()
	fsys := vfs.NewCrashable()
	s, err := Open(goldenOptions(t, golden, fsys))
	must(t, err)
	sc := newScript()
	sc.turn(s, sc.ada, 6)
	sc.forkTo(s, &sc.eve)
	sc.forkTo(s, &sc.bob)
	sc.pin(s, "bob")
	sc.turn(s, sc.ada, 3)
	sc.turn(s, sc.eve, 5)
	sc.turn(s, sc.eve, 2)
	must(t, errors.Join(sc.errs...))
	s.Append(blocks(newActor("cleo").say(4), func() {})[0])
	must(t, s.Flush(t.Context()))
	m, err := s.Load("default", "eve")
	must(t, err)
	var export bytes.Buffer
	must(t, s.Export(&export, m, true))
	must(t, s.Close())
	must(t, fsys.Remove("/data/lock"))
	return fsys, export.Bytes()
}

// copyFiles copies the files under a folder.
func copyFiles(t *testing.T, from vfs.FS, fromDir string, to vfs.FS, toDir string) {
	t.Helper()
	must(t, vfs.MkdirDurable(to, toDir))
	infos, err := from.ReadDir(fromDir)
	must(t, err)
	for _, info := range infos {
		src, dst := filepath.Join(fromDir, info.Name), filepath.Join(toDir, info.Name)
		if info.Dir {
			copyFiles(t, from, src, to, dst)
			continue
		}
		data, err := vfs.ReadFile(from, src)
		must(t, err)
		must(t, vfs.WriteFile(to, dst, data))
	}
}

// What version 1 wrote is read for ever: segment, index, agents' files with a
// snapshot and a turn, catalogue, export. Its next turn makes an agent's file one
// of the present version.
func TestGoldenFilesOfVersion1(t *testing.T) {
	sc := newScript()
	sc.ada.say(6)
	sc.eve = forkOf(sc.ada, "eve")
	sc.ada.say(3)
	goldenIsRead(t, golden1, sc, "map[ada:2 bob:0 eve:1] 3", sc.eve)
	in := goldenExport(t, golden1, "ada")
	if len(in.Manifest.Tokens) != 9 || len(in.Stored.Keys) != 2 || len(in.Stored.Tail) != 1 {
		t.Errorf("imported %+v", in.Stored)
	}
}

// And so is what version 2 wrote: beside that a family, a file based on it, who is
// pinned.
func TestGoldenFilesOfVersion2(t *testing.T) { goldenOfForks(t, golden2) }

// And so is what version 3 wrote: the same, encrypted. The export is plain.
func TestGoldenFilesOfVersion3(t *testing.T) {
	if *update {
		fsys, export := goldenFolder(t, golden3)
		must(t, os.RemoveAll(golden3))
		copyFiles(t, fsys, "/data", vfs.Real(), filepath.Join(golden3, "data"))
		must(t, os.WriteFile(filepath.Join(golden3, "eve.export"), export, 0o600))
	}
	goldenOfForks(t, golden3)
}

func goldenOfForks(t *testing.T, golden string) {
	t.Helper()
	sc := newScript()
	sc.ada.say(6)
	sc.eve, sc.bob = forkOf(sc.ada, "eve"), forkOf(sc.ada, "bob")
	sc.ada.say(3)
	sc.eve.say(5)
	sc.eve.say(2)
	sc.pinned["bob"] = true
	goldenIsRead(t, golden, sc, "map[ada:2 bob:1 eve:3] 5", sc.bob)
	in := goldenExport(t, golden, "eve")
	if len(in.Manifest.Tokens) != 13 || len(in.Stored.Keys) != 3 || len(in.Stored.Tail) != 1 {
		t.Errorf("imported %+v", in.Stored)
	}
}

// goldenIsRead opens a copy with and without its catalogue: it holds the turns of
// a script and so many blocks, and next takes its next turn.
func goldenIsRead(t *testing.T, golden string, sc *script, want string, next *actor) {
	t.Helper()
	turns := len(next.turns)
	for _, catalogue := range []bool{true, false} {
		fsys := vfs.NewCrashable()
		copyFiles(t, vfs.Real(), filepath.Join(golden, "data"), fsys, "/data")
		if !catalogue {
			must(t, fsys.Remove(cataloguePath))
		}
		if got := findings(t, fsys, false); got != "" {
			t.Errorf("found:\n%s", got)
		}
		s, err := Open(goldenOptions(t, golden, fsys))
		must(t, err)
		found, err := sc.holds(s)
		must(t, err)
		if got := fmt.Sprint(found, " ", s.Stats().Blocks); got != want {
			t.Errorf("found %s, want %s", got, want)
		}
		must(t, publish(s, next.say(5)))
		must(t, s.Close())
		must(t, fsys.Remove(cataloguePath))
		s, err = Open(goldenOptions(t, golden, fsys))
		must(t, err)
		if turn, err := standsAt(s, next); err != nil || turn != turns+1 {
			t.Errorf("%s is at turn %d after the next: %v", next.id, turn, err)
		}
		must(t, s.Close())
		next.turns = next.turns[:turns]
		next.all = next.turns[turns-1].Tokens
	}
}

func goldenExport(t *testing.T, golden, id string) *Imported {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(golden, id+".export"))
	must(t, err)
	in, err := imported(data)
	must(t, err)
	return in
}

// The same history gives the same bytes as when version 2 was fixed, and 3.
func TestGoldenFilesAreWritten(t *testing.T) {
	for _, golden := range []string{golden2, golden3} {
		fsys, export := goldenFolder(t, golden)
		must(t, filepath.Walk(filepath.Join(golden, "data"), func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			rel, err := filepath.Rel(golden, path)
			must(t, err)
			want, err := os.ReadFile(path)
			must(t, err)
			if got, err := vfs.ReadFile(fsys, "/"+rel); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s of %s differs: %v", rel, golden, err)
			}
			return nil
		}))
		if want, err := os.ReadFile(filepath.Join(golden, "eve.export")); err != nil || !bytes.Equal(export, want) {
			t.Errorf("export of %s differs: %v", golden, err)
		}
	}
}
