package engine

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
)

// windowFile is a gemma3 whose local layers look back so many positions.
func windowFile(window int) []byte {
	shape := modeltest.Families()["gemma3"]
	shape.Window = window
	return shape.File(1)
}

// TestWindowOneAnswer: windows that end within a block, and such as are shorter
// than one, where two blocks or the own one are seen in part.
func TestWindowOneAnswer(t *testing.T) {
	for _, window := range []int{40, 100} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			oneAnswer(t, rigOptions{file: windowFile(window)}, []int{129, 300})
		})
	}
}

// heldInWindow counts the held blocks of the window group.
func (r *rig) heldInWindow() (n int) {
	for _, c := range r.pool.Stats().Classes {
		if c.Group == 1 {
			n += c.Held
		}
	}
	return n
}

// TestWindowRestore: after a restart a turn of 11 blocks reads those, and of the
// window of two blocks what its end needs; an agent holds no more than that.
func TestWindowRestore(t *testing.T) {
	o := rigOptions{file: familyFile("gemma3"), dir: t.TempDir()}
	r := newRig(t, o)
	_, history := r.tell("ada", promptOf(700, 3), 4)
	const window = 2 + 1 // blocks, and the open one
	if n := r.heldInWindow(); n != window {
		t.Errorf("a table of %d tokens holds %d blocks of its window, want %d", len(history)-1, n, window)
	}
	r.stop()
	var reads atomic.Int64
	o.fault = func(p FaultPoint) error {
		if p == FaultRestore {
			reads.Add(1)
		}
		return nil
	}
	r = newRig(t, o)
	defer func() { r.stop() }()
	got, next := r.tell("ada", history, 9)
	if got.start != StartRestored || got.usage.Cached != len(history)-1 {
		t.Errorf("%s, cached %d of %d", got.start, got.usage.Cached, len(history))
	}
	full := (len(history) - 1) / kv.BlockTokens
	if n := int(reads.Load()); n < full || n > full+window+2 { // and the open block of each group
		t.Errorf("%d blocks were read for %d whole ones", n, full)
	}
	if n := r.heldInWindow(); n > window {
		t.Errorf("a table of %d tokens holds %d blocks of its window, want %d", len(next)-1, n, window)
	}
	if want := r.ask(greedy(append(history[:len(history):len(history)], promptOf(40, 9)...), 30).in("alone")); !got.same(want) {
		t.Errorf("restored %v, alone %v", got, want)
	}
}

// TestWindowCannotServe: a common beginning whose window blocks are no longer in
// memory is read from disk, and computed again where that fails; it is never used
// without them.
func TestWindowCannotServe(t *testing.T) {
	var broken atomic.Bool
	r := newRig(t, rigOptions{file: familyFile("gemma3"), fault: func(p FaultPoint) error {
		if p == FaultRestore && broken.Load() {
			return errors.New("cannot be read")
		}
		return nil
	}})
	defer r.stop()
	common := promptOf(700, 3)
	r.tell("ada", common, 4)
	if err := r.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
	keys := scope.Chain(common, kv.BlockTokens)
	for _, c := range []struct {
		broken bool
		cached int
		start  Start
	}{{true, 0, StartUncached}, {false, 320, StartRestored}, {false, 320, StartHot}} {
		if c.start != StartHot {
			r.pool.Forget(keys) // ada holds those of the full layers and the last of the window
		}
		broken.Store(c.broken)
		got := r.ask(greedy(append(common[:340:340], promptOf(20, 8)...), 30))
		want := r.ask(greedy(append(common[:340:340], promptOf(20, 8)...), 30).in(Namespace(fmt.Sprint(c))))
		if !got.same(want) || got.usage.Cached != c.cached || got.start != c.start {
			t.Errorf("disk broken %t: %s, %v; want %s with %d cached, %v", c.broken, got.start, got, c.start, c.cached, want)
		}
	}
}

// TestWindowRollsBackAcross: an agent goes back further than its window and on
// from there, turn after turn, while others use the pool.
func TestWindowRollsBackAcross(t *testing.T) {
	r := newRig(t, rigOptions{file: familyFile("gemma3"), format: kv.FormatQ3, poolBytes: 6 << 20})
	defer r.stop()
	_, history := r.tell("ada", promptOf(900, 3), 4)
	for i, at := range []int{850, 640, 639, 400, 129, 64, 20} {
		r.ask(greedy(promptOf(1500, 30+i), 4).in("noise"))
		prompt := append(history[:at:at], promptOf(30, 70+i)...)
		got := r.ask(greedy(prompt, 20).as("ada"))
		want := r.ask(greedy(prompt, 20).in(Namespace(fmt.Sprint("alone", i))))
		if !got.same(want) {
			t.Errorf("back to %d: %v, alone %v", at, got, want)
		}
		if got.usage.Cached < at/kv.BlockTokens*kv.BlockTokens {
			t.Errorf("back to %d: %d cached", at, got.usage.Cached)
		}
		history = append(prompt[:len(prompt):len(prompt)], got.ids...)
		for len(history) < 900 { // grow again
			_, history = r.tell("ada", append(history[:len(history):len(history)], promptOf(300, 80+i)...), i)
		}
	}
}

// TestWindowLostBehind: of a running agent's passed window blocks memory has no
// copy. When one on disk turns out damaged, its turns are stored all the same: with
// the KV before it. It goes on from there after a restart, and is whole again.
func TestWindowLostBehind(t *testing.T) {
	o := rigOptions{file: familyFile("gemma3"), dir: t.TempDir()}
	r := newRig(t, o)
	_, history := r.tell("ada", promptOf(700, 3), 4)
	if err := r.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
	spoil(t, o.dir, scope.Chain(history, kv.BlockTokens)[2])
	if r.store.Check() == nil {
		t.Fatal("the damage is not found")
	}
	got, err := r.try(t.Context(), greedy(history[:720], 30).as("bob"))
	if err != nil || got.usage.Cached != 704 {
		t.Fatalf("bob's first turn: cached %d, %v", got.usage.Cached, err)
	}
	all := append(history[:720:720], got.ids...)
	second, all := r.tell("bob", all, 5) // hot: it still cannot write them
	third, err := r.Fork(t.Context(), "default", "bob", "eve", LastTurn)
	if err != nil || third.Turns != 2 || second.turn != 2 {
		t.Errorf("a fork of it: %+v, %v", third, err)
	}
	r.stop()
	r = newRig(t, o)
	for i, whole := range []bool{false, true} {
		got, next := r.tell("bob", all, 6+i)
		want := r.ask(greedy(append(all[:len(all):len(all)], promptOf(40, 6+i)...), 30).in(Namespace(fmt.Sprint("alone", i))))
		if !got.same(want) || got.turn != 3+i || whole != (got.usage.Cached == len(all)-1) {
			t.Errorf("after restart %d: turn %d %v, alone %v", i, got.turn, got, want)
		}
		r.stop()
		all, r = next, newRig(t, o)
	}
	r.stop()
}

// TestWindowRestoresInRuns: where every fourth block is in memory and the others
// are on disk, each run of these needs the blocks of a window.
func TestWindowRestoresInRuns(t *testing.T) {
	r := newRig(t, rigOptions{file: familyFile("gemma3"), stepTokens: 64})
	defer r.stop()
	_, history := r.tell("ada", promptOf(1500, 3), 4)
	if err := r.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.roster.Set(keyOf("default", "ada"), nil) // its blocks are cached
	scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
	for i, key := range scope.Chain(history, kv.BlockTokens) {
		if i%4 != 3 {
			r.pool.Forget([]kv.Key{key})
		}
	}
	got, _ := r.tell("ada", history, 9)
	want := r.ask(greedy(append(history[:len(history):len(history)], promptOf(40, 9)...), 30).in("alone"))
	if !got.same(want) || got.start != StartRestored || got.usage.Cached != len(history)-1 {
		t.Errorf("%s, cached %d of %d; %v, alone %v", got.start, got.usage.Cached, len(history), got, want)
	}
}

// TestDeleteSparesRunningTurns: what a turn under way has sealed stays on disk when
// another agent of its namespace is deleted, also where its windows have passed.
func TestDeleteSparesRunningTurns(t *testing.T) {
	var remove atomic.Bool
	o := rigOptions{file: familyFile("gemma3"), dir: t.TempDir()}
	var r *rig
	o.fault = func(p FaultPoint) error {
		if p == FaultSave && remove.CompareAndSwap(true, false) {
			return r.DeleteAgent("default", "ada")
		}
		return nil
	}
	r = newRig(t, o)
	_, ada := r.tell("ada", promptOf(500, 3), 4)
	prompt := append(ada[:320:320], promptOf(400, 8)...) // begins as ada does
	remove.Store(true)
	got, err := r.try(t.Context(), greedy(prompt, 30).as("bob"))
	if err != nil || got.usage.Cached != 320 || remove.Load() {
		t.Fatalf("bob's turn: cached %d, %v", got.usage.Cached, err)
	}
	r.stop()
	r = newRig(t, o)
	defer r.stop()
	history := append(prompt, got.ids...)
	if got, _ := r.tell("bob", history, 5); got.start != StartRestored || got.usage.Cached != len(history)-1 {
		t.Errorf("after a restart: %s, cached %d of %d", got.start, got.usage.Cached, len(history))
	}
}
