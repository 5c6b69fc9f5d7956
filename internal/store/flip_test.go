package store

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"mneme/internal/vfs"
)

// filesOf lists the files under a folder.
func filesOf(t *testing.T, fsys vfs.FS, dir string) (paths []string) {
	t.Helper()
	infos, err := fsys.ReadDir(dir)
	must(t, err)
	for _, info := range infos {
		path := filepath.Join(dir, info.Name)
		if info.Dir {
			paths = append(paths, filesOf(t, fsys, path)...)
		} else if info.Size > 0 {
			paths = append(paths, path)
		}
	}
	return paths
}

// unharmed checks that an agent is one of its turns or says that it is damaged,
// and that what can be read of it is what was written.
func unharmed(s *Store, a *actor) error {
	_, err := standsAt(s, a)
	var damaged *DamagedError
	if errors.Is(err, ErrMissing) || errors.As(err, &damaged) {
		return nil // computed anew, or listed as damaged
	}
	return err
}

// One bit anywhere in a closed folder turns over: the store starts, gives nothing
// that was not written, takes the next turn of every agent that can be read, and
// after a repair the check finds nothing that it could have repaired.
func TestAnyBitFlips(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	whole := vfs.NewCrashable()
	s := open(t, whole)
	sc := newScript()
	sc.run(s)
	must(t, s.Close())
	files := filesOf(t, whole, "/data")
	for i := range int64(300) {
		r := rng(seed, i)
		fsys := vfs.NewCrashable()
		copyFiles(t, whole, "/data", fsys, "/data")
		path, bit := files[r.IntN(len(files))], 0
		change(t, fsys, path, func(b []byte) []byte {
			bit = r.IntN(8 * len(b))
			b[bit/8] ^= 1 << (bit % 8)
			return b
		})
		if i%2 == 0 {
			must(t, Verify(fsys, "/data", i%4 == 0, func(Finding) {}))
		}
		s := open(t, fsys)
		for _, a := range sc.actors() {
			if err := unharmed(s, a); err != nil {
				t.Errorf("bit %d of %s: %v", bit, path, err)
			}
			m := a.say(3)
			_, err := s.Load("default", a.id)
			if err == nil {
				err = publish(s, m)
			}
			var damaged *DamagedError
			if err != nil && !errors.As(err, &damaged) && !errors.Is(err, ErrNoAgent) {
				t.Errorf("bit %d of %s: next turn of %s: %v", bit, path, a.id, err)
			}
			a.turns, a.all = a.turns[:len(a.turns)-1], a.all[:len(a.all)-3]
		}
		must(t, s.Close())
	}
}
