package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"mneme/internal/store/journal"
	"mneme/internal/vfs"
)

// findings is what Verify tells, one a line.
func findings(t *testing.T, fsys vfs.FS, repair bool) string {
	t.Helper()
	var lines []string
	must(t, Verify(fsys, "/data", repair, func(f Finding) {
		lines = append(lines, fmt.Sprint(f.Path[strings.LastIndex(f.Path, "/")+1:], ": ", f.Reason, " ", f.Repaired))
	}))
	return strings.Join(lines, "\n")
}

// readOnly fails every change.
func readOnly(inner vfs.FS) vfs.FS {
	return vfs.NewFailing(inner, func(op vfs.Op) error {
		if op.Kind.Changes() {
			return fmt.Errorf("%s: a check must not change anything", op)
		}
		return nil
	})
}

func TestVerifyOfAWholeFolder(t *testing.T) {
	fsys := vfs.NewCrashable()
	if got := findings(t, readOnly(fsys), false); got != "" {
		t.Errorf("nothing at all:\n%s", got)
	}
	s := open(t, fsys)
	newScript().run(s)
	if err := Verify(fsys, "/data", false, nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("while it is in use: %v", err)
	}
	must(t, s.Close())
	for _, repair := range []bool{false, true} {
		if got := findings(t, fsys, repair); got != "" {
			t.Errorf("repair %v:\n%s", repair, got)
		}
	}
	findings(t, readOnly(fsys), false)
}

// Damage in each kind of file is told, and repaired where something can be: then
// a store finds no fault, and only what was damaged is gone.
func TestVerifyRepairs(t *testing.T) {
	agent := journalPath("default", "ada", journal.Name)
	index := "/data/kv/" + fingerprint + "/000009.idx"
	for _, c := range []struct {
		name, path string
		edit       func([]byte) []byte
		want       string // in what is found
		turn       int    // of ada afterwards
	}{
		{"damaged frame", firstSegment, flip(64 + 150), "000001.seg: 1 stretches hold no whole frame true", 3},
		{"torn segment", firstSegment, func(b []byte) []byte { return append(b, 1, 2, 3) }, "000001.seg: torn: 3 bytes after the last whole frame true", 3},
		{"segment head", firstSegment, flip(20), "(its frames count all the same) true", 3},
		{"index", firstIndex, flip(80), "000001.seg: index: ", 3},
		{"stray index", index, nil, "000009.idx: left over by a crash true", 3},
		{"torn journal", agent, func(b []byte) []byte { return b[:len(b)-1] }, "agent \"ada\" stands at turn 2", 2},
		{"damaged snapshot", agent, flip(60), "its snapshot cannot be read false", 0},
	} {
		fsys, ada, _ := threeTurns(t)
		if c.edit == nil {
			must(t, vfs.WriteFile(fsys, c.path, []byte("x")))
		} else {
			change(t, fsys, c.path, c.edit)
		}
		if got := findings(t, readOnly(fsys), false); !strings.Contains(got, strings.TrimSuffix(c.want, " true")) {
			t.Errorf("%s: found\n%s", c.name, got)
		}
		if got := findings(t, fsys, true); !strings.Contains(got, c.want) {
			t.Errorf("%s: repaired\n%s", c.name, got)
		}
		if got := findings(t, fsys, false); strings.Contains(got, strings.TrimSuffix(c.want, " true")) && c.turn > 0 {
			t.Errorf("%s: still found\n%s", c.name, got)
		}
		s := open(t, fsys)
		m, err := s.Load("default", "ada")
		if err == nil && len(m.Turns) != c.turn || (err != nil) != (c.turn == 0) {
			t.Errorf("%s: %d turns, %v", c.name, len(m.Turns), err)
		}
		if c.turn > 0 {
			must(t, publish(s, ada.say(3)))
			must(t, s.Check())
		}
		must(t, s.Close())
	}
}

// Members of a family that cannot be read are named; what one of its files has lost
// is put back from the other; what a fork names and is not there is told.
func TestVerifyOfFamilies(t *testing.T) {
	whole, _ := familyOfThree(t)
	paths := familyFiles(t, whole)
	for _, c := range []struct {
		name  string
		edit  func(fsys vfs.FS)
		want  string
		stays bool
	}{
		{"one", func(fsys vfs.FS) { change(t, fsys, paths[0], flip(70)) }, "3 members are known true", false},
		{"stray", func(fsys vfs.FS) { must(t, vfs.WriteFile(fsys, paths[0]+".new", nil)) }, "left over by a crash true", false},
		{"both", func(fsys vfs.FS) {
			change(t, fsys, paths[0], flip(70))
			change(t, fsys, paths[1], flip(70))
		}, "agent \"fork-1\" is a member false", true},
		{"blocks", func(fsys vfs.FS) { change(t, fsys, firstSegment, flip(64+150)) }, "agent \"fork-1\": 1 of its blocks are missing; they are computed anew false", true},
	} {
		fsys := vfs.NewCrashable()
		copyFiles(t, whole, "/data", fsys, "/data")
		c.edit(fsys)
		findings(t, readOnly(fsys), false)
		if got := findings(t, fsys, true); !strings.Contains(got, c.want) {
			t.Errorf("%s: found\n%s", c.name, got)
		}
		if got := findings(t, fsys, false); (got != "") != c.stays {
			t.Errorf("%s: then found\n%s", c.name, got)
		}
	}
}

// What a start does by itself is only told.
func TestVerifyLeavesToTheStart(t *testing.T) {
	fsys, _, _ := threeTurns(t)
	dir := journalPath("default", "ada", "")
	must(t, fsys.Rename(dir, dir+journal.GoneSuffix))
	must(t, fsys.MkdirAll("/data/agents/empty", 0o700))
	got := findings(t, fsys, true)
	if !strings.Contains(got, "a delete that was cut short; the next start finishes it false") || !strings.Contains(got, "empty: left over by a first turn that was cut short false") {
		t.Errorf("found\n%s", got)
	}
}

// A check that cannot go on says why.
func TestVerifyFails(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpLock, vfs.OpRemove, vfs.OpSync, vfs.OpSyncDir} {
		inner, _, _ := threeTurns(t)
		change(t, inner, firstSegment, flip(64+150))
		fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
			if op.Kind == kind {
				return errDead
			}
			return nil
		})
		if err := Verify(fsys, "/data", true, func(Finding) {}); !errors.Is(err, errDead) {
			t.Errorf("%s fails: %v", kind, err)
		}
		if inner.Handles() != 0 {
			t.Errorf("%d handles left", inner.Handles())
		}
	}
}
