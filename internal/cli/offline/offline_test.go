package offline

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mneme/internal/store"
	"mneme/internal/store/format"
	"mneme/internal/vfs"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// folder is a data folder of a store that has published ada and is closed.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(store.Options{Dir: dir, KVFingerprint: "ab", ModelFingerprint: "cd", Clock: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Publish(t.Context(), store.Manifest{Namespace: "default", ID: "ada", Model: "tiny", Parent: "eve"}, nil)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An agent that cannot be read is listed with the reason; what a crash left is not.
func TestAgents(t *testing.T) {
	dir := folder(t)
	for name, text := range map[string]string{"ff/journal": "no journal", "ee.gone/journal": "deleted", "dd/journal.new": "begun"} {
		path := filepath.Join(dir, "agents", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Agents(vfs.Real(), dir, nil)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v (%v), want two agents", got, err)
	}
	if got[0].Damage == "" || got[0].ID != "ff" {
		t.Errorf("the damaged one is %+v", got[0])
	}
	if want := (Agent{Kind: "agent", Namespace: "default", ID: "ada", Model: "tiny", Parent: "eve", Created: noon, LastUsed: noon}); !reflect.DeepEqual(got[1], want) {
		t.Errorf("got  %+v\nwant %+v", got[1], want)
	}
}

// An agent that was forked and has written nothing since has no folder; it is
// listed among the others all the same.
func TestForked(t *testing.T) {
	dir := folder(t)
	s, err := store.Open(store.Options{Dir: dir, KVFingerprint: "ab", ModelFingerprint: "cd", Clock: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Fork(t.Context(), store.Manifest{Namespace: "default", ID: "Zoe", Model: "tiny", Parent: "ada"})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if infos, err := os.ReadDir(filepath.Join(dir, "families")); err != nil || len(infos) == 0 {
		t.Fatalf("no family (%v)", err)
	}
	got, err := Agents(vfs.Real(), dir, nil)
	want := []Agent{
		{Kind: "agent", Namespace: "default", ID: "Zoe", Model: "tiny", Parent: "ada", Created: noon, LastUsed: noon},
		{Kind: "agent", Namespace: "default", ID: "ada", Model: "tiny", Parent: "eve", Created: noon, LastUsed: noon},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v (%v)\nwant %+v", got, err, want)
	}
}

// While somebody has the folder nothing is listed, and he is named.
func TestInUse(t *testing.T) {
	dir := folder(t)
	held, err := vfs.Real().Lock(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte("pid 7, started at noon\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Agents(vfs.Real(), dir, nil); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "pid 7, started at noon") {
		t.Errorf("%v, want the holder's name", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Agents(vfs.Real(), dir, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A file of a later version is listed as one that cannot be read.
func TestUnreadable(t *testing.T) {
	for err, want := range map[error]bool{&format.DamagedError{}: true, &format.VersionError{}: true, os.ErrPermission: false, nil: false} {
		if got := unreadable(err); got != want {
			t.Errorf("%T: %v, want %v", err, got, want)
		}
	}
}
