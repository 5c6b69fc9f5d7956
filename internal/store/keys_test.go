package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"mneme/internal/store/keyring"
	"mneme/internal/vfs"
)

// encrypted are options with a ring under a master key of 32 times the letter.
func encrypted(t testing.TB, fsys vfs.FS, letter byte) Options {
	t.Helper()
	o := options(fsys)
	o.Ring = ringIn(t, fsys, o.Dir, letter)
	return o
}

func ringIn(t testing.TB, fsys vfs.FS, dataDir string, letter byte) *keyring.Ring {
	t.Helper()
	ring, err := keyring.Open(fsys, filepath.Join(dataDir, "keys"), bytes.Repeat([]byte{letter}, 32))
	must(t, err)
	return ring
}

func openEncrypted(t testing.TB, fsys vfs.FS) *Store {
	t.Helper()
	s, err := Open(encrypted(t, fsys, 'm'))
	must(t, err)
	return s
}

// of puts an actor's turn into another namespace, keys and all.
func of(namespace string, m Manifest) (Manifest, []Block) {
	m.Namespace, m.ModelFingerprint, m.KVFingerprint = namespace, "m0", fingerprint
	m.Keys = m.Scope().Chain(m.Tokens, m.BlockTokens)
	m.KVTokens = len(m.Keys) * m.BlockTokens
	parent := m.Scope().Root()
	var all []Block
	for i, key := range m.Keys {
		tokens := m.Tokens[i*m.BlockTokens : (i+1)*m.BlockTokens]
		all = append(all, Block{
			Namespace: namespace, Key: key, Parent: parent, Tokens: tokens, SizeBytes: payloadBytes,
			Copy: fill(payload(parent, tokens)), Done: func() {},
		})
		parent = key
	}
	return m, all
}

func publishIn(s *Store, namespace string, m Manifest) (Manifest, error) {
	m, all := of(namespace, m)
	for _, b := range all {
		s.Append(b)
	}
	return m, s.Publish(context.Background(), m, nil)
}

// The whole history with encryption: the same agents stand after a start, nothing
// of their KV is on disk in clear, and a bit of it is where there is none.
func TestEncryptedStore(t *testing.T) {
	for _, ring := range []bool{true, false} {
		fsys := vfs.NewCrashable()
		o := options(fsys)
		if ring {
			o = encrypted(t, fsys, 'm')
		}
		s, err := Open(o)
		must(t, err)
		sc := newScript()
		sc.run(s)
		must(t, errors.Join(sc.errs...))
		must(t, s.Close())
		s, err = Open(o)
		must(t, err)
		found, err := sc.holds(s)
		must(t, err)
		must(t, s.Close())
		if got := fmt.Sprint(found); got != "map[ada:4 bob:2 eve:3]" {
			t.Errorf("ring %v: found %s", ring, got)
		}
		if said := findings(t, fsys, false); said != "" {
			t.Errorf("ring %v: verify without a key found\n%s", ring, said)
		}
		last := []Manifest{sc.ada.turns[3], sc.eve.turns[2], sc.bob.turns[1]}
		if clear := folderHolds(t, fsys, "/data/kv", traces(last...)...); (len(clear) > 0) == ring {
			t.Errorf("ring %v: in clear are %v", ring, clear)
		}
	}
}

// Another master key, or none, is refused with the reason, and not a byte of the
// folder changes.
func TestWrongMasterKey(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := openEncrypted(t, fsys)
	must(t, publish(s, newActor("ada").say(6)))
	must(t, s.Close())
	before := image(t, fsys, "/data")
	elsewhere := encrypted(t, fsys, 'm')
	elsewhere.Dir = "/other"
	for _, c := range []struct {
		o    Options
		is   error
		want string
	}{
		{options(fsys), ErrEncrypted, "store: data folder /data is encrypted; --kv-key-file is needed"},
		{encrypted(t, fsys, 'n'), ErrMaster, "store: /data/keys: the master key is not the one that the folder is encrypted with"},
		{elsewhere, nil, "store: the ring's folder is /data/keys, not /other/keys"},
	} {
		_, err := Open(c.o)
		if fmt.Sprint(err) != c.want || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
	if after := image(t, fsys, "/data"); after != before || fsys.Handles() != 0 {
		t.Errorf("changed from\n%s\nto\n%s\n%d handles", before, after, fsys.Handles())
	}
}

// A plain folder opened with a ring stays readable; what comes is encrypted, and
// from then on the key is needed.
func TestPlainFolderBecomesEncrypted(t *testing.T) {
	fsys, sc := vfs.NewCrashable(), newScript()
	s := open(t, fsys)
	sc.turn(s, sc.ada, 6)
	must(t, s.Close())
	s = openEncrypted(t, fsys)
	sc.turn(s, sc.ada, 6)
	must(t, errors.Join(sc.errs...))
	must(t, s.Close())
	if _, err := Open(options(fsys)); !errors.Is(err, ErrEncrypted) {
		t.Errorf("without the key: %v", err)
	}
	s = openEncrypted(t, fsys)
	found, err := sc.holds(s)
	must(t, err)
	must(t, s.Close())
	if found["ada"] != 2 {
		t.Errorf("found %v", found)
	}
	if clear := folderHolds(t, fsys, "/data/kv", drop(traces(sc.ada.turns[1]), traces(sc.ada.turns[0]))...); len(clear) > 0 {
		t.Errorf("in clear are %v", clear)
	}
}

// An export of an encrypted agent is plain: a folder without a key takes it.
func TestExportIsPlain(t *testing.T) {
	s := openEncrypted(t, vfs.NewCrashable())
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	m, err := s.Load("default", "ada")
	must(t, err)
	var file bytes.Buffer
	must(t, s.Export(&file, m, true))
	must(t, s.Close())
	in, err := imported(file.Bytes())
	must(t, err)
	if len(in.Stored.Keys) != 1 || len(in.Stored.Tail) != 1 {
		t.Errorf("stored %+v", in.Stored)
	}
	for f, err := range in.Frames() {
		must(t, err)
		if f.Kind == 1 && !bytes.Equal(f.Payload, payload(f.Parent, ada.all[:4])) {
			t.Errorf("frame %+v holds other bytes", f.Frame)
		}
	}
}

// A namespace is erased: its agents, its key and every block of it are gone; the
// other one has all it had, and the namespace can be begun anew.
func TestEraseNamespace(t *testing.T) {
	for _, ring := range []bool{true, false} {
		fsys := vfs.NewCrashable()
		o := options(fsys)
		if ring {
			o = encrypted(t, fsys, 'm')
		}
		s, err := Open(o)
		must(t, err)
		sc := newScript()
		sc.turn(s, sc.ada, 6)
		for i, id := range []string{"max", "mia"} {
			_, err := publishIn(s, "team", newActor(id).say(8+4*i))
			must(t, err)
		}
		unfinished, blocks := of("team", newActor("uma").say(8))
		for _, b := range blocks {
			s.Append(b)
		}
		keys := len(filesOf(t, fsys, "/data")) // with the keys
		must(t, s.EraseNamespace("nobody"))
		must(t, s.EraseNamespace("team"))
		for _, h := range s.List() {
			if h.Namespace == "team" {
				t.Errorf("listed is %s", h.ID)
			}
		}
		if s.Has(unfinished.Keys[0], 0) || s.Stats().Blocks != 1 || s.Stats().Deleted != 2 {
			t.Errorf("stats %+v", s.Stats())
		}
		left := filesOf(t, fsys, "/data")
		if ring && len(left) >= keys || ring && len(keysIn(left)) != 2 {
			t.Errorf("keys left %v", keysIn(left))
		}
		again, err := publishIn(s, "team", newActor("max").say(8))
		must(t, err)
		must(t, s.Close())
		s, err = Open(o)
		must(t, err)
		_, err = sc.holds(s)
		must(t, err)
		if m, err := s.Load("team", "max"); err != nil || len(m.Keys) != len(again.Keys) || !s.Has(m.Keys[1], 0) {
			t.Errorf("begun anew: %v %+v", err, m)
		}
		must(t, s.Close())
		if err := s.EraseNamespace("team"); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	}
}

func keysIn(paths []string) (keys []string) {
	for _, path := range paths {
		if strings.HasPrefix(path, "/data/keys/") {
			keys = append(keys, filepath.Base(path))
		}
	}
	return keys
}

// The process dies, or power is lost, after every operation of either history with
// encryption: the promise holds, and the store goes on.
func TestEncryptedDeathAtEveryOperation(t *testing.T) {
	for _, begin := range []func() *script{newScript, newFamily} {
		die := func(inner *vfs.Crashable, at int64) (*script, int64) {
			sc := begin()
			fsys := vfs.NewFailing(inner, until(at))
			if s, err := Open(encrypted(t, fsys, 'm')); err == nil {
				sc.run(s)
				_ = s.Close()
			}
			return sc, fsys.Ops()
		}
		_, ops := die(vfs.NewCrashable(), forever)
		for at := range ops + 1 {
			for _, power := range []bool{true, false} {
				inner := vfs.NewCrashable()
				sc, _ := die(inner, at)
				if err := goesOnEncrypted(t, sc, ended(inner, power, at)); err != nil {
					t.Fatalf("operation %d of %d, power %v: %v", at, ops, power, err)
				}
			}
		}
	}
}

// ended is the disk after power was lost, or the process killed.
func ended(inner *vfs.Crashable, power bool, at int64) *vfs.Crashable {
	if power {
		return inner.Crash(rng(1, at))
	}
	inner.Kill()
	return inner
}

// goesOnEncrypted checks the promise and takes one more turn of each, after which
// power is lost.
func goesOnEncrypted(t *testing.T, sc *script, inner *vfs.Crashable) error {
	s := openEncrypted(t, inner)
	found, err := sc.holds(s)
	sc.published, sc.errs = found, nil
	for _, a := range sc.actors() {
		sc.turn(s, a, 7)
	}
	inner = inner.Crash(rng(2, 0))
	_ = s.Close()
	if err := errors.Join(append(sc.errs, err)...); err != nil {
		return err
	}
	s = openEncrypted(t, inner)
	_, err = sc.holds(s)
	return errors.Join(err, s.Close())
}

// One bit of an encrypted folder turns over, in any file: nothing is read that was
// not written, and the store starts.
func TestEncryptedBitFlips(t *testing.T) {
	for _, begin := range []func() *script{newScript, newFamily} {
		whole := vfs.NewCrashable()
		s := openEncrypted(t, whole)
		sc := begin()
		sc.run(s)
		must(t, s.Close())
		files := filesOf(t, whole, "/data")
		for i := range int64(200) {
			r := rng(7, i)
			fsys := vfs.NewCrashable()
			copyFiles(t, whole, "/data", fsys, "/data")
			path := files[r.IntN(len(files))]
			change(t, fsys, path, func(b []byte) []byte {
				bit := r.IntN(8 * len(b))
				b[bit/8] ^= 1 << (bit % 8)
				return b
			})
			if i%3 == 0 {
				must(t, Verify(fsys, "/data", i%2 == 0, func(Finding) {}))
			} else if i%3 == 1 && path != cataloguePath {
				must(t, fsys.Remove(cataloguePath))
			}
			s := openEncrypted(t, fsys)
			for _, a := range sc.actors() {
				if err := unharmed(s, a); err != nil {
					t.Errorf("flip %d, in %s: %v", i, path, err)
				}
			}
			must(t, s.Close())
		}
	}
}
