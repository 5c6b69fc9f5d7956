package engine

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

// A turn of which some blocks were read and the next could not be is a restored
// one, not a hot one.
func TestPartlyRestored(t *testing.T) {
	o := rigOptions{dir: t.TempDir()}
	r := newRig(t, o)
	_, history := r.tell("ada", promptOf(400, 3), 4)
	r.stop()
	scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
	fifth := scope.Chain(history, kv.BlockTokens)[4]
	spoil(t, o.dir, fifth)
	r = newRig(t, o)
	defer r.stop()
	got, _ := r.tell("ada", history, 9)
	if got.start != StartRestored || got.usage.Cached != 4*kv.BlockTokens {
		t.Errorf("%s, cached %d of %d", got.start, got.usage.Cached, len(history))
	}
}

// A disk that does not read for a moment costs nothing; one that does not read a
// block now and will later costs only the turn between. (Four frames are read at a
// time: of eight failures in a row some meet the same.)
func TestDiskFailsForAMoment(t *testing.T) {
	for failures, cached := range map[int64]bool{1: true, 8: false} {
		var failing atomic.Int64
		o := rigOptions{dir: t.TempDir()}
		o.fs = vfs.NewFailing(vfs.Real(), func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && op.Bytes > 4096 && failing.Add(-1) >= 0 {
				return errors.New("input/output error")
			}
			return nil
		})
		r := newRig(t, o)
		_, history := r.tell("ada", promptOf(400, 3), 4)
		r.stop()
		r = newRig(t, o)
		failing.Store(failures)
		got, _ := r.tell("ada", history, 9)
		if st := r.Stats().Store; st.Quarantined != 0 || cached != (got.usage.Cached == len(history)-1) {
			t.Errorf("%d failures: cached %d of %d, %d frames forgotten", failures, got.usage.Cached, len(history), st.Quarantined)
		}
		want := r.ask(greedy(append(slices.Clone(history), promptOf(40, 9)...), 30).in("alone"))
		if !got.same(want) {
			t.Errorf("%d failures: %v, alone %v", failures, got, want)
		}
		r.stop()
	}
}

// Turns that read at the same time share the disk: what it gives to all of them
// is its rate, whoever of them waits how long.
func TestReadingRateOfMany(t *testing.T) {
	const each = 2 * time.Millisecond
	var turn = make(chan struct{}, 1) // a disk with one head
	var slow atomic.Bool
	o := rigOptions{dir: t.TempDir(), maxBatch: 8}
	o.fault = func(p FaultPoint) error {
		if p == FaultRestore && slow.Load() {
			turn <- struct{}{}
			time.Sleep(each)
			<-turn
		}
		return nil
	}
	r := newRig(t, o)
	agents := []AgentID{"a", "b", "c", "d", "e", "f"}
	for i, id := range agents {
		r.ask(greedy(promptOf(500, 3+i), 4).as(id))
	}
	r.stop()
	slow.Store(true)
	r = newRig(t, o)
	defer r.stop()
	var all []*Stream
	for i, id := range agents {
		req := greedy(append(promptOf(500, 3+i), 40), 4).as(id)
		req.Namespace = "default"
		s, err := r.Submit(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	for _, s := range all {
		for ok := true; ok; {
			_, ok = s.Next(t.Context())
		}
	}
	spec := r.pool.Spec()
	least, most := float64(spec.RunBytes(1, 2))/each.Seconds(), float64(spec.RunBytes(0, 1))/each.Seconds()
	if rate := r.Stats().RestoreRate; rate > most || rate < least/3 { // sleep takes longer than it says
		t.Errorf("%.0f bytes per second were measured of a disk that gives %.0f to %.0f", rate, least, most)
	}
}

// spoil flips a bit of a block on disk, in every group.
func spoil(t *testing.T, dir string, key kv.Key) {
	t.Helper()
	for _, name := range segmentsOf(t, dir) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 24; at+1000 < len(data); at += 64 { // where frames have their keys
			if !bytes.Equal(data[at:at+len(key)], key[:]) {
				continue
			}
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte{data[at+1000] ^ 1}, int64(at+1000))
			}
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An agent that has lost a block on disk can still be pinned, forked and rolled
// back: its tokens are known, what is missing is computed again.
func TestOperationsWithoutABlock(t *testing.T) {
	o := rigOptions{dir: t.TempDir()}
	r := newRig(t, o)
	_, first := r.tell("ada", promptOf(400, 3), 4)
	_, second := r.tell("ada", first, 5)
	r.stop()
	scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
	spoil(t, o.dir, scope.Chain(second, kv.BlockTokens)[2])
	r = newRig(t, o)
	defer r.stop()
	if _, err := r.Warm(t.Context(), "default", "ada"); err != nil { // here it is found out
		t.Fatal(err)
	}
	if n := r.Stats().Store.Quarantined; n != 1 {
		t.Fatalf("%d frames are damaged, want 1", n)
	}
	if _, err := r.Pin("default", "ada", true); err != nil {
		t.Errorf("pin: %v", err)
	}
	if info, err := r.Fork(t.Context(), "default", "ada", "bob", LastTurn); err != nil || info.Tokens != len(second) {
		t.Errorf("fork: %+v, %v", info, err)
	}
	if info, err := r.Fork(t.Context(), "default", "ada", "eve", 1); err != nil || info.Tokens != len(first) {
		t.Errorf("fork at turn 1: %+v, %v", info, err)
	}
	if info, err := r.Rollback(t.Context(), "default", "ada", 1); err != nil || info.Tokens != len(first) {
		t.Errorf("rollback: %+v, %v", info, err)
	}
	for id, history := range map[AgentID][]token.ID{"ada": first, "eve": first, "bob": second} {
		got, _ := r.tell(id, history, 9)
		want := r.ask(greedy(append(slices.Clone(history), promptOf(40, 9)...), 30).in("alone"))
		if !got.same(want) {
			t.Errorf("%s: %v, alone %v", id, got, want)
		}
	}
}

// To warm an agent is asked for: its blocks are read however slow that is. One of
// which nothing can be read is not hot.
func TestWarmReads(t *testing.T) {
	var broken atomic.Bool
	o := rigOptions{dir: t.TempDir(), restore: RestoreAuto, fault: func(p FaultPoint) error {
		if p == FaultRestore && broken.Load() {
			return errors.New("cannot be read")
		}
		return nil
	}}
	r := newRig(t, o)
	r.tell("ada", promptOf(400, 3), 4)
	r.stop()
	r = newRig(t, o)
	defer r.stop()
	r.reading.Add(1, 1e9, r.now()) // a byte a second
	r.Engine.steps.Add(0, 1000, 1e9, r.now())
	broken.Store(true)
	if info, err := r.Warm(t.Context(), "default", "ada"); err != nil || info.Tier != kv.TierWarm || info.BytesHot != 0 {
		t.Errorf("warmed of nothing: %s with %d bytes, %v", info.Tier, info.BytesHot, err)
	}
	broken.Store(false)
	if info, err := r.Warm(t.Context(), "default", "ada"); err != nil || info.Tier != kv.TierHot || info.BytesHot < 7*5000 {
		t.Errorf("warmed from a slow disk: %s with %d bytes, %v", info.Tier, info.BytesHot, err)
	}
	if st := r.Stats(); st.Recomputed != 0 {
		t.Errorf("%d blocks counted as computed again", st.Recomputed)
	}
}

// An export leaves out what turns out damaged while it is written; who imports it
// has all before, and computes the rest.
func TestImportWithoutABlock(t *testing.T) {
	o := rigOptions{dir: t.TempDir()}
	r := newRig(t, o)
	_, history := r.tell("ada", promptOf(400, 3), 4)
	r.stop()
	scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
	spoil(t, o.dir, scope.Chain(history, kv.BlockTokens)[2])
	r = newRig(t, o)
	var file bytes.Buffer
	if err := r.Export("default", "ada", true, &file); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r = newRig(t, rigOptions{})
	defer r.stop()
	info, err := r.Import(t.Context(), "default", "bob", bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil || info.Tokens != len(history) {
		t.Fatalf("import: %+v, %v", info, err)
	}
	got, _ := r.tell("bob", history, 9)
	want := r.ask(greedy(append(slices.Clone(history), promptOf(40, 9)...), 30).in("alone"))
	if !got.same(want) || got.usage.Cached != 2*kv.BlockTokens {
		t.Errorf("cached %d, %v, alone %v", got.usage.Cached, got, want)
	}
}

// An import does not run ahead of the disk: memory holds no more of it than the
// queue may.
func TestImportWaitsForTheDisk(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.tell("ada", promptOf(1500, 3), 4)
	var file bytes.Buffer
	if err := r.Export("default", "ada", true, &file); err != nil {
		t.Fatal(err)
	}
	r.stop()
	const queueBytes = 40 << 10
	var most atomic.Int64
	r = newRig(t, rigOptions{queueBytes: queueBytes, fs: vfs.NewFailing(vfs.Real(), func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".seg") && r.Engine != nil {
			time.Sleep(time.Millisecond)
			most.Store(max(most.Load(), r.store.Stats().QueuedBytes))
		}
		return nil
	})})
	defer r.stop()
	if _, err := r.Import(t.Context(), "default", "bob", bytes.NewReader(file.Bytes()), int64(file.Len())); err != nil {
		t.Fatal(err)
	}
	if n := most.Load(); n == 0 || n > 2*queueBytes {
		t.Errorf("%d bytes of %d were queued at a time, bound are %d", n, file.Len(), queueBytes)
	}
}
