package frames

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/store/segments"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shelf has segments of four frames of 192 bytes.
func shelf(t *testing.T) (*Shelf, *Writer) {
	t.Helper()
	fsys := vfs.NewCrashable()
	must(t, vfs.MkdirDurable(fsys, "/data/kv/a1"))
	s, err := Open(Options{
		Folder:       segments.Folder{FS: fsys, Dir: "/data/kv/a1", Fingerprint: "a1"},
		SegmentBytes: 64 + 4*192, Clock: func() time.Time { return time.Unix(1000, 0) }, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	return s, NewWriter(s)
}

func frame(kind format.Kind, name byte) format.Frame {
	return format.Frame{Kind: kind, Key: kv.Key{name}, Tokens: []token.ID{token.ID(name)}, PayloadBytes: 10}
}

func write(t *testing.T, w *Writer, frames ...format.Frame) {
	t.Helper()
	for _, f := range frames {
		_, err := w.Append("team", f, func(dst []byte) { copy(dst, bytes.Repeat(f.Key[:1], 10)) })
		must(t, err)
	}
}

func names(letters string) func(func(format.BlockID) bool) {
	var ids []format.BlockID
	for _, b := range []byte(letters) {
		ids = append(ids, format.BlockID{Key: kv.Key{b}})
	}
	return slices.Values(ids)
}

func (s *Shelf) has(letters string) (found string) {
	for id := range names(letters) {
		if s.Has(id) {
			found += string(id.Key[0])
		}
	}
	return found
}

// blocks a, b and tails x, y, z: z without a name is dead, then x and at last y when
// they are let go of, the blocks are cached. A pass moves the rest out of the first segment, of which
// then nothing is left.
func TestNamesAndCollecting(t *testing.T) {
	s, w := shelf(t)
	write(t, w, frame(format.Block, 'a'), frame(format.Tail, 'x'), frame(format.Tail, 'y'), frame(format.Tail, 'z'), frame(format.Block, 'b'))
	s.Name(names("xya"))
	s.DropUnnamedTails()
	if got := s.has("abxyz"); got != "abxy" {
		t.Errorf("found %s", got)
	}
	s.Name(names("y"))
	s.Unname(names("xya"))
	if got := fmt.Sprintln(s.has("abxyz"), s.Stats().NamedBytes, s.Stats().LiveBytes, s.Stats().Blocks); got != "aby 192 576 2\n" {
		t.Errorf("found, named, live, blocks = %s", got)
	}
	s.Unname(names("y"))
	must(t, w.Sync())
	before, _ := s.find(format.BlockID{Key: kv.Key{'a'}})
	w.Want()
	for w.More() {
		must(t, w.Step())
	}
	after, _ := s.find(format.BlockID{Key: kv.Key{'a'}})
	if before.seg == after.seg || s.Stats().SegmentBytes != 64+2*192 || s.Stats().Collected != 1 {
		t.Errorf("a is in %s, was in %s; stats %+v", after, before, s.Stats())
	}
	dst := make([]byte, 10)
	want := format.Wanted{Kind: format.Block, Key: kv.Key{'a'}, Tokens: []token.ID{'a'}}
	must(t, s.readStored(format.BlockID{Key: kv.Key{'a'}}, before, want, dst)) // by one who found it before
	if string(dst) != "aaaaaaaaaa" || len(s.Check()) != 0 {
		t.Errorf("read %q, check %v", dst, s.Check())
	}
	w.Close()
	must(t, s.Close())
}

// What cannot be found is erased with an agent, and what goes on from what it had.
func TestEraseForgetsWhatGoesOn(t *testing.T) {
	s, w := shelf(t)
	child := frame(format.Block, 'c')
	child.Parent = kv.Key{'b'}
	write(t, w, frame(format.Block, 'a'), frame(format.Block, 'b'), child)
	s.Name(names("a"))
	must(t, w.Erase(false, &format.Card{Namespace: "team", Keys: []kv.Key{{'a'}, {'b'}}}))
	if got := fmt.Sprintln(s.has("abc"), s.Stats().ErasedBytes); got != "a 384\n" {
		t.Errorf("found, erased = %s", got)
	}
	if _, err := s.Raw(format.BlockID{Key: kv.Key{'c'}}); !errors.Is(err, ErrMissing) {
		t.Errorf("raw: %v", err)
	}
	must(t, w.Erase(true, &format.Card{}))
	if got := fmt.Sprintln(s.has("abc"), s.Stats().ErasedBytes); got != "a 384\n" {
		t.Errorf("found, erased = %s", got)
	}
	w.Close()
	must(t, s.Close())
}

// Only the latest damages are remembered.
func TestDamagedIsBounded(t *testing.T) {
	s, w := shelf(t)
	for i := range maxDamages + 5 {
		s.Note(Damage{Group: i})
	}
	if d := s.Damaged(); len(d) != maxDamages || d[0].Group != 5 {
		t.Errorf("%d damages from %d on", len(d), d[0].Group)
	}
	w.Close()
	must(t, s.Close())
}

// A disk that fails for a moment costs nothing: the read is tried again, and what
// was not read, not shown to be damaged, stays. What can never be read is damaged.
func TestReadErrorsAreNoDamage(t *testing.T) {
	failing := 0
	inner := vfs.NewCrashable()
	must(t, vfs.MkdirDurable(inner, "/data/kv/a1"))
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && failing > 0 {
			failing--
			return syscall.EIO
		}
		return nil
	})
	s, err := Open(Options{
		Folder: segments.Folder{FS: fsys, Dir: "/data/kv/a1", Fingerprint: "a1"}, SegmentBytes: 1 << 10,
		Clock: func() time.Time { return time.Unix(1000, 0) }, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	w := NewWriter(s)
	write(t, w, frame(format.Block, 'a'))
	want := format.Wanted{Kind: format.Block, Key: kv.Key{'a'}, Tokens: []token.ID{'a'}}
	id := format.BlockID{Key: want.Key}
	raw := func() error { _, err := s.Raw(id); return err }
	read := func() error { return s.Read(want, make([]byte, 10)) }
	for i, c := range []struct {
		read     func() error
		failures int
		want     string
	}{
		{read, 1, "<nil> true 0"},
		{raw, 1, "<nil> true 0"},
		{read, 2, "input/output error true 0"},
		{raw, 2, "input/output error true 0"},
		{read, 0, "<nil> true 0"},
		{read, 2, "input/output error false 1"}, // the third time
	} {
		failing = c.failures
		err := c.read()
		if err != nil && strings.HasSuffix(err.Error(), syscall.EIO.Error()) {
			err = syscall.EIO
		}
		if got := fmt.Sprint(err, " ", s.Has(id), " ", s.Stats().Quarantined); got != c.want {
			t.Errorf("%d: %d failures: %s, want %s", i, c.failures, got, c.want)
		}
	}
	w.Close()
	must(t, s.Close())
}
