package proof

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"mneme/internal/vfs"
)

// The process dies, or the power goes, at each change on disk of a life in turn;
// without power, writes that were not synced arrive whole, torn, reordered or not
// at all. What was acknowledged is there, whole, and costs nothing to go on with;
// what was under way is there whole or not at all; all that is said afterwards is
// what an undisturbed life says. What a second crash finds is no worse.
func TestCrashAnywhere(t *testing.T) { each(t, proveCrash) }

func proveCrash(t *testing.T, c cover) {
	seed := seedOf(t)
	counter := vfs.NewFailing(vfs.NewCrashable(), nil)
	l := newLife(undisturbed(), counter, c)
	l.live(true)
	l.leave()
	changes, cut := counter.Changes(), 0
	for n := 1 + int64(seed%share); n <= changes; n += share {
		for _, power := range []bool{false, true} {
			under, err := dieAt(c, n, power, seed)
			if cut += len(under); err != nil {
				t.Errorf("seed %d, change %d, power lost %t, during %v: %v", seed, n, power, under, err)
			}
		}
	}
	t.Logf("%d changes on disk, killed and without power at one in %d: %d deeds cut short, every acknowledged one there, no wrong token", changes, share, cut)
}

// dieAt lives until change n on disk; it gives the deed that was cut short.
func dieAt(c cover, n int64, power bool, seed uint64) (under []error, err error) {
	inner := vfs.NewCrashable()
	var dead atomic.Bool
	l := newLife(undisturbed(), vfs.NewFailing(inner, func(op vfs.Op) error {
		if op.Change >= n || dead.Load() {
			dead.Store(true)
			return fmt.Errorf("dead: %w", errInjected)
		}
		return nil
	}), c)
	l.live(true)
	under = append(l.unstored, l.failed...)
	l.leave()
	if l.lost = 0; power {
		inner = inner.Crash(rng(seed, n))
	} else {
		inner.Kill()
	}
	if err := errors.Join(l.errs...); err != nil || !power {
		return under, errors.Join(err, l.endsWell(inner))
	}
	h, err := open(inner, c)
	if err != nil {
		return under, err
	}
	again := inner.Crash(rng(seed, -n))
	_ = h.close()
	return under, l.endsWell(again)
}
