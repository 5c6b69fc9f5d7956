package proof

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"mneme/internal/vfs"
)

// trouble is a way for a disk to fail from its n-th operation on.
type trouble struct {
	name string
	err  error
	once bool
	hits func(vfs.Op) bool
}

// needsSpace are the operations that a full disk fails.
func needsSpace(op vfs.Op) bool {
	return slices.Contains([]vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpMkdir, vfs.OpLink, vfs.OpRename}, op.Kind)
}

func anything(vfs.Op) bool { return true }

var troubles = []trouble{
	{"EIO once", syscall.EIO, true, anything},
	{"ENOSPC once", syscall.ENOSPC, true, needsSpace},
	{"ENOSPC for good", syscall.ENOSPC, false, needsSpace},
}

// hook fails the n-th operation of those that are hit; torn writes put down some
// of their bytes.
func (tr trouble) hook(n int64, off *atomic.Bool, hit *vfs.Op) func(vfs.Op) error {
	var seen atomic.Int64
	return func(op vfs.Op) error {
		if off.Load() || !tr.hits(op) {
			return nil
		}
		at := seen.Add(1)
		if at < n || at > n && tr.once {
			return nil
		}
		if at == n {
			*hit = op
		}
		err := fmt.Errorf("%w: %s: %w", errInjected, op, tr.err)
		if op.Kind == vfs.OpWrite && at == n {
			return &vfs.TornWrite{Bytes: op.Bytes / 2, Err: err}
		}
		return err
	}
}

// failures is what came of the lives of one trouble.
type failures struct {
	lives            int
	refused          int // turns, once
	unstored, failed int // turns, operations
	silent           int // lives in which nothing was said
}

// Each operation on a file fails in turn, alone or with all that need space after
// it. Every turn is answered with the tokens it would have had; what could not
// be stored is said, counted and logged; on disk each agent stands whole at what
// was acknowledged last or at what was tried since; and once the disk is well
// again all go on as if nothing had been. A turn is refused, and answered when
// asked again, only where its agent's own file could not be read.
func TestFailingDisk(t *testing.T) { each(t, proveFailingDisk) }

func proveFailingDisk(t *testing.T, c cover) {
	for _, tr := range troubles {
		ops := tr.count(t, c)
		var sum failures
		for n := 1 + int64(seedOf(t)%share); n <= ops; n += share {
			if err := tr.live(t, c, n, &sum); err != nil {
				t.Errorf("%s at operation %d: %v", tr.name, n, err)
			}
		}
		t.Logf("%s: %d lives: every turn answered, none wrong; %d turns answered and not stored, %d operations on agents failed, %d turns asked twice, %d failures (reads and closes) that made no difference",
			tr.name, sum.lives, sum.unstored, sum.failed, sum.refused, sum.silent)
	}
}

// count is how many operations of a life the trouble may hit.
func (tr trouble) count(t *testing.T, c cover) int64 {
	t.Helper()
	var n atomic.Int64
	l := newLife(undisturbed(), vfs.NewFailing(vfs.NewCrashable(), func(op vfs.Op) error {
		if tr.hits(op) {
			n.Add(1)
		}
		return nil
	}), c)
	l.live(false)
	l.leave()
	must(t, errors.Join(l.errs...))
	return n.Load()
}

func (tr trouble) live(t *testing.T, c cover, n int64, sum *failures) error {
	t.Helper()
	inner := vfs.NewCrashable()
	var off atomic.Bool
	var hit vfs.Op
	l := newLife(undisturbed(), vfs.NewFailing(inner, tr.hook(n, &off, &hit)), c)
	l.live(false)
	l.leave()
	off.Store(true)
	if left := inner.Handles(); left != 0 {
		l.errs = append(l.errs, fmt.Errorf("%d files left open", left))
	}
	sum.add(l, hit)
	return errors.Join(append(l.errs, l.endsWell(inner))...)
}

// add counts a life, and checks that what was not stored was counted and logged.
func (sum *failures) add(l *life, hit vfs.Op) {
	sum.lives++
	sum.refused += len(l.refused)
	sum.unstored += len(l.unstored)
	sum.failed += len(l.failed)
	for _, err := range l.refused {
		if !strings.Contains(err.Error(), "load agent") { // only who cannot be read is not gone on with
			l.errs = append(l.errs, err)
		}
	}
	if len(l.unstored) > 0 && (l.log.String() == "" || l.counted < int64(len(l.unstored))) {
		l.errs = append(l.errs, fmt.Errorf("%d turns not stored, counted are %d, log %q", len(l.unstored), l.counted, l.log))
	}
	if len(l.refused)+len(l.unstored)+len(l.failed) == 0 && l.log.String() == "" {
		sum.silent++
		if op := hit.Kind; op.Changes() {
			l.errs = append(l.errs, fmt.Errorf("%s failed and nobody heard of it", hit))
		}
	}
}
