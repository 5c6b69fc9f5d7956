package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"mneme/internal/store/format"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func turn(n int) format.Manifest {
	m := format.Manifest{Namespace: "team", ID: "ada"}
	for i := range n {
		m.Tokens = append(m.Tokens, token.ID(i))
		m.Turns = append(m.Turns, format.Turn{Turn: i + 1, Tokens: i + 1})
	}
	return m
}

// a snapshot at turn 1, turn records 2 and 3, written anew at turn 4, turn 5; read
// whole, cut, damaged, and with what is kept back
func TestJournalIsReadAsFarAsItCanBe(t *testing.T) {
	fsys := vfs.NewCrashable()
	must(t, vfs.MkdirDurable(fsys, "/a"))
	if _, err := Read(fsys, "/a", 0, nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	before := turn(1)
	data, mark, _ := format.NewJournal(&before, nil, nil, format.Cipher{})
	must(t, Write(fsys, "/a", data, false))
	grow := func(n int) {
		m := turn(n)
		record, next, ok := mark.AppendTurn(&before, &m, format.Cipher{})
		if !ok {
			t.Fatal("turn cannot be appended")
		}
		must(t, Append(fsys, "/a", mark.End, record))
		before, mark = m, next
	}
	grow(2)
	grow(3)
	at3 := mark.End
	before = turn(4)
	data, mark, _ = format.NewJournal(&before, nil, nil, format.Cipher{})
	must(t, Write(fsys, "/a", data, true))
	grow(5)
	must(t, Sync(fsys, "/a"))

	whole, err := vfs.ReadFile(fsys, "/a/"+Name)
	must(t, err)
	for _, c := range []struct {
		name  string
		bytes []byte
		limit int64
		want  string // turns, kept back, torn, says something
	}{
		{"whole", whole, 0, "5 false true false"},
		{"up to its snapshot", whole, mark.SnapshotBytes, "4 false true false"},
		{"torn", whole[:len(whole)-1], 0, "4 false true true"},
		{"damaged snapshot", flipped(whole, 60), 0, "3 true false true"},
		{"damaged head", flipped(whole, 20), 0, "3 true false true"},
	} {
		must(t, vfs.WriteFile(fsys, "/a/"+Name, c.bytes))
		f, err := Read(fsys, "/a", c.limit, nil, nil)
		if got := fmt.Sprint(len(f.Manifest.Turns), f.Kept, f.Torn, f.Lost != ""); err != nil || got != c.want {
			t.Errorf("%s: %s, want %s, %v", c.name, got, c.want, err)
		}
	}
	must(t, fsys.Remove("/a/"+Name))
	f, err := Read(fsys, "/a", 0, nil, nil)
	if err != nil || !f.Kept || !f.Torn || f.End != at3 {
		t.Errorf("only the one kept back: %+v %v", f, err)
	}
	kept, err := vfs.ReadFile(fsys, "/a/"+Kept)
	must(t, err)
	must(t, vfs.WriteFile(fsys, filepath.Join("/a", Name), flipped(whole, 60)))
	must(t, vfs.WriteFile(fsys, filepath.Join("/a", Kept), flipped(kept, 60)))
	f, err = Read(fsys, "/a", 0, nil, nil)
	var damaged *format.DamagedError
	if !errors.As(err, &damaged) || f.ID != "ada" {
		t.Errorf("both damaged: %+v %v", f, err)
	}
}

func flipped(b []byte, at int) []byte {
	b = append([]byte(nil), b...)
	b[at] ^= 4
	return b
}
