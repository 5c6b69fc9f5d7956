package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/vfs"
)

// clock is a time that tests set.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return epoch.Add(time.Duration(c.seconds.Load()) * time.Second) }

// Tails of earlier turns are dead: a pass gives their space back, and everything
// that somebody names is read back as before, now and after a restart.
func TestCollectGivesDeadTailsBack(t *testing.T) {
	fsys := vfs.NewCrashable()
	s := open(t, fsys)
	ada := newActor("ada")
	for range 40 {
		must(t, publish(s, ada.say(1)))
	}
	must(t, s.Collect(t.Context()))
	st := s.Stats()
	if st.LiveBytes != 10*frameBytes || st.NamedBytes != st.LiveBytes || st.SegmentBytes > 2*st.LiveBytes+1200+int64(64*st.Segments) || st.Collected == 0 {
		t.Errorf("stats %+v", st)
	}
	for range 2 {
		if turn, err := standsAt(s, ada); err != nil || turn != 40 {
			t.Errorf("turn %d: %v", turn, err)
		}
		must(t, s.Check())
		must(t, s.Close())
		s = open(t, fsys)
	}
	must(t, s.Close())
}

// Readers see every block all the time while segments are rewritten below them.
func TestReadsWhileBlocksMove(t *testing.T) {
	s := open(t, vfs.NewCrashable())
	ada := newActor("ada")
	m := ada.say(20)
	must(t, publish(s, m))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, b := range blocks(m, nil) {
					if err := readBack(s, b); err != nil {
						t.Errorf("read: %v", err)
						return
					}
				}
			}
		})
	}
	bob := newActor("bob")
	for range 150 {
		must(t, publish(s, bob.say(1)))
		must(t, s.Collect(t.Context()))
	}
	close(done)
	wg.Wait()
	if s.Stats().Collected < 5 {
		t.Errorf("only %d segments were collected", s.Stats().Collected)
	}
	must(t, s.Check())
	must(t, s.Close())
}

// Over budget, blocks that nobody names go, the longest unused first; then
// nothing more goes, and Stats says by how much it is over.
func TestBudget(t *testing.T) {
	var c clock
	fsys := vfs.NewCrashable()
	o := options(fsys)
	o.Clock, o.BudgetBytes = c.now, 16*frameBytes
	s, err := Open(o)
	must(t, err)
	cached := newActor("cleo").say(12 * blockTokens)
	for i, b := range blocks(cached, func() {}) {
		s.Append(b)
		must(t, s.Flush(t.Context()))
		c.seconds.Store(int64(60 * (i + 1)))
	}
	must(t, readBack(s, blocks(cached, nil)[0])) // used again
	c.seconds.Add(60)
	ada := newActor("ada")
	must(t, publish(s, ada.say(6*blockTokens)))
	must(t, s.Collect(t.Context()))
	var left []int
	for i, key := range cached.Keys {
		if s.frames.Has(blocks(cached, nil)[i].id()) {
			left = append(left, i)
		}
		_ = key
	}
	st := s.Stats()
	if got := fmt.Sprint(left, st.OverBudget, st.Evicted, st.SegmentBytes <= o.BudgetBytes); got != "[0 7 8 9 10 11] 0 6 true" {
		t.Errorf("left, over, evicted, within = %s", got)
	}
	c.seconds.Add(600)
	must(t, publish(s, ada.say(14*blockTokens)))
	c.seconds.Add(600)
	must(t, s.Collect(t.Context()))
	st = s.Stats()
	if got := fmt.Sprint(st.Blocks, st.OverBudget > 0, st.NamedBytes == 20*frameBytes); got != "20 true true" {
		t.Errorf("blocks, over, named = %s", got)
	}
	if turn, err := standsAt(s, ada); err != nil || turn != 2 {
		t.Errorf("turn %d: %v", turn, err)
	}
	must(t, s.Check())
	must(t, s.Close())
}

// Of what was used at the same time the end goes before the beginning: without that
// nothing behind it is of use.
func TestBudgetKeepsBeginnings(t *testing.T) {
	var c clock
	o := options(vfs.NewCrashable())
	o.Clock, o.BudgetBytes = c.now, 12*frameBytes
	s, err := Open(o)
	must(t, err)
	cached := newActor("cleo").say(16 * blockTokens)
	for _, b := range blocks(cached, func() {}) {
		s.Append(b)
	}
	must(t, s.Flush(t.Context()))
	c.seconds.Add(60)
	must(t, s.Collect(t.Context()))
	left := 0
	for left < 16 && s.Has(cached.Keys[left], 0) {
		left++
	}
	if left < 4 || left != s.Stats().Blocks {
		t.Errorf("%d blocks are left, of which the first %d follow each other", s.Stats().Blocks, left)
	}
	must(t, s.Close())
}

// Blocks of another KV format count, and go first, where no agent names any of
// their segment; with what an agent names the budget stays passed.
func TestBudgetCountsOtherFormats(t *testing.T) {
	var c clock
	fsys := vfs.NewCrashable()
	o := options(fsys)
	o.Clock = c.now
	s, err := Open(o)
	must(t, err)
	ada := newActor("ada")
	must(t, publish(s, ada.say(4*blockTokens))) // a segment of its own
	other := newActor("cleo").say(8 * blockTokens)
	for _, b := range blocks(other, func() {}) {
		s.Append(b)
	}
	must(t, s.Close())
	before := sizeOf(t, fsys, "/data/kv")

	o.KVFingerprint, o.BudgetBytes = "0f0f", before+frameBytes
	s, err = Open(o)
	must(t, err)
	bob := newActor("bob").say(6 * blockTokens)
	for _, b := range blocks(bob, func() {}) {
		s.Append(b)
	}
	must(t, s.Collect(t.Context()))
	if st := s.Stats(); st.Blocks != 6 || st.OverBudget != 0 || st.Evicted == 0 {
		t.Errorf("%d of bob's 6 blocks are there, %d bytes over budget, %d evicted", st.Blocks, st.OverBudget, st.Evicted)
	}
	if after := sizeOf(t, fsys, "/data/kv/"+fingerprint); after >= before/2 {
		t.Errorf("the other format takes %d bytes, took %d", after, before)
	}
	must(t, s.Close())
	s = open(t, fsys)
	if turn, err := standsAt(s, ada); err != nil || turn != 1 {
		t.Errorf("ada is at turn %d: %v", turn, err)
	}
	must(t, s.Close())
}

// sizeOf is what the segments below a folder take.
func sizeOf(t *testing.T, fsys vfs.FS, dir string) (total int64) {
	t.Helper()
	infos, err := fsys.ReadDir(dir)
	must(t, err)
	for _, info := range infos {
		switch {
		case info.Dir:
			total += sizeOf(t, fsys, dir+"/"+info.Name)
		case strings.HasSuffix(info.Name, ".seg"):
			total += info.Size
		}
	}
	return total
}

// When a block was last used is known after a restart.
func TestUsesAreKept(t *testing.T) {
	var c clock
	fsys := vfs.NewCrashable()
	o := options(fsys)
	o.Clock = c.now
	s, err := Open(o)
	must(t, err)
	cached := newActor("cleo").say(12 * blockTokens)
	for _, b := range blocks(cached, func() {}) {
		s.Append(b)
	}
	must(t, s.Flush(t.Context()))
	c.seconds.Store(4000)
	must(t, readBack(s, blocks(cached, nil)[0]))
	must(t, s.Close())
	o.BudgetBytes = 4 * frameBytes
	s, err = Open(o)
	must(t, err)
	c.seconds.Add(60)
	must(t, s.Collect(t.Context()))
	if !s.Has(cached.Keys[0], 0) || s.Stats().Blocks != 3 {
		t.Errorf("%d blocks, the used one is there: %v", s.Stats().Blocks, s.Has(cached.Keys[0], 0))
	}
	must(t, s.Close())
}

// shrinking is a disk whose free bytes a test sets.
type shrinking struct {
	vfs.FS
	free *atomic.Int64
}

func (d shrinking) Free(string) (uint64, error) { return uint64(d.free.Load()), nil }

// Near the end of the disk blocks are dropped and turns refused by name, until
// there is room again.
func TestMinFree(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	o := options(shrinking{vfs.NewCrashable(), &free})
	o.MinFreeBytes = 10 << 20
	s, err := Open(o)
	must(t, err)
	ada := newActor("ada")
	must(t, publish(s, ada.say(6)))
	free.Store(10<<20 + 20)
	if err := publish(s, ada.say(6)); !errors.Is(err, ErrNoSpace) {
		t.Errorf("publish: %v", err)
	}
	if err := s.Publish(t.Context(), Manifest{Namespace: "default", ID: "new"}, nil); !errors.Is(err, ErrNoSpace) {
		t.Errorf("publish without frames: %v", err)
	}
	if st := s.Stats(); st.Dropped != 2 || len(s.List()) != 1 {
		t.Errorf("dropped %d, agents %v", st.Dropped, s.List())
	}
	free.Store(1 << 30)
	must(t, publish(s, ada.say(6)))
	if turn, err := standsAt(s, ada); err != nil || turn != 3 {
		t.Errorf("turn %d: %v", turn, err)
	}
	must(t, s.Check())
	must(t, s.Close())
}

// Collecting that fails leaves everything where it was, and is tried again when
// asked for.
func TestCollectFails(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	inner := vfs.NewCrashable()
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if bad.Load() && op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, ".seg") {
			return errDead
		}
		return nil
	})
	s := open(t, fsys)
	ada := newActor("ada")
	for range 10 {
		must(t, publish(s, ada.say(1)))
	}
	if err := s.Collect(t.Context()); !errors.Is(err, errDead) {
		t.Errorf("collect: %v", err)
	}
	if turn, err := standsAt(s, ada); err != nil || turn != 10 {
		t.Errorf("turn %d: %v", turn, err)
	}
	bad.Store(false)
	must(t, s.Collect(t.Context()))
	if turn, err := standsAt(s, ada); err != nil || turn != 10 {
		t.Errorf("turn %d: %v", turn, err)
	}
	must(t, s.Check())
	must(t, s.Close())
	if err := s.Collect(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
