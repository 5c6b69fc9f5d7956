package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mneme/internal/quant"
	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/vfs"
)

// kvBytes is a block of 64 tokens as SmolLM2 has it in q4.
const kvBytes = 64 * 30 * 2 * 3 * 64 * 9 / 16

// large publishes an agent of n tokens with frames of a real model's size.
func large(t *testing.T, s *Store, id string, n int) *actor {
	t.Helper()
	a := newActor(id)
	a.blockTokens = 64
	m := a.say(n)
	some := func(dst []byte) { dst[0] = 1 }
	for _, b := range blocks(m, func() {}) {
		b.SizeBytes, b.Copy = kvBytes, some
		s.Append(b)
	}
	open := m.Tokens[len(m.Keys)*64:]
	must(t, s.Publish(t.Context(), m, []TailBlock{{Form: quant.KVF16, Tokens: open, SizeBytes: kvBytes, Copy: some}}))
	return a
}

// onDisk is what a folder takes: the sizes of its files, and as du counts them,
// in blocks of 4 KiB with one for each folder.
func onDisk(t *testing.T, fsys vfs.FS, dir string) (fileBytes, blockBytes int64) {
	t.Helper()
	infos, err := fsys.ReadDir(dir)
	must(t, err)
	blockBytes = 4096
	for _, info := range infos {
		if info.Dir {
			f, b := onDisk(t, fsys, dir+"/"+info.Name)
			fileBytes, blockBytes = fileBytes+f, blockBytes+b
			continue
		}
		fileBytes += info.Size
		blockBytes += (info.Size + 4095) / 4096 * 4096
	}
	return fileBytes, blockBytes
}

func heapBytes() int64 {
	var st runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&st)
	return int64(st.HeapAlloc)
}

// forks makes n forks of an agent.
func forks(t testing.TB, s *Store, from string, n int) {
	t.Helper()
	m, err := s.Load("default", from)
	must(t, err)
	for i := range n {
		m.ID, m.Parent = fmt.Sprint("fork-", i), from
		must(t, s.Fork(t.Context(), m))
	}
}

// A hundred forks of an agent of 3,000 tokens take less than a hundredth of what
// it takes, in files, in blocks of the disk, and in memory.
func TestForksAreCheap(t *testing.T) {
	o := options(vfs.Real())
	o.Dir = t.TempDir()
	o.SegmentBytes, o.QueueBytes = 1<<30, 1<<30
	s, err := Open(o)
	must(t, err)
	large(t, s, "ada", 3000)
	must(t, s.Close())
	files, blocks := onDisk(t, o.FS, o.Dir)

	s, err = Open(o)
	must(t, err)
	_, err = s.Load("default", "ada")
	must(t, err)
	heap := heapBytes()
	forks(t, s, "ada", 100)
	heap = heapBytes() - heap
	frames := s.Stats().WrittenFrames
	must(t, s.Close())
	moreFiles, moreBlocks := onDisk(t, o.FS, o.Dir)
	moreFiles, moreBlocks = moreFiles-files, moreBlocks-blocks
	share := func(n int64) float64 { return 100 * float64(n) / float64(files) }
	t.Logf("%d bytes; 100 forks add %d in files (%.2f %%), %d on disk (%.2f %%), %d in memory (%.2f %%)",
		files, moreFiles, share(moreFiles), moreBlocks, share(moreBlocks), heap, share(heap))
	if 100*moreFiles >= files || 100*moreBlocks >= blocks || frames != 0 {
		t.Errorf("100 forks add %d bytes to %d, %d on disk to %d, and %d frames", moreFiles, files, moreBlocks, blocks, frames)
	}
	if 100*heap >= files {
		t.Errorf("100 forks take %d bytes of memory, the agent %d", heap, files)
	}
}

// Forks survive a restart, with the catalogue, without, and after power was lost;
// each goes on by itself, and their turns cost what is new.
func TestForksGoOnByThemselves(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada := newActor("ada")
	must(t, publish(s, ada.say(3*blockTokens+2)))
	forks(t, s, "ada", 20)
	all := []*actor{ada}
	for i := range 20 {
		all = append(all, forkOf(ada, fmt.Sprint("fork-", i)))
	}
	stand := func(when string) {
		t.Helper()
		for _, a := range all {
			if turn, err := standsAt(s, a); err != nil || turn != len(a.turns) {
				t.Errorf("%s: %s is at turn %d of %d: %v", when, a.id, turn, len(a.turns), err)
			}
		}
		must(t, s.Check())
	}
	stand("forked")
	must(t, s.Close())
	s = open(t, fsys)
	stand("after a restart")
	for i, a := range all[:11] {
		must(t, publish(s, a.say(1+i%5)))
	}
	stand("some with a turn")
	crashed := fsys.Crash(rng(1, 1))
	_ = s.Close()
	s = open(t, crashed)
	stand("after power was lost")
	must(t, s.Close())
	must(t, crashed.Remove(cataloguePath))
	s = open(t, crashed)
	for range 3 {
		must(t, publish(s, all[3].say(4)))
	}
	stand("without the catalogue")
	must(t, s.Close())
	info, err := crashed.Stat(journalPath("default", "fork-0", journal.Name))
	must(t, err)
	if info.Size > 400 {
		t.Errorf("the file of a fork with one token of its own has %d bytes", info.Size)
	}
}

// A name can be forked to once; a manifest that names what is not stored is not
// forked.
func TestForkRefuses(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	defer s.Close()
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	m, err := s.Load("default", "ada")
	must(t, err)
	if err := s.Fork(t.Context(), m); !errors.Is(err, ErrAgentExists) {
		t.Errorf("fork to a name that is taken: %v", err)
	}
	m.ID, m.Keys = "eve", []format.Manifest{m}[0].Keys[:1:1]
	m.Keys = append(m.Keys, scope.Root())
	if err := s.Fork(t.Context(), m); !errors.Is(err, ErrMissing) {
		t.Errorf("fork of what is not stored: %v", err)
	}
	if l := s.List(); len(l) != 1 {
		t.Errorf("agents %v", l)
	}
}

// counting tells how many bytes were written and how many syncs asked for.
type counting struct{ bytes, syncs atomic.Int64 }

func (c *counting) of(fsys vfs.FS) vfs.FS {
	return vfs.NewFailing(fsys, func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpWrite:
			c.bytes.Add(int64(op.Bytes))
		case vfs.OpSync, vfs.OpSyncDir:
			c.syncs.Add(1)
		}
		return nil
	})
}

func (c *counting) take() string {
	return fmt.Sprint(c.bytes.Swap(0) < 256, " ", c.syncs.Swap(0))
}

// To fork once more, and to pin, costs a small record, whether an agent has a file
// of its own or none; who is pinned is known after a restart.
func TestPinsLast(t *testing.T) {
	var c counting
	inner := vfs.NewCrashable()
	s := open(t, c.of(inner))
	ada := newActor("ada")
	must(t, publish(s, ada.say(20*blockTokens)))
	forks(t, s, "ada", 2)
	m, err := s.Load("default", "ada")
	must(t, err)
	c.take()
	m.ID = "eve"
	must(t, s.Fork(t.Context(), m))
	if got := c.take(); got != "true 2" {
		t.Errorf("fork: small, syncs = %s", got)
	}
	for _, id := range []string{"ada", "fork-1", "eve"} {
		m, err := s.Load("default", id)
		must(t, err)
		m.Pinned = true
		c.take()
		must(t, s.Publish(t.Context(), m, nil))
		if got, want := c.take(), map[bool]string{true: "true 1", false: "true 2"}[id == "ada"]; got != want {
			t.Errorf("pin %s: small, syncs = %s", id, got)
		}
	}
	for _, catalogue := range []bool{true, false} {
		must(t, s.Close())
		if !catalogue {
			must(t, inner.Remove(cataloguePath))
		}
		s = open(t, inner)
		var pinned []string
		for _, h := range s.List() {
			m, err := s.Load("default", h.ID)
			must(t, err)
			pinned = append(pinned, fmt.Sprint(h.ID, " ", h.Pinned, " ", m.Pinned))
		}
		if got := strings.Join(pinned, " "); got != "ada true true eve true true fork-0 false false fork-1 true true" {
			t.Errorf("catalogue %v: %s", catalogue, got)
		}
	}
	must(t, s.Close())
}

func familyFiles(t *testing.T, fsys vfs.FS) (paths []string) {
	t.Helper()
	infos, err := fsys.ReadDir("/data/families")
	must(t, err)
	for _, info := range infos {
		paths = append(paths, "/data/families/"+info.Name)
	}
	return paths
}

// familyOfThree is a closed folder without a catalogue: ada, two forks that have
// nothing of their own, and one with a turn.
func familyOfThree(t *testing.T) (fsys *vfs.Crashable, all []*actor) {
	t.Helper()
	fsys = vfs.NewCrashable()
	s := open(t, fsys)
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	forks(t, s, "ada", 3)
	all = []*actor{ada}
	for i := range 3 {
		all = append(all, forkOf(ada, fmt.Sprint("fork-", i)))
	}
	must(t, publish(s, all[3].say(5)))
	must(t, s.Close())
	must(t, fsys.Remove(cataloguePath))
	return fsys, all
}

// Of a family's two files one is enough: damaged, cut or gone in the other, all
// agents are there, it is said and made good.
func TestOneFamilyFileIsEnough(t *testing.T) {
	whole, all := familyOfThree(t)
	paths := familyFiles(t, whole)
	size, err := whole.Stat(paths[0])
	must(t, err)
	for _, path := range paths {
		for at := range size.Size {
			for _, edit := range []func([]byte) []byte{flip(int(at)), func(b []byte) []byte { return b[:at] }} {
				fsys := vfs.NewCrashable()
				copyFiles(t, whole, "/data", fsys, "/data")
				change(t, fsys, path, edit)
				if got := findings(t, fsys, at%2 == 0); !strings.Contains(got, "3 members are known "+fmt.Sprint(at%2 == 0)) {
					t.Errorf("%s at %d: found\n%s", path, at, got)
				}
				s := open(t, fsys)
				for _, a := range all {
					if turn, err := standsAt(s, a); err != nil || turn != len(a.turns) {
						t.Errorf("%s at %d: %s is at turn %d: %v", path, at, a.id, turn, err)
					}
				}
				if told := len(s.Damaged()) == 1; told != (at%2 == 1) {
					t.Errorf("%s at %d: told %v", path, at, s.Damaged())
				}
				must(t, s.Check())
				must(t, s.Close())
				if got := findings(t, fsys, false); got != "" {
					t.Errorf("%s at %d: then found\n%s", path, at, got)
				}
			}
		}
	}
}

// With the same damage in both files an agent is what was written, or is damaged
// or gone and it is said; what is left goes on, and can be deleted.
func TestBothFamilyFilesDamaged(t *testing.T) {
	whole, all := familyOfThree(t)
	paths := familyFiles(t, whole)
	size, err := whole.Stat(paths[0])
	must(t, err)
	listed := map[int]int{}
	for at := range size.Size {
		fsys := vfs.NewCrashable()
		copyFiles(t, whole, "/data", fsys, "/data")
		for _, path := range paths {
			change(t, fsys, path, flip(int(at)))
		}
		s := open(t, fsys)
		damaged := 0
		for _, a := range all {
			if err := unharmed(s, a); err != nil {
				t.Errorf("byte %d: %s: %v", at, a.id, err)
			}
			if h, ok := s.Header("default", a.id); ok && h.Damaged != "" {
				damaged++
			}
		}
		listed[damaged]++
		if len(s.Damaged()) == 0 {
			t.Errorf("byte %d: nothing is told", at)
		}
		for _, h := range s.List() {
			must(t, s.Delete(h.Namespace, h.ID))
		}
		if left := familyFiles(t, fsys); len(s.List()) > 0 || at > 100 && len(left) > 0 {
			t.Errorf("byte %d: left %v, %v", at, s.List(), left)
		}
		must(t, s.Close())
	}
	if listed[3] == 0 || listed[0] == 0 { // the common part; a member's record
		t.Errorf("damaged agents listed: %v", listed)
	}
}

// A fork whose own file cannot be read stands where it was forked.
func TestDamagedForkFallsBackToItsFamily(t *testing.T) {
	fsys, all := familyOfThree(t)
	fork := all[3]
	change(t, fsys, journalPath("default", fork.id, journal.Name), flip(60))
	for range 2 {
		s := open(t, fsys)
		if turn, err := standsAt(s, fork); err != nil || turn != 1 || len(s.Damaged()) != 1 || s.Damaged()[0].ID != fork.id {
			t.Errorf("turn %d: %v, damaged %v", turn, err, s.Damaged())
		}
		must(t, s.Close())
	}
	s := open(t, fsys)
	must(t, publish(s, fork.say(3)))
	must(t, s.Check())
	must(t, s.Close())
	must(t, fsys.Remove(cataloguePath))
	s = open(t, fsys)
	if turn, err := standsAt(s, fork); err != nil || turn != 3 || len(s.Damaged()) != 0 {
		t.Errorf("turn %d: %v, damaged %v", turn, err, s.Damaged())
	}
	must(t, s.Close())
}

// A family that goes while the store runs makes its members damaged, by name.
func TestFamilyLostUnderWay(t *testing.T) {
	fsys, all := familyOfThree(t)
	s := open(t, fsys)
	for _, path := range familyFiles(t, fsys) {
		must(t, fsys.Remove(path))
	}
	if err := s.Check(); err == nil {
		t.Error("Check finds nothing")
	}
	for _, a := range all[1:] {
		var damaged *DamagedError
		if _, err := s.Load("default", a.id); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", a.id, err)
		}
		if h, _ := s.Header("default", a.id); h.Damaged == "" {
			t.Errorf("%s is listed as %+v", a.id, h)
		}
	}
	must(t, publish(s, all[1].say(3)))
	must(t, s.Delete("default", all[2].id))
	must(t, s.Close())
	s = open(t, fsys)
	if turn, err := standsAt(s, all[1]); err != nil || turn != 2 || len(s.List()) != 3 {
		t.Errorf("turn %d: %v; %v", turn, err, s.List())
	}
	must(t, s.Close())
}

// When a fork is deleted no byte names it any more, whether it had a file of its
// own or not; the family stays for the others, without its parent, and goes with
// the last.
func TestDeleteOfForksLeavesNoByte(t *testing.T) {
	fsys, all := familyOfThree(t)
	s := open(t, fsys)
	for i, a := range all {
		must(t, s.Delete("default", a.id))
		name := []byte(a.id)
		if a == all[0] {
			name = []byte("no parent's name") // forks say whose they are
		}
		digest := []byte(hex.EncodeToString([]byte(a.id)))
		if found := folderHolds(t, fsys, "/data", name, digest); len(found) > 0 {
			t.Errorf("%v name %s", found, a.id)
		}
		for _, other := range all[i+1:] {
			if turn, err := standsAt(s, other); err != nil || turn != len(other.turns) {
				t.Errorf("without %s, %s is at turn %d: %v", a.id, other.id, turn, err)
			}
		}
		must(t, s.Check())
	}
	if left := slices.Concat(familyFiles(t, fsys), folderHolds(t, fsys, "/data", traces(all[3].turns...)...)); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if st := s.Stats(); st.Blocks != 0 || st.AgentBytes != 0 {
		t.Errorf("stats %+v", st)
	}
	must(t, s.Close())
}

// A delete of a fork that dies anywhere is finished by the next start, be it the
// only one or not.
func TestDeleteOfAForkCutShortIsFinished(t *testing.T) {
	for _, id := range []string{"fork-0", "fork-2"} { // without a file of its own, and with
		for _, alone := range []bool{false, true} {
			for at := int64(1); !deleteForkUntil(t, id, alone, at); at++ {
			}
		}
	}
}

// deleteForkUntil has the process die at an operation of a fork's delete, and
// tells whether that was over by then.
func deleteForkUntil(t *testing.T, id string, alone bool, at int64) (done bool) {
	t.Helper()
	inner, all := familyOfThree(t)
	s := open(t, inner)
	for _, a := range all {
		if alone && a.id != id {
			must(t, s.Delete("default", a.id))
		}
	}
	must(t, s.Close())
	var n atomic.Int64
	var armed atomic.Bool
	s = open(t, vfs.NewFailing(inner, func(op vfs.Op) error {
		if armed.Load() && n.Add(1) >= at {
			return errDead
		}
		return nil
	}))
	must(t, s.Collect(t.Context()))
	armed.Store(true)
	done = s.Delete("default", id) == nil && n.Load() < at
	_ = s.Close()
	after := inner.Crash(rng(5, at))
	s = open(t, after)
	must(t, s.Flush(t.Context()))
	for _, a := range all {
		turn, err := standsAt(s, a)
		must(t, err)
		switch {
		case a.id != id && turn != len(a.turns) && !alone, a.id == id && done && turn != 0:
			t.Errorf("delete of %s died at operation %d: %s is at turn %d", id, at, a.id, turn)
		case a.id == id && turn == 0:
			if found := folderHolds(t, after, "/data", []byte(id)); len(found) > 0 {
				t.Errorf("delete of %s died at operation %d: %v name it", id, at, found)
			}
			if left := familyFiles(t, after); alone && len(left) > 0 {
				t.Errorf("delete of %s died at operation %d: %v are left", id, at, left)
			}
		}
	}
	must(t, s.Check())
	must(t, s.Close())
	return done
}

// An export of a fork is whole, and can be had back where its family never was.
func TestForksAreExported(t *testing.T) {
	fsys, all := familyOfThree(t)
	s := open(t, fsys)
	for _, a := range []*actor{all[1], all[3]} {
		m, err := s.Load("default", a.id)
		must(t, err)
		var file bytes.Buffer
		must(t, s.Export(&file, m, true))
		in, err := imported(file.Bytes())
		must(t, err)
		other := open(t, vfs.NewCrashable())
		must(t, adopt(other, in))
		if turn, err := standsAt(other, a); err != nil || turn != len(a.turns) {
			t.Errorf("%s is at turn %d: %v", a.id, turn, err)
		}
		must(t, other.Close())
	}
	must(t, s.Close())
}

// Forks, their turns, reads, deletes and checks at the same time see only whole
// things.
func TestForksAtOnce(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada := newActor("ada")
	must(t, publish(s, ada.say(9)))
	m, err := s.Load("default", "ada")
	must(t, err)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := range 6 {
				fork, mine := forkOf(ada, fmt.Sprint("fork-", i, "-", n)), m
				mine.ID, mine.Parent = fork.id, "ada"
				err := s.Fork(context.Background(), mine)
				if err != nil {
					t.Error(err)
				}
				if n%2 == 0 {
					turn := fork.say(3 + i)
					for err = ErrMissing; errors.Is(err, ErrMissing); { // a delete takes blocks that nobody names yet
						err = publish(s, turn)
					}
				}
				if turn, standsErr := standsAt(s, fork); err != nil || standsErr != nil || turn != len(fork.turns) {
					t.Errorf("%s is at turn %d of %d: %v, %v", fork.id, turn, len(fork.turns), err, standsErr)
				}
				if n%3 == 0 {
					err = s.Delete("default", fork.id)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			s.List()
			s.Stats()
		}
	})
	wg.Wait()
	must(t, s.Check())
	must(t, s.Close())
	if got := findings(t, fsys, false); got != "" || len(s.List()) != 1+6*4 {
		t.Errorf("%d agents, found\n%s", len(s.List()), got)
	}
}
