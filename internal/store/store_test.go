package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"mneme/internal/kv"
	"mneme/internal/vfs"
)

// Two agents, a close and a start: both are listed from their headers, read back
// whole, and share the blocks of their common beginning.
func TestStoreKeepsAgents(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada, twin := newActor("ada"), newActor("ada")
	must(t, publish(s, ada.say(10)))
	must(t, publish(s, ada.say(4)))
	fork := twin.say(10)
	fork.ID, fork.Parent = "fork", "ada"
	must(t, publish(s, fork))
	before := s.Stats()
	must(t, s.Close())

	s = open(t, fsys)
	turn, err := standsAt(s, ada)
	must(t, err)
	if turn != 2 {
		t.Errorf("ada is at turn %d", turn)
	}
	var got []string
	for _, h := range s.List() {
		got = append(got, fmt.Sprint(h.Namespace, "/", h.ID, " ", h.Model, " ", h.Parent, " ", h.Tokens, " ", h.Turns, " ",
			h.DiskBytes > 3*int64(payloadBytes), " ", h.Created.Equal(epoch), " ", h.ModelFingerprint))
	}
	want := "default/ada tiny  14 2 true true m0\ndefault/fork tiny ada 10 1 true true m0"
	if strings.Join(got, "\n") != want {
		t.Errorf("list:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
	after := s.Stats()
	if got := fmt.Sprint(before.Blocks, before.WrittenFrames, after.Blocks, after.Agents, before.Published); got != "3 6 3 2 3" {
		t.Errorf("blocks, frames, blocks, agents, published = %s", got)
	}
	must(t, s.Check())
	must(t, s.Close())
	must(t, s.Close())
	if fsys.Handles() != 0 {
		t.Errorf("%d handles left", fsys.Handles())
	}
}

func TestRealFiles(t *testing.T) {
	o := options(nil)
	o.FS, o.Dir = nil, filepath.Join(t.TempDir(), "new", "data")
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
	if fmt.Sprint(found) != "map[ada:4 bob:2 eve:3]" {
		t.Errorf("found %v", found)
	}
	info, err := os.Stat(filepath.Join(o.Dir, "agents"))
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("agents folder has mode %v", info.Mode())
	}
}

func TestSecondOpenNamesTheHolder(t *testing.T) {
	o := options(vfs.Real())
	o.Dir = t.TempDir()
	s, err := Open(o)
	must(t, err)
	_, err = Open(o)
	want := fmt.Sprintf("store: data folder %s is in use by another process (pid %d, started 2026-01-02T03:04:05Z)", o.Dir, os.Getpid())
	if !errors.Is(err, ErrLocked) || err.Error() != want {
		t.Errorf("second open:\n got %v\nwant %s", err, want)
	}
	must(t, s.Close())
	s, err = Open(o)
	must(t, err)
	must(t, s.Close())
}

type fullFS struct{ vfs.FS }

func (fullFS) Free(string) (uint64, error) { return 4096, nil }

func TestFolderThatCannotBeWritten(t *testing.T) {
	inner := vfs.NewCrashable()
	refuse := func(err error, kinds ...vfs.OpKind) vfs.FS {
		return vfs.NewFailing(inner, func(op vfs.Op) error {
			for _, k := range kinds {
				if op.Kind == k {
					return &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
				}
			}
			return nil
		})
	}
	open(t, inner).Close()
	for _, c := range []struct {
		fsys vfs.FS
		want string
	}{
		{refuse(syscall.EROFS, vfs.OpLock), "store: data folder /data cannot be used: lock /data/lock: read-only file system"},
		{refuse(syscall.EROFS, vfs.OpTruncate), "store: data folder /data cannot be written: truncate /data/lock: read-only file system"},
		{refuse(syscall.ENOSPC, vfs.OpCreate), "store: data folder /data cannot be written: create /data/probe.new: no space left on device"},
		{fullFS{inner}, "store: data folder /data is full: 4096 bytes free, at least 1048576 are needed"},
	} {
		_, err := Open(options(c.fsys))
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
	if inner.Handles() != 0 {
		t.Errorf("%d handles left", inner.Handles())
	}
}

func TestBadFingerprint(t *testing.T) {
	for _, bad := range []string{"", "../x", "ABC", "a/b"} {
		o := options(vfs.NewCrashable())
		o.KVFingerprint = bad
		if _, err := Open(o); err == nil {
			t.Errorf("fingerprint %q is accepted", bad)
		}
	}
}

// gate is a block whose copying waits, so that the writer stands still.
func gate(s *Store) (opened chan struct{}) {
	opened = make(chan struct{})
	b := blocks(newActor("gate").say(blockTokens), func() {})[0]
	b.Copy = func([]byte) { <-opened }
	s.Append(b)
	return opened
}

// Append returns at once, however slow the disk; pressure tells the caller.
// Every block is done exactly once, and not written twice.
func TestAppendNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, vfs.NewCrashable())
		opened := gate(s)
		m := newActor("ada").say(12 * blockTokens)
		done := make([]int, 24)
		for i, b := range append(blocks(m, nil), blocks(m, nil)...) {
			b.Done = func() { done[i]++ }
			s.Append(b)
		}
		synctest.Wait()
		if got := fmt.Sprint(s.Room(), s.Pressure(), s.Stats().QueuedBlocks, s.Has(m.Keys[0], 0), done[:13]); got != "false 1.3 13 false [0 0 0 0 0 0 0 0 0 0 0 0 1]" {
			t.Errorf("room, pressure, queued, has, done = %s", got)
		}
		close(opened)
		must(t, s.Flush(t.Context()))
		if got := fmt.Sprint(s.Room(), s.Pressure(), s.Stats().QueuedBlocks, s.Has(m.Keys[0], 0), s.Stats().WrittenFrames); got != "true 0 0 true 13" {
			t.Errorf("room, pressure, queued, has, written = %s", got)
		}
		must(t, s.Close())
		last := blocks(m, func() { done[23]++ })[0]
		s.Append(last)
		for i, n := range done {
			if want := 1 + i/23; n != want {
				t.Errorf("block %d was done %d times, want %d", i, n, want)
			}
		}
	})
}

// A publish that nobody waits for any more does not happen; one that has begun does.
func TestPublishEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, vfs.NewCrashable())
		ada, bob := newActor("ada"), newActor("bob")
		opened := gate(s)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- s.Publish(ctx, ada.say(3), tail(ada.turns[0])) }()
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		close(opened)
		must(t, publish(s, bob.say(3)))
		if err := s.Publish(ctx, ada.turns[0], nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		if l := s.List(); len(l) != 1 || l[0].ID != "bob" {
			t.Errorf("list %v", l)
		}
		must(t, s.Close())

		s = open(t, vfs.NewCrashable())
		ctx, cancel = context.WithCancel(t.Context())
		slow := tail(ada.turns[0])
		copying := slow[0].Copy
		slow[0].Copy = func(dst []byte) { cancel(); copying(dst) }
		must(t, s.Publish(ctx, ada.turns[0], slow))
		must(t, s.Close())
	})
}

// Publishes that wait together share a sync.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, vfs.NewCrashable())
		opened := gate(s)
		var wg sync.WaitGroup
		for i := range 5 {
			m := newActor(string(rune('a' + i))).say(3)
			wg.Go(func() { must(t, s.Publish(t.Context(), m, tail(m))) })
		}
		synctest.Wait()
		before := s.Stats().Fsyncs
		close(opened)
		wg.Wait()
		st := s.Stats()
		// five tails and the gate's block fill more than one segment: each is synced once
		if got, want := st.Fsyncs-before, int64(st.Segments); got != want || st.Published != 5 {
			t.Errorf("%d syncs for %d segments, %d published", got, want, st.Published)
		}
		must(t, s.Check())
		must(t, s.Close())
	})
}

// A manifest that names a block which is not there is not published.
func TestPublishOfMissingBlocks(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	defer s.Close()
	ada := newActor("ada")
	m := ada.say(6)
	if err := s.Publish(t.Context(), m, tail(m)); !errors.Is(err, ErrMissing) {
		t.Errorf("missing block: %v", err)
	}
	must(t, publish(s, m))
	two := m
	two.Groups = 2
	if err := s.Publish(t.Context(), two, tail(m)); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "of group 1") {
		t.Errorf("missing group: %v", err)
	}
	kept := m
	kept.Tail = []TailRef{{Key: kv.Key{9}, Tokens: 2, Bytes: 100}}
	if err := s.Publish(t.Context(), kept, nil); !errors.Is(err, ErrMissing) {
		t.Errorf("missing tail: %v", err)
	}
	for _, bad := range []Manifest{
		{ID: "x", Ends: []int{1}},
		{ID: "x", KVTokens: 1},
		{ID: "x", Groups: -1},
	} {
		if err := s.Publish(t.Context(), bad, nil); err == nil {
			t.Errorf("published %+v", bad)
		}
	}
	turn, err := standsAt(s, ada)
	must(t, err)
	if turn != 1 {
		t.Errorf("turn %d", turn)
	}
}

// An agent without tokens can be made; a tail can go on being named without
// being written again; times are filled in and kept.
func TestEmptyAgentAndKeptTail(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	defer s.Close()
	must(t, s.Publish(t.Context(), Manifest{Namespace: "default", ID: "new"}, nil))
	m, err := s.Load("default", "new")
	must(t, err)
	if got := fmt.Sprint(m.Created.Equal(epoch), m.LastUsed.Equal(epoch), len(m.Tokens), m.ModelFingerprint); got != "true true 0m0" {
		t.Errorf("new agent: %s", got)
	}
	must(t, publish(s, newActor("ada").say(6)))
	first, err := s.Load("default", "ada")
	must(t, err)
	frames := s.Stats().WrittenFrames
	fork := first
	fork.ID = "fork"
	must(t, s.Publish(t.Context(), fork, nil))
	second, err := s.Load("default", "fork")
	must(t, err)
	must(t, readAll(s, second))
	if s.Stats().WrittenFrames != frames || fmt.Sprint(second.Tail) != fmt.Sprint(first.Tail) {
		t.Errorf("tail %v of %v, %d frames written", second.Tail, first.Tail, s.Stats().WrittenFrames-frames)
	}
	must(t, s.Check())
}

func TestDelete(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	must(t, s.Delete("default", "ada"))
	for _, err := range []error{
		s.Delete("default", "ada"),
		func() error { _, err := s.Load("default", "ada"); return err }(),
		func() error { _, err := s.Load("other", "ada"); return err }(),
	} {
		if !errors.Is(err, ErrNoAgent) {
			t.Errorf("after delete: %v", err)
		}
	}
	if s.Has(ada.turns[0].Keys[0], 0) {
		t.Error("the block did not go with the agent")
	}
	left, err := fsys.ReadDir("/data/agents")
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left %v", left)
	}
	must(t, publish(s, ada.say(2)))
	must(t, s.Close())
}

func TestClosedStore(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	m := newActor("ada").say(6)
	must(t, publish(s, m))
	must(t, s.Close())
	load := func() error { _, err := s.Load("default", "ada"); return err }
	for name, err := range map[string]error{
		"publish": s.Publish(context.Background(), m, nil), "flush": s.Flush(context.Background()),
		"delete": s.Delete("default", "ada"), "check": s.Check(), "load": load(),
		"read": readBack(s, blocks(m, nil)[0]), "tail": s.ReadTail(TailRef{}, nil, nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s on a closed store: %v", name, err)
		}
	}
}

// Readers, appenders and publishers at the same time see only whole things.
func TestConcurrentUse(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			a := newActor(string(rune('a' + i%3)))
			a.id += fmt.Sprint(i) // pairs of agents have the same tokens
			for range 12 {
				m := a.say(5)
				if err := publish(s, m); err != nil {
					t.Error(err)
				}
				if turn, err := standsAt(s, a); err != nil || turn != len(a.turns) {
					t.Errorf("agent %s: turn %d of %d: %v", a.id, turn, len(a.turns), err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			s.Stats()
			s.List()
		}
	})
	wg.Wait()
	must(t, s.Check())
	must(t, s.Close())
	if st := s.Stats(); st.Blocks != 3*15 || st.Errors != 0 {
		t.Errorf("stats %+v", st)
	}
}

// A writer in trouble says so once, not for every block.
func TestLogsTroubleOnce(t *testing.T) {
	var log bytes.Buffer
	var bad atomic.Bool // the writer asks from the start
	fsys := vfs.NewFailing(vfs.NewCrashable(), func(op vfs.Op) error {
		if bad.Load() && op.Kind == vfs.OpWrite {
			return syscall.ENOSPC
		}
		return nil
	})
	o := options(fsys)
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err := Open(o)
	must(t, err)
	bad.Store(true)
	if err := publish(s, newActor("ada").say(40)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("publish: %v", err)
	}
	must(t, s.Close())
	if n := strings.Count(log.String(), "writing fails"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}
