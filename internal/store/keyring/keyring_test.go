package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

const dir = "/data/keys"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counter gives 0, 1, 2, ... instead of random bytes.
type counter byte

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(*c)
		*c++
	}
	return len(b), nil
}

func master(fill byte) []byte { return bytes.Repeat([]byte{fill}, 32) }

func ring(t *testing.T, fsys vfs.FS, key []byte) *Ring {
	t.Helper()
	r, err := Open(fsys, dir, key)
	must(t, err)
	return r
}

func loaded(t *testing.T, fsys vfs.FS) *Ring {
	t.Helper()
	r := ring(t, fsys, master('m'))
	must(t, r.Load())
	return r
}

// files gives what is in the folder.
func files(t *testing.T, fsys vfs.FS) map[string]string {
	t.Helper()
	all := map[string]string{}
	infos, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return all
	}
	must(t, err)
	for _, info := range infos {
		data, err := vfs.ReadFile(fsys, filepath.Join(dir, info.Name))
		must(t, err)
		all[info.Name] = string(data)
	}
	return all
}

func put(t *testing.T, fsys vfs.FS, name, data string) {
	t.Helper()
	must(t, vfs.WriteFile(fsys, filepath.Join(dir, name), []byte(data)))
}

func TestReadMaster(t *testing.T) {
	key := []byte("0123456789abcdef\x00\xff\n 23456789abcdef")[:32]
	path := filepath.Join(t.TempDir(), "key")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{string(key), 0o600, "<nil>"},
		{hex.EncodeToString(key) + "\n", 0o400, "<nil>"},
		{"  " + base64.StdEncoding.EncodeToString(key) + "\n", 0o600, "<nil>"},
		{base64.RawURLEncoding.EncodeToString(key), 0o600, "<nil>"},
		{string(key), 0o640, "key file: KEY has mode 0640: others than its owner may use it; chmod 600 it"},
		{string(key[:31]), 0o600, "key file KEY: 31 bytes that are neither a key of 32 bytes nor its 64 hex digits nor its base64"},
		{strings.Repeat("a", 5000), 0o600, "key file KEY: 4096 bytes that are neither a key of 32 bytes nor its 64 hex digits nor its base64"},
		{"", 0o600, "key file KEY: 0 bytes that are neither a key of 32 bytes nor its 64 hex digits nor its base64"},
	} {
		must(t, os.RemoveAll(path))
		must(t, os.WriteFile(path, []byte(c.text), 0o600))
		must(t, os.Chmod(path, c.mode))
		got, err := ReadMaster(path)
		if said := strings.ReplaceAll(fmt.Sprint(err), path, "KEY"); said != c.want {
			t.Errorf("%q: %s\nwant %s", c.text, said, c.want)
		}
		if err == nil && !bytes.Equal(got, key) {
			t.Errorf("%q: key %x", c.text, got)
		}
	}
	must(t, os.Remove(path))
	if _, err := ReadMaster(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Open(vfs.NewCrashable(), dir, key[:16]); fmt.Sprint(err) != "master key: key of 16 bytes instead of 32" {
		t.Errorf("short key: %v", err)
	}
}

// The bytes of version 1, with counted nonces and keys.
func TestBytes(t *testing.T) {
	fsys := vfs.NewCrashable()
	r := ring(t, fsys, master('m'))
	r.Random = new(counter)
	must(t, r.Load())
	c, err := r.Of("team")
	must(t, err)
	got := fmt.Sprintf("key %x\n", c.ID)
	for name, data := range files(t, fsys) {
		if name != masterName {
			got += fmt.Sprintf("%s, %d bytes\n%x\n", name, len(data), data[:recordBytes])
		}
		if data[:recordBytes] != data[secondAt:] || strings.Trim(data[recordBytes:secondAt], "\x00") != "" {
			t.Errorf("%s is not two copies of the same", name)
		}
	}
	want := `key 6931ecc7b3dc
07263616910ba4fbc51779b396ce5ff17b84b3567c8f198c468a651d445a7cdb, 4176 bytes
4d4e454d454b4559010000008a817d172c2d2e2f30313233343536378577feb48a3cb710d9d9de4265c2a2f5796eeed452be0b442e21ad6aa397cfdf5fc235f2897bfd04cfe919ac03ef7a1f00000000
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

// Two namespaces have two keys, the same after every start.
func TestKeysAreKept(t *testing.T) {
	fsys := vfs.NewCrashable()
	r := loaded(t, fsys)
	team, err := r.Of("team")
	must(t, err)
	other, err := r.Of("")
	must(t, err)
	if team.ID == other.ID {
		t.Error("two namespaces share a key")
	}
	sealed := team.AEAD.Seal(nil, make([]byte, 12), []byte("secret"), nil)
	r = loaded(t, fsys)
	again, err := r.Of("team")
	must(t, err)
	aead, err := r.Find(team.ID)
	must(t, err)
	text, err := aead.Open(nil, make([]byte, 12), sealed, nil)
	if again.ID != team.ID || string(text) != "secret" || err != nil || len(files(t, fsys)) != 3 {
		t.Errorf("after a start: key %x, was %x; %q %v", again.ID, team.ID, text, err)
	}
	if _, err := r.Find(format.KeyID{1}); !errors.Is(err, ErrGone) || err != ErrGone {
		t.Errorf("a key nobody has: %v", err)
	}
}

// Another master key is refused and changes nothing, with the file that proves the
// master key or without.
func TestAnotherMasterKey(t *testing.T) {
	fsys := vfs.NewCrashable()
	_, err := loaded(t, fsys).Of("team")
	must(t, err)
	for _, proof := range []string{files(t, fsys)[masterName], "torn"} {
		put(t, fsys, masterName, proof)
		put(t, fsys, "x.new", "")
		before := files(t, fsys)
		r := ring(t, fsys, master('n'))
		if err := r.Check(); errors.Is(err, ErrMaster) != (proof != "torn") {
			t.Errorf("check: %v", err)
		}
		if err := r.Load(); !errors.Is(err, ErrMaster) {
			t.Errorf("load: %v", err)
		}
		if after := files(t, fsys); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("changed from %d files to %d", len(before), len(after))
		}
	}
	loaded(t, fsys)
	if after := files(t, fsys); len(after) != 2 || len(after[masterName]) != secondAt+recordBytes {
		t.Errorf("the right key mends the proof and tidies: %d files", len(after))
	}
}

// A key file that is damaged in one copy is read from the other; in both, its
// key is neither used nor replaced, and others are.
func TestDamagedKeys(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	fsys := vfs.NewCrashable()
	r := loaded(t, fsys)
	team, err := r.Of("team")
	must(t, err)
	_, err = r.Of("other")
	must(t, err)
	name := digestOf("team").name()
	whole := files(t, fsys)[name]
	flip := func(at int) {
		bit := draw.IntN(8 * recordBytes)
		data := []byte(files(t, fsys)[name])
		data[at+bit/8] ^= 1 << (bit % 8)
		put(t, fsys, name, string(data))
	}
	for range 50 {
		for _, at := range []int{0, secondAt} {
			put(t, fsys, name, whole)
			flip(at)
			r := loaded(t, fsys)
			if c, err := r.Of("team"); err != nil || c.ID != team.ID || len(r.Damaged()) != 1 || files(t, fsys)[name] != whole {
				t.Errorf("one copy: %v, damaged %v", err, r.Damaged())
			}
		}
		flip(0)
		flip(secondAt)
		damaged := files(t, fsys)[name]
		r := loaded(t, fsys)
		_, err := r.Of("team")
		if want := "/data/keys/" + name + " is damaged: neither of its two copies is whole"; fmt.Sprint(err) != want {
			t.Errorf("both copies: %v", err)
		}
		if _, err := r.Find(team.ID); fmt.Sprint(err) != "the key of its namespace is gone, or is one of 1 that are damaged" {
			t.Errorf("find: %v", err)
		}
		if _, err := r.Of("other"); err != nil || files(t, fsys)[name] != damaged {
			t.Errorf("other keys: %v", err)
		}
	}
}

// Without the master key what is damaged is said, and mended where a copy is whole.
func TestInspect(t *testing.T) {
	fsys := vfs.NewCrashable()
	look := func(repair bool) (said string) {
		must(t, Inspect(fsys, dir, repair, func(path, reason string, repaired bool) {
			said += fmt.Sprintf("%s %s, repaired %v\n", path, reason, repaired)
		}))
		return said
	}
	if got := look(true); got != "" {
		t.Errorf("no folder: %s", got)
	}
	_, err := loaded(t, fsys).Of("team")
	must(t, err)
	if got := look(true); got != "" {
		t.Errorf("as written: %s", got)
	}
	name := digestOf("team").name()
	before := files(t, fsys)
	put(t, fsys, name, before[name][:secondAt+20])
	put(t, fsys, masterName, "nothing")
	path := filepath.Join(dir, name)
	lost := "/data/keys/master neither of its two copies is whole, repaired false\n"
	for _, repair := range []bool{false, true, true} {
		want := fmt.Sprintf("%s its two copies are not both whole and equal, repaired %v\n", path, repair)
		if files(t, fsys)[name] == before[name] {
			want = ""
		}
		if got := look(repair); got != want+lost {
			t.Errorf("repair %v:\n%s", repair, got)
		}
	}
	if files(t, fsys)[name] != before[name] {
		t.Error("it is not what it was")
	}
}

// A key file under the name of another namespace, or of another version, is not
// believed.
func TestForeignKeyFiles(t *testing.T) {
	fsys := vfs.NewCrashable()
	r := loaded(t, fsys)
	_, err := r.Of("team")
	must(t, err)
	file := []byte(files(t, fsys)[digestOf("team").name()])
	put(t, fsys, digestOf("other").name(), string(file))
	_, err = loaded(t, fsys).Of("other")
	if !strings.HasSuffix(fmt.Sprint(err), "is damaged: the master key does not open it") {
		t.Errorf("moved: %v", err)
	}
	file[8] = 7
	sum := sumOf(file[:recordBytes])
	file[12], file[13], file[14], file[15] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	put(t, fsys, digestOf("other").name(), string(file))
	var other *format.VersionError
	if err := ring(t, fsys, master('m')).Load(); !errors.As(err, &other) || other.Have != 7 || other.Know != 1 {
		t.Errorf("version 7: %v", err)
	}
}

// Erase leaves no byte of a key's file; the next key of the namespace is another.
func TestErase(t *testing.T) {
	fsys := vfs.NewCrashable()
	written := ""
	watch := vfs.NewFailing(fsys, func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove {
			data, err := vfs.ReadFile(fsys, op.Name)
			written = fmt.Sprint(len(data), strings.Trim(string(data), "\x00"), err)
		}
		return nil
	})
	r := loaded(t, watch)
	before, err := r.Of("team")
	must(t, err)
	must(t, r.Erase("nobody"))
	must(t, r.Erase("team"))
	must(t, r.Erase("team"))
	if left := files(t, fsys); len(left) != 1 || written != fmt.Sprint(secondAt+recordBytes, "", error(nil)) {
		t.Errorf("%d files left; removed when it held %s", len(left), written)
	}
	if _, err := r.Find(before.ID); !errors.Is(err, ErrGone) {
		t.Errorf("find: %v", err)
	}
	after, err := r.Of("team")
	if err != nil || after.ID == before.ID {
		t.Errorf("the same key again: %v", err)
	}
}

// Power is lost, or an operation fails, at every one of a history: a key that was
// handed out is there, an erased one is not.
func TestEveryOperation(t *testing.T) {
	history := func(fsys vfs.FS) (team, other format.Cipher, erased bool, err error) {
		r, err := Open(fsys, dir, master('m'))
		if err == nil {
			err = r.Load()
		}
		if err == nil {
			team, err = r.Of("team")
		}
		if err == nil {
			other, err = r.Of("other")
		}
		if err == nil {
			err = r.Erase("other")
			erased = err == nil
		}
		return team, other, erased, err
	}
	count := vfs.NewFailing(vfs.NewCrashable(), nil)
	_, _, _, err := history(count)
	must(t, err)
	for at := range count.Ops() + 1 {
		for seed := range uint64(4) {
			inner := vfs.NewCrashable()
			team, other, erased, err := history(vfs.NewFailing(inner, func(op vfs.Op) error {
				if op.N == at || op.N > at && seed > 0 {
					return syscall.EIO
				}
				return nil
			}))
			if err == nil && at > 0 && at <= count.Ops() && seed > 0 {
				t.Errorf("operation %d fails in silence", at)
			}
			if seed > 0 {
				inner = inner.Crash(rand.New(rand.NewPCG(seed, uint64(at))))
			}
			r := loaded(t, inner)
			if len(r.Damaged()) > 0 {
				t.Errorf("operation %d, seed %d: %v", at, seed, r.Damaged())
			}
			if _, err := r.Find(team.ID); team.AEAD != nil && err != nil {
				t.Errorf("operation %d, seed %d: a key is lost: %v", at, seed, err)
			}
			if _, err := r.Find(other.ID); erased && err == nil {
				t.Errorf("operation %d, seed %d: an erased key is back", at, seed)
			}
			must(t, r.Erase("other"))
			for name := range files(t, inner) {
				if strings.Contains(name, digestOf("other").name()) || strings.HasSuffix(name, ".new") {
					t.Errorf("operation %d, seed %d: %s is left", at, seed, name)
				}
			}
		}
	}
}
