package frames

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/store/keyring"
	"mneme/internal/store/segments"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// ringIn is the ring of a data folder at dir.
func ringIn(t testing.TB, fsys vfs.FS, dir string) *keyring.Ring {
	t.Helper()
	r, err := keyring.Open(fsys, dir+"/keys", bytes.Repeat([]byte{'m'}, 32))
	if err == nil {
		err = r.Load()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// openShelf opens the shelf of a data folder at dir; ring may be nil.
func openShelf(t testing.TB, fsys vfs.FS, dir string, ring *keyring.Ring) (*Shelf, *Writer) {
	t.Helper()
	folder := segments.Folder{FS: fsys, Dir: dir + "/kv/a1", Fingerprint: "a1"}
	err := vfs.MkdirDurable(fsys, folder.Dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{
		Folder: folder, Ring: ring, SegmentBytes: 64 << 20,
		Clock: func() time.Time { return time.Unix(1000, 0) }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, NewWriter(s)
}

func (s *Shelf) payloads(letters string) (found string) {
	dst := make([]byte, 10)
	for _, b := range []byte(letters) {
		want := format.Wanted{Kind: format.Block, Key: kv.Key{b}, Tokens: []token.ID{token.ID(b)}}
		if err := s.Read(want, dst); err != nil {
			found += "-"
		} else if string(dst) == strings.Repeat(string(b), 10) {
			found += string(b)
		}
	}
	return found
}

// Plain a, then encrypted b: both are read, moved as they are, and given out plain;
// after the next start as well. Without the namespace's key b is damaged.
func TestPlainAndEncrypted(t *testing.T) {
	fsys := vfs.NewCrashable()
	s, w := openShelf(t, fsys, "/data", nil)
	write(t, w, frame(format.Block, 'a'))
	w.Close()
	must(t, s.Close())

	ring := ringIn(t, fsys, "/data")
	s, w = openShelf(t, fsys, "/data", ring)
	write(t, w, frame(format.Block, 'b'), frame(format.Tail, 'x'), frame(format.Tail, 'y'), frame(format.Tail, 'z'))
	s.DropUnnamedTails()
	must(t, w.Sync())
	if got := s.payloads("ab"); got != "ab" || len(s.Check()) != 0 {
		t.Errorf("found %s", got)
	}
	raw, err := s.Raw(format.BlockID{Key: kv.Key{'b'}})
	must(t, err)
	if f, payload, err := format.Parse(raw); err != nil || f.Tokens[0] != 'b' || string(payload) != "bbbbbbbbbb" {
		t.Errorf("raw: %v %+v %q", err, f, payload)
	}
	w.Want()
	for w.More() {
		must(t, w.Step())
	}
	w.Close()
	must(t, s.Close())
	if s.Stats().Collected != 1 {
		t.Errorf("stats %+v", s.Stats())
	}

	s, w = openShelf(t, fsys, "/data", ring)
	if got := s.payloads("ab"); got != "ab" {
		t.Errorf("after a start: found %s", got)
	}
	must(t, ring.Erase("team"))
	if got := s.payloads("ab"); got != "a-" {
		t.Errorf("without the key: found %s", got)
	}
	if d := s.Damaged(); len(d) != 1 || d[0].Reason != "the key of its namespace is gone" || s.Stats().Quarantined != 1 {
		t.Errorf("damaged %+v", d)
	}
	write(t, w, frame(format.Block, 'b')) // under a new key
	if got := s.payloads("ab"); got != "ab" {
		t.Errorf("computed anew: found %s", got)
	}
	must(t, ring.Erase("team"))
	s.DropUnreadable()
	if got := s.has("ab"); got != "a" {
		t.Errorf("dropped: found %s", got)
	}
	write(t, w, frame(format.Block, 'c'))
	w.Close()
	must(t, s.Close())
	must(t, ring.Erase("team"))
	s, w = openShelf(t, fsys, "/data", ring)
	if got := s.has("abc"); got != "a" {
		t.Errorf("a start after its key was erased: found %s", got)
	}
	w.Close()
	must(t, s.Close())
}

// Two encrypted frames of one size change places on disk: neither is believed.
func TestEncryptedFramesInExchange(t *testing.T) {
	fsys := vfs.NewCrashable()
	ring := ringIn(t, fsys, "/data")
	s, w := openShelf(t, fsys, "/data", ring)
	write(t, w, frame(format.Block, 'a'), frame(format.Block, 'b'), frame(format.Block, 'c'))
	w.Close()
	must(t, s.Close())
	const path = "/data/kv/a1/000001.seg"
	data, err := vfs.ReadFile(fsys, path)
	must(t, err)
	size := int(frame(format.Block, 'a').Shape().Under(format.Encrypted).FrameBytes())
	a, b := bytes.Clone(data[64:][:size]), bytes.Clone(data[64+size:][:size])
	copy(data[64:], b)
	copy(data[64+size:], a)
	must(t, vfs.WriteFile(fsys, path, data))
	s, w = openShelf(t, fsys, "/data", ring)
	if got := s.payloads("abc"); got != "--c" || s.Stats().Quarantined != 2 {
		t.Errorf("found %s, stats %+v", got, s.Stats())
	}
	w.Close()
	must(t, s.Close())
}

// A key that cannot be made durable drops the frame; the next try makes it.
func TestKeyThatCannotBeWritten(t *testing.T) {
	broken := errors.New("broken")
	var fail error
	fsys := vfs.NewFailing(vfs.NewCrashable(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Name, "/keys/") {
			return fail
		}
		return nil
	})
	s, w := openShelf(t, fsys, "/data", ringIn(t, fsys, "/data"))
	fail = broken
	f := frame(format.Block, 'a')
	if _, err := w.Append("team", f, func([]byte) {}); !errors.Is(err, broken) || w.LastErr() == nil || s.Has(f.ID()) {
		t.Errorf("append: %v", err)
	}
	fail = nil
	write(t, w, f)
	if got := s.payloads("a"); got != "a" {
		t.Errorf("found %s", got)
	}
	w.Close()
	must(t, s.Close())
}

// Reading blocks as large as a small model's from the page cache, checked: what
// encryption costs a restore.
func BenchmarkRead(b *testing.B) {
	const payloadBytes, blocks = 414720, 100
	for _, cover := range []string{"plain", "encrypted"} {
		b.Run(cover, func(b *testing.B) {
			dir := b.TempDir()
			var ring *keyring.Ring
			if cover == "encrypted" {
				ring = ringIn(b, vfs.Real(), dir)
			}
			s, w := openShelf(b, vfs.Real(), dir, ring)
			wants := make([]format.Wanted, blocks)
			for i := range wants {
				f := format.Frame{Kind: format.Block, Key: kv.Key{byte(i)}, Tokens: make([]token.ID, 64), PayloadBytes: payloadBytes}
				if _, err := w.Append("team", f, func(dst []byte) { clear(dst) }); err != nil {
					b.Fatal(err)
				}
				wants[i] = format.Wanted{Kind: f.Kind, Key: f.Key, Tokens: f.Tokens}
			}
			dst := make([]byte, payloadBytes)
			b.SetBytes(payloadBytes)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := s.Read(wants[i%blocks], dst); err != nil {
					b.Fatal(fmt.Errorf("read: %w", err))
				}
			}
			w.Close()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
