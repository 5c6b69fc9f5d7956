package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/token"
)

// Nothing of a deleted agent is in memory any more, however it went: not what its
// text was made of, not what was said of its turns, not the blocks of a way that
// it did not go on.
func TestNothingOfItStaysInMemory(t *testing.T) {
	var c clock
	for name, remove := range map[string]func(*rig){
		"deleted": func(r *rig) {
			if err := r.DeleteAgent("default", "ada"); err != nil {
				t.Error(err)
			}
		},
		"expired": func(r *rig) {
			if _, err := r.Pin("default", "bob", true); err != nil {
				t.Error(err)
			}
			c.seconds.Add(7200)
			r.roster.Expire(time.Hour, func() bool { return false })
		},
	} {
		r := newRig(t, rigOptions{clock: c.now, ttl: 1000 * time.Hour})
		said := r.ask(greedy(promptOf(200, 3), 70).as("ada"))
		r.ask(greedy(promptOf(200, 3), 70).in("apart").as("ada"))
		other := append(slices.Clone(promptOf(200, 3)[:150]), promptOf(100, 6)...)
		turn := r.ask(greedy(other, 5).as("ada")).turn // it goes another way
		r.ask(greedy(promptOf(90, 9), 5).as("bob"))
		if err := r.store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		remove(r)
		if _, err := r.Agent("default", "ada"); err == nil {
			t.Fatalf("%s: it is there", name)
		}
		var left [][]token.ID
		for _, l := range r.roster.Remembered("default") {
			left = append(left, l.Tokens)
		}
		if len(left) != 1 || !slices.Equal(left[0][:90], promptOf(90, 9)) {
			t.Errorf("%s: %d lineages are remembered, want bob's", name, len(left))
		}
		if n := len(r.roster.Remembered("apart")); name == "deleted" && n != 1 {
			t.Errorf("%d lineages of the agent's namesake, want 1", n)
		}
		if _, ok := r.Reuse("default", "ada", turn); ok {
			t.Errorf("%s: there is a report of its turn", name)
		}
		scope := kv.Scope{Fingerprint: r.model.KVFingerprint(kv.FormatQ4), Namespace: "default"}
		for _, tokens := range [][]token.ID{append(promptOf(200, 3), said.ids...), other} {
			for i, key := range scope.Chain(tokens, kv.BlockTokens) {
				if r.pool.Contains(key) {
					t.Errorf("%s: block %d of %s is found in memory", name, i, fmt.Sprint(tokens[:3]))
				}
			}
		}
		r.stop()
	}
}

// A restart, also after a kill, and all that is done to an agent without a turn,
// leaves what it has on disk as it was.
func TestBytesOnDisk(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	r.tell("ada", promptOf(300, 3), 4)
	if _, err := r.Fork(t.Context(), "default", "ada", "bob", LastTurn); err != nil {
		t.Fatal(err)
	}
	want := map[AgentID]int64{}
	for _, a := range r.Agents("default") {
		want[a.ID] = a.BytesDisk
	}
	killed := copyDir(t, dir)
	r.stop()
	for _, dir := range []string{dir, killed} {
		r = newRig(t, rigOptions{dir: dir})
		for id, bytes := range want {
			info, err := r.Warm(t.Context(), "default", id)
			if err != nil || info.BytesDisk != bytes || bytes < 1000 {
				t.Errorf("warm: %s has %d bytes on disk, had %d; %v", id, info.BytesDisk, bytes, err)
			}
			if err := r.Evict(t.Context(), "default", id); err != nil {
				t.Error(err)
			}
			if info, _ := r.Agent("default", id); info.BytesDisk != bytes {
				t.Errorf("evicted: %s has %d bytes on disk, had %d", id, info.BytesDisk, bytes)
			}
		}
		r.stop()
	}
}
