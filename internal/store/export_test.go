package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"mneme/internal/store/export"
	"mneme/internal/store/format"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// exported is an agent of three turns, two blocks and a tail, as one file.
func exported(t testing.TB, withKV bool) (Manifest, []byte) {
	t.Helper()
	s := open(t, vfs.NewCrashable())
	defer s.Close()
	ada := newActor("ada")
	for _, n := range []int{3, 4, 3} {
		must(t, publish(s, ada.say(n)))
	}
	m, err := s.Load("default", "ada")
	must(t, err)
	var file bytes.Buffer
	must(t, s.Export(&file, m, withKV))
	return m, file.Bytes()
}

func imported(b []byte) (*Imported, error) { return ImportReader(bytes.NewReader(b), int64(len(b))) }

// adopt puts an import into a store, as the engine would.
func adopt(s *Store, in *Imported) error {
	tails, err := s.Adopt(context.Background(), in)
	if err != nil {
		return err
	}
	return s.Publish(context.Background(), in.Stored, tails)
}

// An agent moves as one file: with KV it is whole at the other end, without it
// its tokens and turns are.
func TestExportIsImported(t *testing.T) {
	for _, withKV := range []bool{true, false} {
		m, file := exported(t, withKV)
		in, err := imported(file)
		must(t, err)
		var got []string
		for f, err := range in.Frames() {
			must(t, err)
			got = append(got, fmt.Sprint(f.Kind, f.Index, f.Group, len(f.Tokens), len(f.Payload)))
		}
		want := []string{"1 0 0 4 100", "1 1 0 4 100", "2 2 0 2 100"}
		if !withKV {
			want, m.Tail = nil, nil
		}
		if !reflect.DeepEqual(in.Manifest, m) || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("manifest %+v, frames %v", in.Manifest, got)
		}
		if !withKV {
			continue
		}
		s := open(t, vfs.NewCrashable())
		must(t, adopt(s, in))
		again, err := s.Load("default", "ada")
		must(t, err)
		must(t, readAll(s, again))
		must(t, s.Check())
		must(t, s.Close())
	}
}

// A block that turns out damaged is left out of an export.
func TestExportLeavesDamageOut(t *testing.T) {
	fsys, _, _ := threeTurns(t)
	change(t, fsys, firstSegment, flip(format.SegmentHeadBytes+150))
	s := open(t, fsys)
	defer s.Close()
	m, err := s.Load("default", "ada")
	must(t, err)
	var file bytes.Buffer
	must(t, s.Export(&file, m, true))
	in, err := imported(file.Bytes())
	must(t, err)
	n := 0
	for range in.Frames() {
		n++
	}
	if n != 3 || s.Stats().Quarantined != 1 { // of three blocks and a tail
		t.Errorf("%d frames, %d quarantined", n, s.Stats().Quarantined)
	}
	if got := fmt.Sprint(len(in.Manifest.Keys), len(in.Stored.Keys), in.Stored.KVTokens, len(in.Stored.Tail), len(in.Stored.Tokens)); got != "3 0 0 0 13" {
		t.Errorf("keys, stored keys, KV, tails, tokens = %s", got)
	}
	other := open(t, vfs.NewCrashable())
	must(t, adopt(other, in)) // its tokens, and blocks that are of use to nobody yet
	must(t, other.Check())
	must(t, other.Close())
}

type brokenWriter struct{ left int }

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errDead
	}
	return len(b), nil
}

func TestExportToABrokenPipe(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	m := newActor("ada").say(6)
	must(t, publish(s, m))
	m, err := s.Load("default", "ada")
	must(t, err)
	for _, left := range []int{0, 300, 600, 700} {
		if err := s.Export(&brokenWriter{left}, m, true); !errors.Is(err, errDead) {
			t.Errorf("after %d bytes: %v", left, err)
		}
	}
	must(t, s.Close())
	if err := s.Export(&brokenWriter{}, m, true); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// Mutated exports are refused; one is read only if it is what was written.
func TestMutatedExportsAreRefused(t *testing.T) {
	m, file := exported(t, true)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rng(seed, 0)
	for range 500 {
		b := mutate(r, file)
		in, err := imported(b)
		if err != nil {
			continue
		}
		if !bytes.Equal(b, file) || !reflect.DeepEqual(in.Manifest, m) {
			t.Errorf("a changed export is read")
		}
	}
	for cut := range file {
		if _, err := imported(file[:cut]); err == nil {
			t.Errorf("cut at %d it is read", cut)
		}
	}
}

func mutate(r *rand.Rand, file []byte) []byte {
	b := bytes.Clone(file)
	switch at := r.IntN(len(b)); r.IntN(5) {
	case 0:
		b[at] ^= 1 << r.IntN(8)
	case 1:
		b = append(b[:at], b[min(len(b), at+1+r.IntN(200)):]...)
	case 2:
		b = append(b[:at:at], append(make([]byte, r.IntN(200)), b[at:]...)...)
	case 3:
		copy(b[at:], b[r.IntN(len(b)):])
	default:
		for i := at; i < min(len(b), at+8); i++ {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// Sums do not make an export right: keys that are not those of its tokens, blocks
// of others, and frames out of order are refused as well.
func TestForgedExportsAreRefused(t *testing.T) {
	m, file := exported(t, true)
	other := m
	other.Tokens = append([]token.ID{1}, m.Tokens[1:]...)
	wrongTail := m
	wrongTail.Tail = []TailRef{m.Tail[0]}
	wrongTail.Tail[0].Key[3]++
	short := m
	short.KVTokens = 1
	for name, b := range map[string][]byte{
		"other tokens": forge(t, other, file, 0, 1, 2), "other tail": forge(t, wrongTail, file, 0, 1, 2),
		"out of order": forge(t, m, file, 1, 0, 2), "twice": forge(t, m, file, 0, 0, 1), "fewer tokens": forge(t, short, file, 0),
	} {
		if _, err := imported(b); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
	if in, err := imported(forge(t, m, file, 0, 2)); err != nil { // one left out
		t.Errorf("%v %v", in, err)
	}
}

// forge is an export of a manifest with some of another's frames, sums right.
func forge(t *testing.T, m Manifest, file []byte, which ...int) []byte {
	t.Helper()
	in, err := imported(file)
	must(t, err)
	var whole [][]byte
	for f, err := range in.Frames() {
		must(t, err)
		b := make([]byte, f.Shape().FrameBytes())
		f.Encode(b, fill(f.Payload))
		whole = append(whole, b)
	}
	var out bytes.Buffer
	e, err := export.New(&out, &m)
	must(t, err)
	for _, i := range which {
		must(t, e.Frame(whole[i]))
	}
	must(t, e.Close())
	return out.Bytes()
}
