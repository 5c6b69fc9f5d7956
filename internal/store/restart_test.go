package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/store/journal"
	"mneme/internal/vfs"
)

// A turn of a hundred tokens writes its sealed frames, one tail and less than a
// kilobyte more, however long the agent is.
func TestATurnCostsWhatIsNew(t *testing.T) {
	var written atomic.Int64
	fsys := vfs.NewFailing(vfs.NewCrashable(), func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			written.Add(int64(op.Bytes))
		}
		return nil
	})
	o := options(fsys)
	o.SegmentBytes = 1 << 30
	s, err := Open(o)
	must(t, err)
	ada := newActor("ada")
	ada.blockTokens = 64
	must(t, publish(s, ada.say(3000)))
	for turn := range 20 {
		before, frames := written.Load(), s.Stats().WrittenBytes
		must(t, publish(s, ada.say(100)))
		more := written.Load() - before - (s.Stats().WrittenBytes - frames)
		if more <= 0 || more > 1024 {
			t.Errorf("turn %d: %d bytes beside its frames", turn+2, more)
		}
		if turn == 19 {
			t.Logf("%d bytes beside the frames of a turn of 100 tokens", more)
		}
	}
	must(t, s.Close())
}

// crowd is a closed data folder with n agents of 300 tokens.
func crowd(t testing.TB, fsys vfs.FS, dir string, n int) Options {
	t.Helper()
	o := options(fsys)
	o.Dir = dir
	return crowdIn(t, o, n)
}

func crowdIn(t testing.TB, o Options, n int) Options {
	t.Helper()
	o.SegmentBytes = 1 << 30
	s, err := Open(o)
	must(t, err)
	for i := range n {
		a := newActor(fmt.Sprint(i))
		a.blockTokens = 64
		must(t, publish(s, a.say(300)))
	}
	must(t, s.Close())
	return o
}

// After a clean end a start reads no agent's file, and knows what is on disk.
func TestStartReadsNoAgent(t *testing.T) {
	inner := vfs.NewCrashable()
	o := crowd(t, inner, "/data", 50)
	s, err := Open(o)
	must(t, err)
	forks(t, s, "7", 10)
	must(t, s.Close())
	var opened atomic.Int64
	o.FS = vfs.NewFailing(inner, func(op vfs.Op) error {
		if op.Kind == vfs.OpOpen && (strings.HasPrefix(filepath.Base(op.Name), journal.Name) || strings.Contains(op.Name, "/families/")) {
			opened.Add(1)
		}
		return nil
	})
	s, err = Open(o)
	must(t, err)
	must(t, s.Flush(t.Context()))
	st, list := s.Stats(), s.List()
	if got := fmt.Sprint(opened.Load(), st.Agents, st.NamedBytes == st.LiveBytes, st.LiveBytes > 0, list[55].Tokens, list[55].DiskBytes > 1000, " ", list[55].ID); got != "0 60 true true 300 true fork-5" {
		t.Errorf("opened, agents, all named, bytes, tokens, on disk = %s", got)
	}
	m, err := s.Load("default", "7")
	must(t, err)
	if len(m.Tokens) != 300 || opened.Load() != 1 {
		t.Errorf("%d tokens, %d files opened", len(m.Tokens), opened.Load())
	}
	must(t, s.Close())
}

// The catalogue of a clean end is not believed once something has happened since,
// even if power is lost before the next clean end.
func TestCatalogueIsOfACleanEnd(t *testing.T) {
	for seed := range uint64(20) {
		fsys := vfs.NewCrashable()
		ada := newActor("ada")
		s := open(t, fsys)
		must(t, publish(s, ada.say(6)))
		must(t, s.Close())
		s = open(t, fsys)
		must(t, publish(s, ada.say(6)))
		fsys = fsys.Crash(rng(seed, 0))
		_ = s.Close()
		s = open(t, fsys)
		if turn, err := standsAt(s, ada); err != nil || turn != 2 {
			t.Errorf("seed %d: turn %d: %v", seed, turn, err)
		}
		must(t, s.Close())
		change(t, fsys, cataloguePath, flip(30))
		s = open(t, fsys)
		if turn, err := standsAt(s, ada); err != nil || turn != 2 {
			t.Errorf("seed %d, damaged catalogue: turn %d: %v", seed, turn, err)
		}
		must(t, s.Close())
	}
}

// Start with a thousand agents beside start with one, on real files.
func TestStartWithManyAgents(t *testing.T) {
	took := func(n int) time.Duration {
		o := crowd(t, vfs.Real(), t.TempDir(), n)
		best := time.Hour
		for range 3 {
			began := time.Now()
			s, err := Open(o)
			must(t, err)
			best = min(best, time.Since(began))
			must(t, s.Close())
		}
		return best
	}
	one, many := took(1), took(200)
	t.Logf("start with 1 agent %v, with 200 %v", one, many)
	if many > one+100*time.Millisecond {
		t.Errorf("start with 1 agent takes %v, with 200 %v", one, many)
	}
}

// Start with one agent, with a thousand, and with a thousand forks of one, after a
// clean end and after none; in a plain folder and in an encrypted one.
func BenchmarkOpen(b *testing.B) {
	for _, ring := range []bool{false, true} {
		for _, n := range []int{1, 1000, -1000} {
			for _, clean := range []bool{true, false} {
				name := fmt.Sprintf("ring=%v/agents=%d/clean=%v", ring, n, clean)
				o := benchFolder(b, ring, n)
				b.Run(name, func(b *testing.B) { benchOpen(b, o, clean) })
			}
		}
	}
}

// benchFolder has n agents, or one and that many forks of it.
func benchFolder(b *testing.B, ring bool, n int) Options {
	o := options(vfs.Real())
	o.Dir = b.TempDir()
	if ring {
		o.Ring = ringIn(b, o.FS, o.Dir, 'm')
	}
	o = crowdIn(b, o, max(1, n))
	if n < 0 {
		s, err := Open(o)
		must(b, err)
		forks(b, s, "0", -n)
		must(b, s.Close())
	}
	return o
}

func benchOpen(b *testing.B, o Options, clean bool) {
	for range b.N {
		b.StopTimer()
		if !clean {
			must(b, o.FS.Remove(filepath.Join(o.Dir, "agents", "catalogue")))
		}
		b.StartTimer()
		s, err := Open(o)
		must(b, err)
		b.StopTimer()
		must(b, s.Close())
		b.StartTimer()
	}
}

// A fork names what is there: no frame is written; both go on by themselves, and
// the shared tail lives as long as one of them names it.
func TestForkSharesFrames(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	sc := newScript()
	sc.turn(s, sc.ada, 6)
	before := s.Stats().WrittenFrames
	sc.fork(s)
	if s.Stats().WrittenFrames != before {
		t.Errorf("%d frames were written for a fork", s.Stats().WrittenFrames-before)
	}
	sc.turn(s, sc.ada, 9)
	must(t, s.Collect(t.Context()))
	if turn, err := standsAt(s, sc.eve); err != nil || turn != 1 {
		t.Errorf("fork is at turn %d: %v", turn, err)
	}
	sc.turn(s, sc.eve, 3)
	must(t, s.Delete("default", "ada"))
	must(t, s.Close())
	s = open(t, fsys)
	if turn, err := standsAt(s, sc.eve); err != nil || turn != 2 {
		t.Errorf("fork is at turn %d: %v", turn, err)
	}
	must(t, s.Check())
	must(t, s.Close())
}

// An agent can be seen as it was after each turn, and a fork from there shares
// its whole blocks.
func TestAt(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	defer s.Close()
	ada := newActor("ada")
	for _, n := range []int{6, 3, 4} { // 6, 9, 13 tokens in blocks of 4
		must(t, publish(s, ada.say(n)))
	}
	m, err := s.Load("default", "ada")
	must(t, err)
	var got []string
	for turn := -1; turn <= 4; turn++ {
		at, ok := m.At(turn)
		got = append(got, fmt.Sprint(turn, ok, len(at.Tokens), len(at.Ends), len(at.Turns), len(at.Keys), at.KVTokens, len(at.Tail)))
	}
	want := "-1 false 0 0 0 0 0 0|0 true 0 0 0 0 0 0|1 true 6 6 1 1 4 0|2 true 9 9 2 2 8 0|3 true 13 13 3 3 13 1|4 false 0 0 0 0 0 0"
	if strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
	at, _ := m.At(2)
	at.ID, at.Parent = "fork", "ada"
	must(t, s.Publish(t.Context(), at, nil))
	must(t, s.Check())
}
