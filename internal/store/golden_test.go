package store

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"mneme/internal/vfs"
)

var update = flag.Bool("update", false, "write testdata/v1 anew; only while version 1 is not released")

const golden = "testdata/v1"

// goldenFolder is the history of the golden files: two turns of ada, a fork, and
// a block nobody names; everything of it but the lock is compared.
func goldenFolder(t *testing.T) (*vfs.Crashable, []byte) {
	t.Helper()
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	sc := newScript()
	sc.turn(s, sc.ada, 6)
	sc.fork(s)
	sc.turn(s, sc.ada, 3)
	s.Append(blocks(newActor("cleo").say(4), func() {})[0])
	must(t, s.Flush(t.Context()))
	m, err := s.Load("default", "ada")
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
// snapshot and a turn, catalogue, export.
func TestGoldenFilesAreRead(t *testing.T) {
	fsys, export := goldenFolder(t)
	if *update {
		must(t, os.RemoveAll(golden))
		copyFiles(t, fsys, "/data", vfs.Real(), filepath.Join(golden, "data"))
		must(t, os.WriteFile(filepath.Join(golden, "ada.export"), export, 0o600))
	}
	sc := newScript()
	sc.ada.say(6)
	sc.eve = forkOf(sc.ada, "eve")
	sc.ada.say(3)
	for _, catalogue := range []bool{true, false} {
		fsys := vfs.NewCrashable()
		copyFiles(t, vfs.Real(), filepath.Join(golden, "data"), fsys, "/data")
		if !catalogue {
			must(t, fsys.Remove(cataloguePath))
		}
		if got := findings(t, fsys, false); got != "" {
			t.Errorf("found:\n%s", got)
		}
		s := open(t, fsys)
		found, err := sc.holds(s)
		must(t, err)
		if found["ada"] != 2 || found["eve"] != 1 || s.Stats().Blocks != 3 {
			t.Errorf("found %v, %d blocks", found, s.Stats().Blocks)
		}
		must(t, publish(s, sc.eve.say(5)))
		sc.eve.turns, sc.eve.all = sc.eve.turns[:1], sc.eve.turns[0].Tokens
		must(t, s.Close())
	}
	data, err := os.ReadFile(filepath.Join(golden, "ada.export"))
	must(t, err)
	in, err := imported(data)
	must(t, err)
	if len(in.Manifest.Tokens) != 9 || len(in.Stored.Keys) != 2 || len(in.Stored.Tail) != 1 {
		t.Errorf("imported %+v", in.Stored)
	}
}

// The same history gives the same bytes as when version 1 was fixed.
func TestGoldenFilesAreWritten(t *testing.T) {
	fsys, export := goldenFolder(t)
	must(t, filepath.Walk(filepath.Join(golden, "data"), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		rel, err := filepath.Rel(golden, path)
		must(t, err)
		want, err := os.ReadFile(path)
		must(t, err)
		if got, err := vfs.ReadFile(fsys, "/"+rel); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs: %v", rel, err)
		}
		return nil
	}))
	if want, err := os.ReadFile(filepath.Join(golden, "ada.export")); err != nil || !bytes.Equal(export, want) {
		t.Errorf("export differs: %v", err)
	}
}
