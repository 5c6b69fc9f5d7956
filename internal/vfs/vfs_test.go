package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// everywhere runs a story on the real file system and on the one in memory.
func everywhere(t *testing.T, story func(t *testing.T, fsys FS, dir string)) {
	t.Run("real", func(t *testing.T) { story(t, Real(), t.TempDir()) })
	t.Run("crashable", func(t *testing.T) {
		c := NewCrashable()
		must(t, c.MkdirAll("/d", 0o700))
		story(t, c, "/d")
		if n := c.Handles(); n != 0 {
			t.Errorf("%d handles left open", n)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists every file below dir as "path=content", folders as "path/".
func tree(t *testing.T, fsys FS, dir string) string {
	t.Helper()
	var out []string
	var walk func(string)
	walk = func(sub string) {
		infos, err := fsys.ReadDir(filepath.Join(dir, sub))
		must(t, err)
		for _, info := range infos {
			path := filepath.Join(sub, info.Name)
			if info.Dir {
				out = append(out, path+"/")
				walk(path)
				continue
			}
			data, err := ReadFile(fsys, filepath.Join(dir, path))
			must(t, err)
			if int64(len(data)) != info.Size {
				t.Errorf("%s: listed with %d bytes, has %d", path, info.Size, len(data))
			}
			out = append(out, path+"="+string(data))
		}
	}
	walk("")
	return strings.Join(out, " ")
}

func TestFilesAndFolders(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		in := func(name string) string { return filepath.Join(dir, name) }
		must(t, MkdirDurable(fsys, in("a/b")))
		must(t, WriteFile(fsys, in("a/one"), []byte("1")))
		must(t, WriteFileKeeping(fsys, in("a/one"), in("a/kept"), []byte("2")))
		must(t, WriteFileKeeping(fsys, in("a/one"), in("a/kept"), []byte("3")))
		must(t, fsys.Rename(in("a/b"), in("a/c")))
		must(t, fsys.Link(in("a/one"), in("a/c/same")))
		if got, want := tree(t, fsys, dir), "a/ a/c/ a/c/same=3 a/kept=2 a/one=3"; got != want {
			t.Errorf("tree %q, want %q", got, want)
		}
		if err := fsys.Remove(in("a/c")); err == nil {
			t.Error("a folder with a file in it was removed")
		}
		if err := MkdirDurable(fsys, in("a/one")); err == nil {
			t.Error("a file was taken for a folder")
		}
		if _, err := fsys.Stat(in("none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat of nothing: %v", err)
		}
		if free, err := fsys.Free(dir); err != nil || free == 0 {
			t.Errorf("free: %d, %v", free, err)
		}
		must(t, RemoveTree(fsys, in("a")))
		must(t, RemoveTree(fsys, in("a")))
		if got := tree(t, fsys, dir); got != "" {
			t.Errorf("left: %q", got)
		}
	})
}

func TestFileReadsWritesTruncates(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		f, err := fsys.OpenFile(filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		must(t, err)
		_, err = f.WriteAt([]byte("abc"), 2)
		must(t, err)
		must(t, f.Truncate(4))
		size, err := f.Size()
		must(t, err)
		b := make([]byte, 6)
		n, err := f.ReadAt(b, 0)
		if got, want := fmt.Sprintf("%d %q %v", size, b[:n], err), `4 "\x00\x00ab" EOF`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		must(t, f.Sync())
		must(t, f.Close())
		if _, err := f.WriteAt(b, 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("write to a closed file: %v", err)
		}
		_, err = fsys.OpenFile(filepath.Join(dir, "f"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("made twice: %v", err)
		}
		r, err := fsys.OpenFile(filepath.Join(dir, "f"), os.O_RDONLY, 0)
		must(t, err)
		if _, err := r.WriteAt(b, 0); err == nil {
			t.Error("wrote to a file opened for reading")
		}
		must(t, r.Close())
	})
}

func TestLockHasOneHolder(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "lock")
		lock, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
			t.Errorf("second holder: %v", err)
		}
		must(t, lock.Close())
		lock, err = fsys.Lock(name)
		must(t, err)
		must(t, lock.Close())
	})
}

// A write that fails at any operation leaves the old file or the new one, whole,
// and nothing beside it.
func TestWriteFileFailingAnywhere(t *testing.T) {
	for at := int64(1); ; at++ {
		inner := NewCrashable()
		must(t, WriteFile(inner, "/f", []byte("old")))
		boom := errors.New("boom")
		fsys := NewFailing(inner, func(op Op) error {
			if op.N == at && op.Kind == OpWrite {
				return &TornWrite{Bytes: 1, Err: boom}
			}
			if op.N == at {
				return boom
			}
			return nil
		})
		err := WriteFileKeeping(fsys, "/f", "/kept", []byte("new"))
		got := tree(t, inner, "/")
		if at > fsys.Ops() {
			must(t, err)
			if got != "f=new kept=old" || at < 9 {
				t.Errorf("after %d operations: %q", at-1, got)
			}
			return
		}
		switch got {
		case "f=old", "f=old kept=old", "f=new kept=old":
		default:
			t.Errorf("failing at %d (%v): %q", at, err, got)
		}
		if err == nil && got != "f=new kept=old" {
			t.Errorf("failing at %d went unsaid: %q", at, got)
		}
		if inner.Handles() != 0 {
			t.Errorf("failing at %d leaks a handle", at)
		}
	}
}

// Power lost at any operation, with any luck for what was not synced: the old
// file or the new one is there, and the new one if the write had returned.
func TestWriteFileCrashingAnywhere(t *testing.T) {
	dead := errors.New("power is off")
	for seed := range uint64(50) {
		for at := int64(1); at < 14; at++ {
			inner := NewCrashable()
			must(t, WriteFile(inner, "/f", []byte("old")))
			fsys := NewFailing(inner, func(op Op) error {
				if op.N >= at {
					return dead
				}
				return nil
			})
			err := WriteFileKeeping(fsys, "/f", "/kept", []byte("new"))
			after := inner.Crash(rand.New(rand.NewPCG(seed, uint64(at))))
			data, readErr := ReadFile(after, "/f")
			must(t, readErr)
			if s := string(data); s != "new" && (s != "old" || err == nil) {
				t.Errorf("seed %d, crash at %d, write said %v: %q", seed, at, err, s)
			}
		}
	}
}

func TestCrashLosesOnlyWhatWasNotSynced(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(300) {
		c := NewCrashable()
		f, err := c.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		_, err = f.WriteAt([]byte("AA"), 0)
		must(t, err)
		must(t, f.Sync())
		must(t, c.SyncDir("/"))
		_, err = f.WriteAt([]byte("bb"), 2)
		must(t, err)
		must(t, c.Rename("/f", "/g"))
		after := c.Crash(rand.New(rand.NewPCG(seed, 0)))
		outcomes[tree(t, after, "/")]++
		if _, err := c.Stat("/"); !errors.Is(err, ErrCrashed) {
			t.Fatalf("alive after the crash: %v", err)
		}
		must(t, f.Close())
	}
	for _, name := range []string{"f", "g"} {
		for _, data := range []string{"AA", "AAb", "AAbb", "AA\x00\x00"} {
			if outcomes[name+"="+data] == 0 {
				t.Errorf("%s=%q never happened", name, data)
			}
			delete(outcomes, name+"="+data)
		}
	}
	if len(outcomes) > 0 {
		t.Errorf("impossible: %v", outcomes)
	}
}

func TestFailingNumbersOperations(t *testing.T) {
	var ops []string
	fsys := NewKilling(NewCrashable(), func(op Op) {
		ops = append(ops, fmt.Sprintf("%d/%d %s %s %d", op.N, op.Change, op.Kind, op.Name, op.Bytes))
	})
	must(t, WriteFile(fsys, "/f", []byte("abc")))
	_, err := ReadFile(fsys, "/f")
	must(t, err)
	want := []string{
		"1/1 create /f.new 0", "2/2 write /f.new 3", "3/3 sync /f.new 0", "4/0 close /f.new 0",
		"5/4 rename /f 0", "6/5 syncdir / 0", "7/0 open /f 0", "8/0 size /f 0", "9/0 read /f 3", "10/0 close /f 0",
	}
	if got := strings.Join(ops, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("operations:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	if fsys.Ops() != 10 || fsys.Changes() != 5 {
		t.Errorf("counted %d and %d", fsys.Ops(), fsys.Changes())
	}
}

// A killed process loses its files and locks; the machine loses nothing.
func TestKill(t *testing.T) {
	c := NewCrashable()
	lock, err := c.Lock("/lock")
	must(t, err)
	f, err := c.OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.WriteAt([]byte("abc"), 0)
	must(t, err)
	c.Kill()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, ErrCrashed) {
		t.Errorf("write of a dead process: %v", err)
	}
	again, err := c.Lock("/lock")
	must(t, err)
	must(t, errors.Join(lock.Close(), f.Close()))
	if _, err := c.Lock("/lock"); !errors.Is(err, ErrLocked) {
		t.Errorf("the dead process gave away the lock of the living: %v", err)
	}
	must(t, again.Close())
	if got := fmt.Sprint(tree(t, c, "/"), c.Handles()); got != "f=abc lock=0" {
		t.Errorf("left: %s", got)
	}
}
