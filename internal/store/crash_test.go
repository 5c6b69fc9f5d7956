package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"mneme/internal/vfs"
)

var errDead = errors.New("the process is dead")

// until lets a process live for its first n operations.
func until(n int64) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if op.N > n {
			return errDead
		}
		return nil
	}
}

// runUntil runs the script on a process that dies after n operations, and
// returns how many it would have made.
func runUntil(t *testing.T, sc *script, inner *vfs.Crashable, n int64) (*script, int64) {
	t.Helper()
	fsys := vfs.NewFailing(inner, until(n))
	s, err := Open(options(fsys))
	if err == nil {
		sc.run(s)
		_ = s.Close() // ends the goroutine of the dead process
	}
	if inner.Handles() != 0 {
		t.Errorf("death after %d operations: %d handles left", n, inner.Handles())
	}
	return sc, fsys.Ops()
}

const forever = int64(1) << 60

// histories are what is disturbed.
var histories = map[string]func() *script{"turns": newScript, "family": newFamily}

// eachHistory runs a test for each of them; ops is how many operations it makes.
func eachHistory(t *testing.T, test func(t *testing.T, begin func() *script, ops int64)) {
	for name, begin := range histories {
		t.Run(name, func(t *testing.T) {
			_, ops := runUntil(t, begin(), vfs.NewCrashable(), forever)
			test(t, begin, ops)
		})
	}
}

func TestScriptUndisturbed(t *testing.T) {
	for name, want := range map[string]string{"turns": "map[ada:4 bob:2 eve:3] []", "family": "map[ada:0 bob:1 eve:0] []"} {
		inner := vfs.NewCrashable()
		sc, ops := runUntil(t, histories[name](), inner, forever)
		s := open(t, inner)
		found, err := sc.holds(s)
		must(t, err)
		must(t, s.Close())
		if got := fmt.Sprint(found, sc.errs); got != want {
			t.Errorf("%s: found %s, want %s", name, got, want)
		}
		if ops < 100 {
			t.Errorf("%s: %d operations: too short a story", name, ops)
		}
	}
}

// Power is lost after every operation of the history, with several draws of what
// the disk had kept, and once more while the next start cleans up.
func TestPowerLossAtEveryOperation(t *testing.T) { eachHistory(t, powerLoss) }

func powerLoss(t *testing.T, begin func() *script, ops int64) {
	inTurn := 0
	for at := range ops + 1 {
		for seed := range uint64(5) {
			inner := vfs.NewCrashable()
			sc, _ := runUntil(t, begin(), inner, at)
			if sc.published["ada"] < len(sc.ada.turns) {
				inTurn++
			}
			draw := rng(seed, at)
			inner = inner.Crash(draw)
			if s, err := Open(options(vfs.NewFailing(inner, until(draw.Int64N(60))))); err == nil {
				_ = s.Close()
			}
			inner = inner.Crash(draw)
			if err := goesOn(sc, inner); err != nil {
				t.Fatalf("power lost after operation %d, seed %d: %v", at, seed, err)
			}
		}
	}
	t.Logf("%d operations, %d crashes with an unpublished turn of ada", ops, inTurn)
}

// goesOn opens what is left, checks the promise, and takes one more turn of each.
func goesOn(sc *script, inner *vfs.Crashable) error {
	s, err := Open(options(inner))
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := sc.holds(s); err != nil {
		return err
	}
	sc.errs = nil
	for _, a := range sc.actors() {
		sc.turn(s, a, 7)
	}
	sc.try(s.Collect(context.Background()))
	if err := errors.Join(sc.errs...); err != nil {
		return err
	}
	found, err := sc.holds(s)
	for _, a := range sc.actors() {
		if err == nil && found[a.id] != len(a.turns) {
			err = fmt.Errorf("after one more turn each: %v", found)
		}
	}
	return errors.Join(err, s.Close())
}

// shows checks that each agent is at exactly its published turn.
func shows(sc *script, inner *vfs.Crashable) error {
	s, err := Open(options(inner))
	if err != nil {
		return err
	}
	defer s.Close()
	found, err := sc.holds(s)
	for id, turn := range found {
		if err == nil && turn != sc.published[id] {
			err = fmt.Errorf("agent %s is at turn %d, turn %d was shown", id, turn, sc.published[id])
		}
	}
	return err
}

// The process is killed after every operation; the next one sees what was in the
// page cache, goes on, and then power is lost: what it has shown must stay.
func TestKillThenPowerLossAtEveryOperation(t *testing.T) { eachHistory(t, killThenPowerLoss) }

func killThenPowerLoss(t *testing.T, begin func() *script, ops int64) {
	for at := range ops + 1 {
		inner := vfs.NewCrashable()
		sc, _ := runUntil(t, begin(), inner, at)
		inner.Kill()
		s := open(t, inner)
		found, err := sc.holds(s)
		if err != nil {
			t.Fatalf("killed after operation %d: %v", at, err)
		}
		sc.published, sc.errs = found, nil
		sc.turn(s, sc.ada, 7)
		must(t, errors.Join(sc.errs...))
		if at%2 == 0 {
			must(t, s.Close())
		}
		seed := uint64(at)
		inner = inner.Crash(rng(seed, at))
		_ = s.Close()
		if err := shows(sc, inner); err != nil {
			t.Fatalf("killed after operation %d, then power lost, seed %d: %v", at, seed, err)
		}
		if err := goesOn(sc, inner); err != nil {
			t.Fatalf("killed after operation %d, then power lost, seed %d: %v", at, seed, err)
		}
	}
}

// Every operation fails once, alone: the process lives, nothing leaks, what
// Publish promised holds, and the next turns succeed.
func TestFailureAtEveryOperation(t *testing.T) { eachHistory(t, failures) }

func failures(t *testing.T, begin func() *script, ops int64) {
	surfaced := 0
	for at := int64(1); at <= ops; at++ {
		for _, failure := range []error{syscall.EIO, &vfs.TornWrite{Bytes: 70, Err: syscall.ENOSPC}} {
			if said, err := failOnce(begin(), at, failure); err != nil {
				t.Fatalf("operation %d fails with %v: %v", at, failure, err)
			} else if said {
				surfaced++
			}
		}
	}
	t.Logf("%d operations failed twice, %d times an error surfaced", ops, surfaced)
	if surfaced < int(ops) {
		t.Errorf("only %d errors of %d surfaced", surfaced, 2*ops)
	}
}

// failOnce runs the history with the at-th of its operations failing; those of
// looking at the result are not counted.
func failOnce(sc *script, at int64, failure error) (said bool, err error) {
	inner := vfs.NewCrashable()
	var armed atomic.Bool
	var n atomic.Int64
	armed.Store(true)
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if armed.Load() && n.Add(1) == at {
			return fmt.Errorf("%s: %w", op, failure)
		}
		return nil
	})
	s, err := Open(options(fsys))
	if err == nil {
		sc.run(s)
		said = len(sc.errs) > 0
		armed.Store(false)
		_, err = sc.holds(s)
		armed.Store(true)
		said = s.Close() != nil || said
		if err != nil {
			return said, err
		}
	} else {
		said = true
	}
	if inner.Handles() != 0 {
		return said, fmt.Errorf("%d handles left", inner.Handles())
	}
	return said, goesOn(sc, inner.Crash(rng(1, at)))
}

// A full disk fails turns until there is room again; what was published stays.
func TestDiskFullForAWhile(t *testing.T) {
	var full atomic.Bool
	inner := vfs.NewCrashable()
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if full.Load() && op.Kind == vfs.OpWrite {
			return &vfs.TornWrite{Bytes: op.Bytes / 2, Err: syscall.ENOSPC}
		}
		return nil
	})
	s := open(t, fsys)
	sc := newScript()
	sc.turn(s, sc.ada, 6)
	must(t, s.Flush(t.Context()))
	full.Store(true)
	for range 3 {
		if err := publish(s, sc.ada.say(5)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("publish on a full disk: %v", err)
		}
	}
	found, err := sc.holds(s)
	must(t, err)
	full.Store(false)
	sc.turn(s, sc.ada, 5)
	must(t, errors.Join(sc.errs...))
	after, err := sc.holds(s)
	must(t, err)
	if got := fmt.Sprint(found, after); got != "map[ada:1 bob:0 eve:0] map[ada:5 bob:0 eve:0]" {
		t.Errorf("turns while full and after: %s", got)
	}
	if st := s.Stats(); st.Segments < 2 {
		t.Errorf("the torn segment was written on: %+v", st)
	}
	if st := s.Stats(); st.Errors == 0 || st.Dropped == 0 || st.QueuedBytes != 0 {
		t.Errorf("stats %+v", st)
	}
	must(t, s.Close())
	must(t, goesOn(sc, inner))
}

// The segment is full between the two tails of a turn, and syncing it fails: the
// turn is not published though the last sync went well.
func TestTailLostWhenItsSegmentIsClosed(t *testing.T) {
	inner := vfs.NewCrashable()
	fsys := vfs.NewFailing(inner, func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && op.Name == firstSegment {
			return syscall.EIO
		}
		return nil
	})
	o := options(fsys)
	o.SegmentBytes = 300
	s, err := Open(o)
	must(t, err)
	m := newActor("ada").say(3)
	two := append(tail(m), tail(m)...)
	two[1].Group = 1
	if err := s.Publish(t.Context(), m, two); !errors.Is(err, syscall.EIO) {
		t.Errorf("published with a lost tail: %v", err)
	}
	must(t, s.Publish(t.Context(), m, two))
	must(t, s.Check())
	must(t, s.Close())
}
