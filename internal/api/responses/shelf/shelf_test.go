package shelf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"mneme/internal/api/responses/shelf"
	"mneme/internal/vfs"
)

func record(id, namespace, conversation, item string) shelf.Record {
	return shelf.Record{
		ID: id, Namespace: namespace, Conversation: conversation, Family: "f", Input: json.RawMessage(`[{"type":"message"},7]`),
		Response: json.RawMessage(`{"output":[{"id":"` + item + `"}]}`),
	}
}

func open(t *testing.T, fs vfs.FS, o shelf.Options) (*shelf.Shelf, *[]string) {
	t.Helper()
	var unread []string
	o.FS, o.Dir = fs, "/responses"
	s, err := shelf.Open(o, func(path string, why error) { unread = append(unread, fmt.Sprintf("%s: %v", path, why)) })
	if err != nil {
		t.Fatal(err)
	}
	return s, &unread
}

func put(t *testing.T, s *shelf.Shelf, records ...shelf.Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Put(r); err != nil {
			t.Fatal(err)
		}
	}
}

// What was put is there after a crash: by its id, its conversation and its items,
// for its own namespace only. What was deleted is not.
func TestSurvivesCrash(t *testing.T) {
	fs := vfs.NewCrashable()
	s, _ := open(t, fs, shelf.Options{})
	put(t, s, record("resp_1", "a", "c", "msg_1"), record("resp_2", "a", "c", "msg_2"), record("resp_3", "b", "c", "msg_1"), record("resp_4", "a", "", "msg_4"))
	if err := s.Delete("a", "resp_4"); err != nil {
		t.Fatal(err)
	}
	fs = fs.Crash(rand.New(rand.NewPCG(1, 2)))
	s, unread := open(t, fs, shelf.Options{})
	if len(*unread) > 0 {
		t.Errorf("unread: %v", *unread)
	}
	if a, b := s.Newest("a", "c"), s.Newest("b", "c"); a != "resp_2" || b != "resp_3" {
		t.Errorf("the newest are %s and %s", a, b)
	}
	if got := s.With("a", "msg_1"); got != "resp_1" {
		t.Errorf("msg_1 is in %q", got)
	}
	r, err := s.Get("a", "resp_1")
	if want := record("resp_1", "a", "c", "msg_1"); err != nil || r.Order != 1 || string(r.Response) != string(want.Response) || string(r.Input) != string(want.Input) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, c := range []struct{ namespace, id string }{{"a", "resp_3"}, {"a", "resp_4"}, {"a", "../x"}, {"b", "resp_1"}} {
		if _, err := s.Get(c.namespace, c.id); !errors.Is(err, shelf.ErrUnknown) {
			t.Errorf("%s of %s: %v", c.id, c.namespace, err)
		}
		if err := s.Delete(c.namespace, c.id); !errors.Is(err, shelf.ErrUnknown) {
			t.Errorf("delete %s of %s: %v", c.id, c.namespace, err)
		}
	}
	put(t, s, record("resp_5", "a", "c", ""))
	if got := s.Newest("a", "c"); got != "resp_5" {
		t.Errorf("after a restart the newest is %s", got)
	}
}

// Beyond the bounds the oldest go, from the disk too.
func TestBounds(t *testing.T) {
	fs := vfs.NewCrashable()
	s, _ := open(t, fs, shelf.Options{MaxResponses: 2})
	put(t, s, record("resp_1", "a", "", ""), record("resp_2", "a", "", ""), record("resp_3", "a", "", ""))
	names := func() string {
		infos, _ := fs.ReadDir("/responses")
		var all []string
		for _, i := range infos {
			all = append(all, strings.TrimSuffix(i.Name, ".response"))
		}
		return strings.Join(all, " ")
	}
	if got := names(); got != "resp_2 resp_3" {
		t.Errorf("on disk are %s", got)
	}
	s, _ = open(t, fs, shelf.Options{MaxBytes: 200})
	if _, err := s.Get("a", "resp_2"); !errors.Is(err, shelf.ErrUnknown) || names() != "resp_3" {
		t.Errorf("%v, on disk are %s", err, names())
	}
	if err := s.Put(record("resp_4", "a", "", strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "all together may have 200") {
		t.Errorf("too large a record: %v", err)
	}
}

// A file that does not read is said, and is not in the way.
func TestDamage(t *testing.T) {
	fs := vfs.NewCrashable()
	s, _ := open(t, fs, shelf.Options{})
	put(t, s, record("resp_1", "a", "", ""), record("resp_2", "a", "", ""), record("resp_3", "a", "", ""))
	for name, change := range map[string]func([]byte) []byte{
		"resp_1": func(b []byte) []byte { b[20] ^= 1; return b },
		"resp_2": func(b []byte) []byte { b[8] = 9; return b },
	} {
		path := "/responses/" + name + ".response"
		b, err := vfs.ReadFile(fs, path)
		if err == nil {
			err = vfs.WriteFile(fs, path, change(b))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, unread := open(t, fs, shelf.Options{})
	want := "[/responses/resp_1.response: read response resp_1: its bytes are damaged /responses/resp_2.response: read response resp_2: it has version 9, this program reads 1]"
	if got := fmt.Sprint(*unread); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := s.Get("a", "resp_3"); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

// Without a folder all is the same until the program ends; what was not to be
// stored is known as that.
func TestInMemory(t *testing.T) {
	s, err := shelf.Open(shelf.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, record("resp_1", "a", "c", "msg_1"))
	s.Unstored("a", "resp_2")
	if r, err := s.Get("a", "resp_1"); err != nil || r.Family != "f" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.Get("a", "resp_2"); !errors.Is(err, shelf.ErrUnstored) {
		t.Errorf("not to be stored: %v", err)
	}
	if _, err := s.Get("b", "resp_2"); !errors.Is(err, shelf.ErrUnknown) {
		t.Errorf("of another namespace: %v", err)
	}
	if err := s.Delete("a", "resp_1"); err != nil || s.Newest("a", "c") != "" {
		t.Errorf("deleted: %v", err)
	}
}
