package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"mneme/internal/token"
	"mneme/internal/vfs"
)

// folderHolds tells which files under dir hold any of the pieces. It looks again
// when a file goes while it looks: collecting moves what is there.
func folderHolds(t *testing.T, fsys vfs.FS, dir string, pieces ...[]byte) []string {
	t.Helper()
	for {
		found, err := holding(fsys, dir, pieces)
		if !errors.Is(err, fs.ErrNotExist) {
			must(t, err)
			return found
		}
	}
}

func holding(fsys vfs.FS, dir string, pieces [][]byte) (found []string, err error) {
	infos, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		path := filepath.Join(dir, info.Name)
		if info.Dir {
			more, err := holding(fsys, path, pieces)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
			continue
		}
		data, err := vfs.ReadFile(fsys, path)
		if err != nil {
			return nil, err
		}
		for _, piece := range pieces {
			if bytes.Contains(data, piece) {
				found = append(found, path)
				break
			}
		}
	}
	return found, nil
}

// traces are bytes that only these turns' blocks, tails and tokens put on disk.
func traces(turns ...Manifest) (pieces [][]byte) {
	for _, m := range turns {
		for _, b := range append(blocks(m, nil), tailBlocks(m)...) {
			pieces = append(pieces, payload(b.Parent, b.Tokens)[8:40], words(b.Tokens))
		}
		var varints []byte
		for _, id := range m.Tokens[max(0, len(m.Tokens)-3):] {
			varints = binary.AppendUvarint(varints, uint64(id))
		}
		pieces = append(pieces, varints)
	}
	return pieces
}

func tailBlocks(m Manifest) (out []Block) {
	for _, t := range tail(m) {
		out = append(out, Block{Parent: lastKey(m), Tokens: t.Tokens})
	}
	return out
}

func words(ids []token.ID) (b []byte) {
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return b
}

// An agent with earlier tails, a turn rolled back, and blocks of a turn that was
// never finished is deleted beside a fork: nothing of it stays in any file, the
// fork has all it had.
func TestDeleteLeavesNoByte(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	shared, err := s.Load("default", "ada")
	must(t, err)
	fork := shared
	fork.ID, fork.Parent = "fork", "ada"
	must(t, s.Publish(t.Context(), fork, nil))
	must(t, publish(s, ada.say(5)))
	must(t, publish(s, ada.say(7)))
	other := newActor("bob") // ada goes on from her first turn as bob would speak
	other.all, other.turns = ada.turns[0].Tokens, ada.turns[:1:1]
	branch := other.say(8)
	branch.ID = "ada"
	must(t, publish(s, branch))
	unfinished := newActor("cleo").say(9)
	for _, b := range blocks(unfinished, func() {}) {
		s.Append(b)
	}
	must(t, publish(s, newActor("dan").say(6)))
	gone := append(traces(ada.turns[1:]...), traces(branch, unfinished)...)
	gone = drop(gone, traces(ada.turns[0])) // the fork's
	if n := len(folderHolds(t, fsys, "/data", gone...)); n < 4 {
		t.Fatalf("only %d files hold traces before", n)
	}
	must(t, s.Delete("default", "ada"))
	if found := folderHolds(t, fsys, "/data", gone...); len(found) > 0 {
		t.Errorf("after delete %v hold traces", found)
	}
	must(t, readAll(s, shared))
	must(t, s.Check())
	if got := fmt.Sprint(len(s.List()), s.Stats().Deleted, s.Stats().ErasedBytes > 1000); got != "2 1 true" {
		t.Errorf("agents, deleted, erased = %s", got)
	}
	must(t, s.Delete("default", "fork"))
	if found := folderHolds(t, fsys, "/data", traces(ada.turns[0])...); len(found) > 0 {
		t.Errorf("after the fork's delete %v hold traces", found)
	}
	must(t, s.Check())
	must(t, s.Close())
}

func drop(pieces, other [][]byte) (left [][]byte) {
	for _, p := range pieces {
		keep := true
		for _, q := range other {
			keep = keep && !bytes.Equal(p, q)
		}
		if keep {
			left = append(left, p)
		}
	}
	return left
}

// A delete that dies anywhere is finished by the next start: then nothing of the
// agent is left, and never was anything of the other touched.
func TestDeleteCutShortIsFinished(t *testing.T) {
	for at := int64(1); ; at++ {
		inner := vfs.NewCrashable()
		s := open(t, inner)
		ada, bob := newActor("ada"), newActor("bob")
		for range 3 {
			must(t, publish(s, ada.say(5)))
			must(t, publish(s, bob.say(5)))
		}
		must(t, s.Close())
		var n atomic.Int64
		var armed atomic.Bool
		fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
			if armed.Load() && n.Add(1) >= at {
				return errDead
			}
			return nil
		})
		s = open(t, fsys)
		must(t, s.Collect(t.Context()))
		armed.Store(true)
		err := s.Delete("default", "ada")
		done := err == nil && n.Load() < at
		_ = s.Close()
		s = open(t, inner.Crash(rng(3, at)))
		must(t, s.Flush(t.Context()))
		turn, err := standsAt(s, ada)
		must(t, err)
		if turn != 0 && (turn != 3 || done) {
			t.Errorf("died at operation %d: ada is at turn %d", at, turn)
		}
		if turn == 0 {
			if found := folderHolds(t, s.o.FS, "/data", traces(ada.turns...)...); len(found) > 0 {
				t.Errorf("died at operation %d: %v hold traces", at, found)
			}
		}
		if turn, err = standsAt(s, bob); err != nil || turn != 3 {
			t.Errorf("died at operation %d: bob is at turn %d: %v", at, turn, err)
		}
		must(t, s.Check())
		must(t, s.Close())
		if done {
			t.Logf("%d operations", at)
			return
		}
	}
}

// A delete that fails goes on when it is asked for again.
func TestDeleteGoesOn(t *testing.T) {
	var bad atomic.Bool
	inner := vfs.NewCrashable()
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if bad.Load() && op.Kind == vfs.OpWrite {
			return syscall.EIO
		}
		return nil
	})
	s := open(t, fsys)
	ada, bob := newActor("ada"), newActor("bob")
	must(t, publish(s, ada.say(6)))
	must(t, publish(s, bob.say(6)))
	bad.Store(true)
	if err := s.Delete("default", "ada"); !errors.Is(err, syscall.EIO) {
		t.Errorf("delete: %v", err)
	}
	bad.Store(false)
	must(t, publish(s, ada.say(3))) // begun anew meanwhile
	must(t, s.Delete("default", "ada"))
	if found := folderHolds(t, inner, "/data", traces(ada.turns...)...); len(found) > 0 {
		t.Errorf("%v hold traces", found)
	}
	if err := s.Delete("default", "ada"); !errors.Is(err, ErrNoAgent) {
		t.Errorf("once more: %v", err)
	}
	if turn, err := standsAt(s, bob); err != nil || turn != 1 {
		t.Errorf("bob is at turn %d: %v", turn, err)
	}
	must(t, s.Close())
}

// Blocks that an agent left under another KV fingerprint go with it as well.
func TestDeleteReachesOtherFingerprints(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada, bob := newActor("ada"), newActor("bob")
	must(t, publish(s, ada.say(6)))
	must(t, publish(s, bob.say(6)))
	must(t, s.Close())
	o := options(fsys)
	o.KVFingerprint = "0f0f"
	s, err := Open(o)
	must(t, err)
	must(t, s.Delete("default", "ada"))
	if found := folderHolds(t, fsys, "/data", traces(ada.turns...)...); len(found) > 0 {
		t.Errorf("%v hold traces", found)
	}
	must(t, s.Close())
	s = open(t, fsys)
	if turn, err := standsAt(s, bob); err != nil || turn != 1 {
		t.Errorf("bob is at turn %d: %v", turn, err)
	}
	must(t, s.Close())
}

// Files and folders are their owner's alone.
func TestPermissions(t *testing.T) {
	o := options(vfs.Real())
	o.Dir = filepath.Join(t.TempDir(), "data")
	s, err := Open(o)
	must(t, err)
	newScript().run(s)
	must(t, s.Close())
	must(t, filepath.Walk(o.Dir, func(path string, info os.FileInfo, err error) error {
		want := os.FileMode(0o600)
		if err == nil && info.IsDir() {
			want = 0o700
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}
