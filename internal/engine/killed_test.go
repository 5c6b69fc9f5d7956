package engine

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/vfs"
)

// TestKilledPrefill kills the process at a random moment of a prefill of 1,500
// tokens, twenty times. The retry finds every block that was written by then, and
// nearly all that were sealed.
func TestKilledPrefill(t *testing.T) {
	var sealed, cached int
	for seed := range uint64(20) {
		s, c := killedPrefill(t, seed)
		sealed, cached = sealed+s, cached+c
	}
	t.Logf("20 kills: %d tokens were sealed, %d of them are cached", sealed, cached)
	if cached*10 < sealed*9 || sealed < 20*200 {
		t.Errorf("of %d sealed tokens %d are cached, less than nine in ten", sealed, cached)
	}
}

// killedPrefill gives the tokens in sealed blocks at the kill, and those that
// the retry did not compute.
func killedPrefill(t *testing.T, seed uint64) (sealed, cached int) {
	rng := rand.New(rand.NewPCG(seed, 11))
	at, within := int64(1+rng.IntN(1500/kv.BlockTokens)), time.Duration(rng.IntN(2000))*time.Microsecond
	disk := vfs.NewCrashable()
	var dead atomic.Bool
	failing := vfs.NewFailing(disk, func(vfs.Op) error {
		if dead.Load() {
			return errKilled
		}
		return nil
	})
	var r *rig
	var steps atomic.Int64
	var written int
	killed := make(chan struct{})
	kill := func() {
		st := r.store.Stats()
		dead.Store(true)
		written, sealed = int(st.WrittenFrames)*kv.BlockTokens, (int(st.WrittenFrames)+st.QueuedBlocks)*kv.BlockTokens
		close(killed)
	}
	// A step takes as long as one of a real model would, at the least.
	r = newRig(t, rigOptions{fs: failing, dir: "/data", stepTokens: kv.BlockTokens, observe: func(Step) {
		if steps.Add(1) == at {
			time.AfterFunc(within, kill)
		}
		time.Sleep(2 * time.Millisecond)
	}})
	prompt := promptOf(1500, int(seed))
	s := r.submit(context.Background(), greedy(prompt, 1).as("ada"))
	<-killed
	s.Close()
	_ = r.Engine.Close()
	_ = r.store.Close() // it cannot: the process is dead
	_ = r.pool.Close()
	_ = r.model.Close()
	disk.Kill()

	r = newRig(t, rigOptions{fs: disk, dir: "/data"})
	defer r.stop()
	got := r.ask(greedy(prompt, 1).as("ada"))
	if got.turn != 1 || got.usage.Cached < written {
		t.Errorf("seed %d: turn %d, %d tokens cached, %d were written when the process was killed", seed, got.turn, got.usage.Cached, written)
	}
	return sealed, min(sealed, got.usage.Cached)
}
