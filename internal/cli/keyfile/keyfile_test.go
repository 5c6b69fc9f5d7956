package keyfile_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"mneme/internal/api/access"
	"mneme/internal/cli/keyfile"
)

// file writes text to a file named keys of a folder of the test's own.
func file(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func TestRead(t *testing.T) {
	got, err := keyfile.Read(file(t, "# who may\n\n"+
		"ada "+hash("mk_1")+" requests=60/m tokens=100000/h kv=4GiB weight=3 # the first\n"+
		"  b-2\t"+strings.ToUpper(hash("mk_2"))+"\r\n"+
		"eve "+hash("mk_3")+" kv=1000 requests=1/s", 0o600))
	want := []access.Key{
		{Name: "ada", Digest: access.DigestOf("mk_1"), Limits: access.Limits{
			Requests: access.Rate{Amount: 60, Per: time.Minute}, Tokens: access.Rate{Amount: 100000, Per: time.Hour}, DiskBytes: 4 << 30, Weight: 3}},
		{Name: "b-2", Digest: access.DigestOf("mk_2")},
		{Name: "eve", Digest: access.DigestOf("mk_3"), Limits: access.Limits{Requests: access.Rate{Amount: 1, Per: time.Second}, DiskBytes: 1000}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v)\nwant %+v", got, err, want)
	}
	if got, err := keyfile.Read(file(t, "# nobody\n", 0o400)); err != nil || got == nil || len(got) != 0 {
		t.Errorf("an empty file: %v (%v), want a list of none", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	h := hash("mk_1")
	for text, want := range map[string]string{
		"Ada " + h:                                 `keys:1: "Ada" is no name of a key: use 1 to 64 of a-z 0-9 -`,
		"\n" + strings.Repeat("a", 65) + " " + h:   `keys:2: "` + strings.Repeat("a", 65) + `" is no name`,
		"default " + h:                             `keys:1: "default" is what agents belong to where there are no keys; use another name`,
		"ada":                                      "keys:1: after the name comes the SHA-256 of the key, 64 hex digits",
		"ada mk_1":                                 "keys:1: after the name comes the SHA-256",
		"ada " + h[1:]:                             "keys:1: after the name comes the SHA-256",
		"ada requests=1/m " + h:                    "keys:1: after the name comes the SHA-256",
		"ada " + h + " priority=9":                 `keys:1: "priority" is no option; there are requests=60/m, tokens=100000/m, kv=4GiB`,
		"ada " + h + " requests":                   `keys:1: requests=: "" is no rate; write 60/m, or as many per s, h or d`,
		"ada " + h + " requests=0/m":               `keys:1: requests=: "0/m" is no rate`,
		"ada " + h + " requests=-1/m":              `"-1/m" is no rate`,
		"ada " + h + " tokens=9999999999/m":        `keys:1: tokens=: "9999999999/m" is no rate`,
		"ada " + h + " tokens=1.5/m":               `keys:1: tokens=: "1.5/m" is no rate`,
		"ada " + h + " tokens=5/w":                 `keys:1: tokens=: "5/w" is no rate`,
		"ada " + h + " kv=lots":                    `keys:1: kv=: "lots" is no size`,
		"ada " + h + " kv=5%":                      "keys:1: kv=: 5% is a share; a quota is in bytes, as in 4GiB",
		"ada " + h + " weight=101":                 `keys:1: weight=: "101" is no weight; write a whole number from 1 to 100`,
		"ada " + h + " weight=0":                   `keys:1: weight=: "0" is no weight`,
		"ada " + h + " kv=1GiB kv=2GiB":            "keys:1: kv= is there twice",
		"ada " + h + "\n#\nada " + hash("mk_2"):    "keys:3: ada has a key already in line 1",
		"ada " + h + "\nbob " + h + " kv=1GiB":     "keys:2: bob has the same key as line 1",
		"ada " + h + "\nbob " + h[:60] + " kv=1GB": "keys:2: after the name",
	} {
		if _, err := keyfile.Read(file(t, text, 0o600)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		path := file(t, "", mode)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Read(path); err == nil || !strings.Contains(err.Error(), "others than its owner may use it; chmod 600 it") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := keyfile.Read("/nowhere/keys"); err == nil {
		t.Error("a file that is not there was read")
	}
}

// A new key is 256 random bits; its line reads as what was asked for.
func TestNew(t *testing.T) {
	limits := access.Limits{Requests: access.Rate{Amount: 60, Per: time.Minute}, Tokens: access.Rate{Amount: 9, Per: 24 * time.Hour}, DiskBytes: 3 << 29, Weight: 2}
	key, line := keyfile.New("ada", limits)
	if !regexp.MustCompile(`^mk_[A-Za-z0-9_-]{43}$`).MatchString(key) {
		t.Errorf("key %s", key)
	}
	if want := "ada " + hash(key) + " requests=60/m tokens=9/d kv=1536MiB weight=2"; line != want {
		t.Errorf("line %s\nwant %s", line, want)
	}
	got, err := keyfile.Read(file(t, line, 0o600))
	if want := []access.Key{{Name: "ada", Digest: access.DigestOf(key), Limits: limits}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read again: %+v (%v)", got, err)
	}
	if other, _ := keyfile.New("ada", limits); other == key {
		t.Error("the same key twice")
	}
}

func TestReadAdmin(t *testing.T) {
	const key = "0123456789abcdef"
	if got, err := keyfile.ReadAdmin(file(t, " "+key+"\n", 0o600)); err != nil || *got != access.DigestOf(key) {
		t.Errorf("%x (%v)", got, err)
	}
	for _, text := range []string{"", "short", "two words of a key", key + "\n" + key} {
		if _, err := keyfile.ReadAdmin(file(t, text, 0o600)); err == nil || !strings.Contains(err.Error(), "keys must hold one key of 16 characters at least") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := keyfile.ReadAdmin(file(t, key, 0o644)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("0644: %v", err)
	}
}
