package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mneme/internal/store/journal"
	"mneme/internal/store/keyring"
	"mneme/internal/vfs"
)

// planted is a folder with agents whose names and tokens are easily found: one of
// two turns, one without KV, a fork that has written nothing, one that is pinned
// and one that goes on.
func planted(t *testing.T, s *Store) (patterns [][]byte) {
	t.Helper()
	ada := newActor("ada-planted-name")
	plant := func(m Manifest, kind string) Manifest {
		m.Model, m.Parent = "planted-model-"+kind, "planted-parent-"+kind
		m.Turns = slices.Clone(m.Turns)
		m.Turns[0].Finish = "planted-finish-" + kind
		return m
	}
	must(t, publish(s, plant(ada.say(9), "first")))
	m := plant(ada.say(7), "second")
	must(t, publish(s, m))
	for _, id := range []string{"fork-planted", "pinned-planted", "goes-on-planted"} {
		at, err := s.Load("default", "ada-planted-name")
		must(t, err)
		at.ID = id
		must(t, s.Fork(t.Context(), at))
		if at.Pinned = id == "pinned-planted"; at.Pinned {
			must(t, s.Publish(t.Context(), at, nil))
		}
	}
	goesOn := forkOf(ada, "goes-on-planted")
	next := plant(goesOn.say(6), "third")
	must(t, publish(s, next))
	alone, _ := of("planted-namespace", newActor("zoe").say(8))
	alone.Keys, alone.KVTokens = nil, 0
	must(t, s.Publish(t.Context(), alone, nil))
	patterns = append(traces(ada.turns...), traces(next)...)
	var varints []byte
	for _, id := range alone.Tokens {
		varints = binary.AppendUvarint(varints, uint64(id))
	}
	return append(patterns, varints, []byte("planted"), []byte("default"), []byte(fingerprint))
}

// image is all that is in a folder.
func image(t *testing.T, fsys vfs.FS, dir string) (all string) {
	t.Helper()
	for _, path := range filesOf(t, fsys, dir) {
		data, err := vfs.ReadFile(fsys, path)
		must(t, err)
		all += fmt.Sprintf("%s %x\n", path, data)
	}
	return all
}

// Of an encrypted folder nothing that was planted is on disk in clear: no name, no
// token as a word or a varint, no payload; while it is open, after a kill, and after
// an end. Of a plain one all of it is.
func TestNothingIsInClear(t *testing.T) {
	for _, ring := range []bool{true, false} {
		fsys := vfs.NewCrashable()
		o := options(fsys)
		if ring {
			o = encrypted(t, fsys, 'm')
		}
		s, err := Open(o)
		must(t, err)
		patterns := planted(t, s)
		killed := vfs.NewCrashable()
		copyFiles(t, fsys, "/data", killed, "/data")
		must(t, s.Close())
		for name, disk := range map[string]*vfs.Crashable{"closed": fsys, "killed": killed} {
			for i, p := range patterns {
				if in := folderHolds(t, disk, "/data", p); (len(in) > 0) == ring {
					t.Errorf("ring %v, %s: pattern %d %q is in %v", ring, name, i, p, in)
				}
			}
			o.FS = disk
			if ring {
				o = encrypted(t, disk, 'm')
			}
			before := image(t, disk, "/data/families")
			s, err := Open(o)
			must(t, err)
			must(t, s.Check())
			if image(t, disk, "/data/families") != before {
				t.Errorf("ring %v, %s: a start has written families anew", ring, name)
			}
			if h, ok := s.Header("default", "pinned-planted"); len(s.List()) != 5 || !ok || !h.Pinned || h.Turns != 2 {
				t.Errorf("ring %v, %s: listed %+v", ring, name, s.List())
			}
			must(t, s.Close())
		}
	}
}

// A plain folder that is opened with a ring has no name and no token left in its
// agents' files, its families and its catalogue, whatever was kept back; its agents
// are what they were, forks that have written nothing are still that, and the next
// turn is one record.
func TestPlainAgentsAreEncrypted(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	patterns := planted(t, s)
	kept := newActor("kept-planted")
	must(t, publish(s, kept.say(5)))
	grow(t, s, kept) // until its file is written anew, and the one before kept back
	must(t, s.Close())
	patterns = append(patterns, traces(kept.turns...)...)
	before := filesOf(t, fsys, "/data/agents")
	if !slices.Contains(before, journalPath("default", kept.id, journal.Kept)) {
		t.Fatalf("nothing is kept back in %v", before)
	}
	s = openEncrypted(t, fsys)
	must(t, s.Flush(t.Context()))
	for _, dir := range []string{"/data/agents", "/data/families"} {
		if in := folderHolds(t, fsys, dir, patterns...); len(in) > 0 {
			t.Errorf("in clear after the start: %v", in)
		}
	}
	if turn, err := standsAt(s, kept); err != nil || turn != len(kept.turns) {
		t.Errorf("%s is at turn %d of %d: %v", kept.id, turn, len(kept.turns), err)
	}
	if left := filesOf(t, fsys, "/data/agents"); slices.Contains(left, journalPath("default", "fork-planted", journal.Name)) {
		t.Errorf("a fork that has written nothing has a file: %v", left)
	}
	must(t, publish(s, kept.say(3)))
	must(t, s.Check())
	must(t, s.Close())
	if in := folderHolds(t, fsys, "/data/agents", patterns...); len(in) > 0 {
		t.Errorf("in clear at the end: %v", in)
	}
	s = openEncrypted(t, fsys)
	if turn, err := standsAt(s, kept); err != nil || turn != len(kept.turns) || len(s.List()) != 6 {
		t.Errorf("%s is at turn %d of %d, %d agents: %v", kept.id, turn, len(kept.turns), len(s.List()), err)
	}
	must(t, s.Check())
	must(t, s.Close())
}

// The process dies, or power is lost, at every operation while a plain folder
// becomes an encrypted one: no agent loses a turn, and the next start ends it.
func TestDeathWhileAgentsAreEncrypted(t *testing.T) {
	plain := vfs.NewCrashable()
	s := open(t, plain)
	sc := newFamily()
	sc.turn(s, sc.ada, 6)
	sc.forkTo(s, &sc.bob)
	sc.forkTo(s, &sc.eve)
	sc.pin(s, "bob")
	sc.turn(s, sc.eve, 7)
	sc.turn(s, sc.ada, 3)
	must(t, errors.Join(sc.errs...))
	must(t, s.Close())
	die := func(at int64) (*vfs.Crashable, int64) {
		inner := vfs.NewCrashable()
		copyFiles(t, plain, "/data", inner, "/data")
		fsys := vfs.NewFailing(inner, until(at))
		if s, err := Open(encrypted(t, fsys, 'm')); err == nil {
			_ = s.Flush(t.Context())
			_ = s.Close()
		}
		return inner, fsys.Ops()
	}
	_, ops := die(forever)
	for at := range ops + 1 {
		for _, power := range []bool{true, false} {
			inner, _ := die(at)
			inner = ended(inner, power, at)
			s := openEncrypted(t, inner)
			found, err := sc.holds(s)
			if err != nil || fmt.Sprint(found) != "map[ada:2 bob:1 eve:2]" {
				t.Fatalf("operation %d of %d, power %v: found %v: %v", at, ops, power, found, err)
			}
			must(t, s.Close())
			if in := folderHolds(t, inner, "/data/agents", []byte("default"), []byte("tiny")); len(in) > 0 {
				t.Fatalf("operation %d of %d, power %v: in clear are %v", at, ops, power, in)
			}
		}
	}
}

// The disk is full while a plain folder is to become an encrypted one: the agents
// stay as they are, their next turn encrypts them, and so does the next start.
func TestNoSpaceToEncryptAgents(t *testing.T) {
	inner := vfs.NewCrashable()
	s := open(t, inner)
	sc := newScript()
	sc.turn(s, sc.ada, 6)
	sc.forkTo(s, &sc.eve)
	sc.turn(s, sc.bob, 6)
	must(t, s.Close())
	var full atomic.Bool
	full.Store(true)
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite && (strings.Contains(op.String(), "/agents/") || strings.Contains(op.String(), "/families/")) {
			return errDead
		}
		return nil
	})
	s, err := Open(encrypted(t, fsys, 'm'))
	must(t, err)
	must(t, s.Flush(t.Context()))
	_, err = sc.holds(s)
	must(t, err)
	full.Store(false)
	sc.turn(s, sc.ada, 3)
	must(t, errors.Join(sc.errs...))
	_, err = sc.holds(s)
	must(t, err)
	if in := folderHolds(t, inner, journalPath("default", "ada", ""), []byte("default")); len(in) > 0 {
		t.Errorf("after a turn in clear: %v", in)
	}
	if in := folderHolds(t, inner, "/data/agents", []byte("default")); len(in) != 1 {
		t.Errorf("nobody but bob should be in clear: %v", in)
	}
	must(t, s.Close())
	s, err = Open(encrypted(t, fsys, 'm'))
	must(t, err)
	_, err = sc.holds(s)
	must(t, err)
	must(t, s.Close())
	for _, dir := range []string{"/data/agents", "/data/families"} {
		if in := folderHolds(t, inner, dir, []byte("default")); len(in) > 0 {
			t.Errorf("in clear after the next start: %v", in)
		}
	}
}

// keyPath is the key's file of a namespace.
func keyPath(namespace string) string {
	d := keyring.DigestOf(namespace)
	return fmt.Sprintf("/data/keys/%x", d[:])
}

// The key of a namespace is gone: its agents are not there, their folders and
// families are listed with the reason, others are as they were. When the file comes
// back they are there again; to erase the namespace leaves nothing of them.
func TestKeyIsGone(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := openEncrypted(t, fsys)
	ada, max := newActor("ada"), newActor("max")
	must(t, publish(s, ada.say(6)))
	m, err := publishIn(s, "team", max.say(8))
	must(t, err)
	m.ID, m.Parent = "mia", "max"
	must(t, s.Fork(t.Context(), m))
	must(t, s.Close())
	key, err := vfs.ReadFile(fsys, keyPath("team"))
	must(t, err)
	must(t, fsys.Remove(keyPath("team")))
	for range 2 { // the second time after an end that could not list them
		s = openEncrypted(t, fsys)
		if turn, err := standsAt(s, ada); err != nil || turn != 1 || len(s.List()) != 1 {
			t.Errorf("ada is at turn %d, listed are %+v: %v", turn, s.List(), err)
		}
		var reasons []string
		for _, d := range s.Damaged() {
			reasons = append(reasons, d.Where[:len("/data/agents")]+" "+d.Reason[strings.LastIndex(d.Reason, ": ")+2:]+d.ID)
		}
		slices.Sort(reasons)
		if got := strings.Join(reasons, "\n"); got != "/data/agents the key of its namespace is gone\n/data/famili the key of its namespace is gone" {
			t.Errorf("damaged are\n%s", got)
		}
		if err := s.Delete("team", "max"); !errors.Is(err, ErrNoAgent) {
			t.Errorf("delete: %v", err)
		}
		must(t, s.Check())
		must(t, s.Close())
		if said := findings(t, fsys, true); said != "" {
			t.Errorf("verify without a key found\n%s", said)
		}
	}
	back := vfs.NewCrashable()
	copyFiles(t, fsys, "/data", back, "/data")
	must(t, vfs.WriteFile(back, keyPath("team"), key))
	s = openEncrypted(t, back)
	if got, err := s.Load("team", "mia"); err != nil || len(s.List()) != 3 || !slices.Equal(got.Tokens, m.Tokens) {
		t.Errorf("with the key again: %+v %v", s.List(), err)
	}
	must(t, s.Close())
	s = openEncrypted(t, fsys)
	must(t, s.EraseNamespace("team"))
	must(t, s.Close())
	if left := filesOf(t, fsys, "/data/agents"); len(left) != 2 || len(filesOf(t, fsys, "/data/families")) > 0 { // ada's, and the catalogue
		t.Errorf("left are %v, %v", left, filesOf(t, fsys, "/data/families"))
	}
	s = openEncrypted(t, fsys)
	if len(s.Damaged()) > 0 || len(s.List()) != 1 {
		t.Errorf("afterwards damaged %+v, listed %+v", s.Damaged(), s.List())
	}
	must(t, s.Close())
}

// A namespace of many agents, forked and not, goes in one pass: what is written and
// synced of segments does not grow with them.
func TestEraseNamespaceIsOnePass(t *testing.T) {
	costs := map[int]int64{}
	for _, n := range []int{20, 200} {
		for _, ring := range []bool{true, false} {
			inner := vfs.NewCrashable()
			var passes atomic.Int64
			fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
				if op.Kind.Changes() && strings.Contains(op.String(), "/kv/") {
					passes.Add(1)
				}
				return nil
			})
			o := options(fsys)
			if ring {
				o = encrypted(t, fsys, 'm')
			}
			o.SegmentBytes = 1 << 30
			s, err := Open(o)
			must(t, err)
			must(t, publish(s, newActor("ada").say(6)))
			for i := range n / 2 {
				m, err := publishIn(s, "team", newActor(fmt.Sprint(i)).say(8))
				must(t, err)
				m.ID, m.Parent = "of-"+m.ID, m.ID
				must(t, s.Fork(t.Context(), m))
			}
			before := passes.Load()
			must(t, s.EraseNamespace("team"))
			costs[n] = passes.Load() - before
			if costs[n] > 10 || len(s.List()) != 1 || s.Stats().Deleted != int64(n) {
				t.Errorf("ring %v, %d agents: %d changes of segments, left %d, deleted %d", ring, n, costs[n], len(s.List()), s.Stats().Deleted)
			}
			must(t, s.Check())
			must(t, s.Close())
			if in := filesOf(t, inner, "/data/agents"); len(in) != 2 || len(filesOf(t, inner, "/data/families")) > 0 {
				t.Errorf("ring %v: left are %v", ring, in)
			}
		}
	}
	if costs[20] != costs[200] {
		t.Errorf("changes of segments by agents: %v", costs)
	}
}

// The process dies at every operation of an EraseNamespace, or power is lost: the
// other namespace is as it was, and to call it again leaves nothing of this one.
func TestDeathWhileANamespaceIsErased(t *testing.T) {
	die := func(at int64) (inner *vfs.Crashable, sc *script, began, ops int64) {
		inner, sc = vfs.NewCrashable(), newScript()
		var limit atomic.Int64
		limit.Store(forever)
		fsys := vfs.NewFailing(inner, func(op vfs.Op) error { return until(limit.Load())(op) })
		s, err := Open(encrypted(t, fsys, 'm'))
		must(t, err)
		sc.turn(s, sc.ada, 6)
		m, err := publishIn(s, "team", newActor("max").say(8))
		must(t, err)
		m.ID = "mia"
		must(t, s.Fork(t.Context(), m))
		must(t, s.Flush(t.Context()))
		began = fsys.Ops()
		limit.Store(began + at)
		_ = s.EraseNamespace("team")
		ops = fsys.Ops() - began
		_ = s.Close()
		return inner, sc, began, ops
	}
	_, _, _, ops := die(forever / 2)
	for at := range ops + 1 {
		for _, power := range []bool{true, false} {
			inner, sc, _, _ := die(at)
			inner = ended(inner, power, at)
			s := openEncrypted(t, inner)
			_, err := sc.holds(s)
			must(t, err)
			for _, d := range s.Damaged() {
				if strings.Contains(d.Reason, "key") {
					t.Errorf("operation %d of %d, power %v: its key has gone first: %+v", at, ops, power, d)
				}
			}
			must(t, s.EraseNamespace("team"))
			if h := s.List(); len(h) != 1 || s.Stats().Blocks != 1 {
				t.Errorf("operation %d of %d, power %v: listed %+v, %d blocks", at, ops, power, h, s.Stats().Blocks)
			}
			must(t, s.Close())
			if left := filesOf(t, inner, "/data/agents"); len(left) != 2 || len(filesOf(t, inner, "/data/families")) > 0 || len(keysIn(filesOf(t, inner, "/data"))) != 2 {
				t.Errorf("operation %d of %d, power %v: left are %v", at, ops, power, left)
			}
		}
	}
}

// Damage of encrypted files that takes no key to see is told and repaired without
// one: torn ends are cut, a whole file of a family is put in place of the other.
func TestVerifyOfAnEncryptedFolder(t *testing.T) {
	whole := vfs.NewCrashable()
	s := openEncrypted(t, whole)
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	must(t, publish(s, ada.say(3)))
	m, err := s.Load("default", "ada")
	must(t, err)
	m.ID = "eve"
	must(t, s.Fork(t.Context(), m))
	must(t, s.Close())
	family := familyFiles(t, whole)
	agent := journalPath("default", "ada", journal.Name)
	for _, c := range []struct {
		path, want string
		edit       func([]byte) []byte
		turn       int // of ada afterwards
	}{
		{agent, "its agent stands at an earlier turn: the last ", func(b []byte) []byte { return b[:len(b)-1] }, 1},
		{agent, "its agent stands at an earlier turn: the last ", func(b []byte) []byte { return append(b, 1, 2, 3) }, 2},
		{agent, "its head sums to", flip(30), 0},
		{family[0], "its head sums to", flip(30), 2},
		{family[1], "the last ", func(b []byte) []byte { return b[:len(b)-1] }, 2},
	} {
		fsys := vfs.NewCrashable()
		copyFiles(t, whole, "/data", fsys, "/data")
		change(t, fsys, c.path, c.edit)
		for i, repair := range []bool{false, true, false} {
			said := findings(t, fsys, repair)
			if i < 2 != strings.Contains(said, c.want) && c.turn > 0 || c.turn > 0 && repair && !strings.HasSuffix(said, " true") {
				t.Errorf("%s, repair %v: found\n%s", c.path, repair, said)
			}
		}
		s := openEncrypted(t, fsys)
		got, err := s.Load("default", "ada")
		if len(got.Turns) != c.turn || (err != nil) != (c.turn == 0) {
			t.Errorf("%s: %d turns, want %d, %v", c.path, len(got.Turns), c.turn, err)
		}
		if h, ok := s.Header("default", "eve"); !ok || h.Turns != 2 {
			t.Errorf("%s: eve is %+v", c.path, h)
		}
		must(t, s.Close())
	}
}

// An agent is read in the moment between its file being replaced and that being
// known: it is what it was, not what could be read by the old length.
func TestReadWhileAgentsAreEncrypted(t *testing.T) {
	inner := vfs.NewCrashable()
	s := open(t, inner)
	sc := newScript()
	sc.turn(s, sc.ada, 6)
	sc.forkTo(s, &sc.eve)
	sc.turn(s, sc.eve, 9)
	must(t, s.Close())
	dir := strings.TrimSuffix(journalPath("default", "eve", ""), "/")
	var replaced atomic.Bool
	began, read := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpSyncDir && op.Name == dir && replaced.CompareAndSwap(false, true):
			close(began)
			<-read
		case op.Kind == vfs.OpRead && op.Name == dir+"/"+journal.Name && replaced.Load():
			once.Do(func() { close(read) })
		}
		return nil
	})
	s, err := Open(encrypted(t, fsys, 'm'))
	must(t, err)
	<-began
	if turn, err := standsAt(s, sc.eve); err != nil || turn != 2 {
		t.Errorf("eve is at turn %d: %v", turn, err)
	}
	if d := s.Damaged(); len(d) > 0 {
		t.Errorf("damaged are %+v", d)
	}
	must(t, s.Check())
	must(t, s.Close())
}
