package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/token"
)

// tier is where an agent's blocks are.
func (r *rig) tier(namespace Namespace, id AgentID) kv.Tier {
	r.t.Helper()
	info, err := r.Agent(namespace, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return info.Tier
}

// quiet makes six small agents and gives what each has said.
func (r *rig) quiet() map[AgentID][]token.ID {
	r.t.Helper()
	said := map[AgentID][]token.ID{}
	for i := range 6 {
		id := AgentID(fmt.Sprintf("quiet-%d", i))
		_, said[id] = r.tell(id, promptOf(90, 20+i), 3)
	}
	return said
}

// stillHot wants every agent hot, and their next turns to be hot starts that
// compute only what is new.
func (r *rig) stillHot(said map[AgentID][]token.ID, after string) {
	r.t.Helper()
	for id := range said {
		if tier := r.tier("default", id); tier != kv.TierHot {
			r.t.Errorf("%s: %s is %s", after, id, tier)
		}
	}
	if n := r.Stats().ShareOverruled; n > 0 {
		r.t.Errorf("%s: %d agents below their share had to give way", after, n)
	}
}

func (r *rig) goOnHot(said map[AgentID][]token.ID) {
	r.t.Helper()
	for id, history := range said {
		got := r.ask(greedy(append(append([]token.ID(nil), history...), 40), 2).as(id))
		if got.start != StartHot || got.usage.Cached != len(history)-1 {
			r.t.Errorf("%s: start %s, cached %d of %d", id, got.start, got.usage.Cached, len(history))
		}
	}
}

// noisyPool holds six quiet agents and one long turn, not two.
const noisyPool = 1280 << 10

// An agent that cycles through long prompts, each of nearly half of the pool,
// moves none of six quiet ones, though they were used long before.
func TestNoisyAgent(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: noisyPool})
	defer r.stop()
	said := r.quiet()
	for i := range 6 {
		r.ask(greedy(promptOf(3400, 50+i), 4).as("noisy"))
		r.stillHot(said, fmt.Sprintf("long prompt %d", i))
	}
	for i := range 3 {
		r.ask(greedy(promptOf(3400, 70+i), 4).as("noisy").in("elsewhere"))
		r.stillHot(said, fmt.Sprintf("long prompt %d of another namespace", i))
	}
	r.goOnHot(said)
}

// Two such agents at the same time wait for each other, not for the quiet ones.
func TestNoisyAgentsAtOnce(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: noisyPool})
	defer r.stop()
	said := r.quiet()
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			for i := range 3 {
				if _, err := r.try(context.Background(), greedy(promptOf(3000, 50+10*n+i), 4).as(AgentID(fmt.Sprint("noisy-", n)))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.stillHot(said, "two at once")
	r.goOnHot(said)
}

// A turn that needs more than what the quiet ones leave gets it all the same,
// and it is counted.
func TestShareIsOverruled(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: 720 << 10})
	defer r.stop()
	r.quiet()
	if _, err := r.try(context.Background(), greedy(promptOf(3500, 50), 4).as("noisy")); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().ShareOverruled; n < 1 || n > 6 {
		t.Errorf("%d agents gave way", n)
	}
}

// clock is a time that tests set.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(1_800_000_000+c.seconds.Load(), 0) }

// An agent above its share that waits for a tool's result is not idle, until
// the wait is over.
func TestAwait(t *testing.T) {
	var c clock
	r := newRig(t, rigOptions{poolBytes: noisyPool, clock: c.now})
	defer r.stop()
	r.ask(greedy(promptOf(2900, 3), 4).as("ada"))
	r.Await("default", "ada", c.now().Add(time.Minute))
	for i := range 2 {
		c.seconds.Add(1)
		r.ask(greedy(promptOf(2900, 50+i), 4).as("bob"))
		if tier := r.tier("default", "ada"); tier != kv.TierHot {
			t.Errorf("ada, who waits for a tool, is %s after bob's turn %d", tier, i+1)
		}
	}
	c.seconds.Add(60)
	r.ask(greedy(promptOf(2900, 60), 4).as("bob"))
	if tier := r.tier("default", "ada"); tier != kv.TierWarm {
		t.Errorf("ada, who waited in vain, is %s", tier)
	}
}

// Agents unused for their time to live are deleted, in memory and on disk: not
// those used since, pinned, awaited, or in mid-turn.
func TestTimeToLive(t *testing.T) {
	var c clock
	dir := t.TempDir()
	o := rigOptions{dir: dir, clock: c.now, ttl: time.Hour}
	r := newRig(t, o)
	for i, id := range []AgentID{"cold", "used", "pinned"} {
		r.ask(greedy(promptOf(100, i), 4).as(id))
	}
	if _, err := r.Pin("default", "pinned", true); err != nil {
		t.Fatal(err)
	}
	r.stop() // these are on disk only from now on
	r = newRig(t, o)
	for i, id := range []AgentID{"hot", "awaited"} {
		r.ask(greedy(promptOf(100, 10+i), 4).as(id))
	}
	c.seconds.Add(3000)
	r.ask(greedy(promptOf(100, 20), 4).as("used"))
	c.seconds.Add(1000)
	r.Await("default", "awaited", c.now().Add(time.Hour))
	r.ask(greedy(promptOf(100, 30), 4).as("busy"))
	c.seconds.Add(-3700) // the last turn of "busy" was long ago
	r.ask(greedy(promptOf(100, 30), 4).as("busy"))
	c.seconds.Add(3700)
	leave, _ := r.roster.Turns.TryEnter(agentKey{Namespace: "default", ID: "busy"})
	r.roster.Expire(time.Hour, func() bool { return false })
	leave()
	var left []AgentID
	for _, a := range r.Agents("default") {
		left = append(left, a.ID)
	}
	if want := "[awaited busy pinned used]"; fmt.Sprint(left) != want {
		t.Errorf("left are %v, want %s", left, want)
	}
	if n := r.Stats().Expired; n != 2 {
		t.Errorf("%d counted as expired, want 2", n)
	}
	if got := r.ask(greedy(promptOf(100, 10), 4).as("hot")); got.turn != 1 || got.usage.Cached != 0 {
		t.Errorf("hot came back at turn %d with %d cached tokens", got.turn, got.usage.Cached)
	}
	r.stop()
	r = newRig(t, o)
	defer r.stop()
	if _, err := r.Agent("default", "cold"); err == nil {
		t.Error("an expired agent is there again after a restart")
	}
}

// The engine looks by itself.
func TestExpiryLooksByItself(t *testing.T) {
	r := newRig(t, rigOptions{ttl: time.Millisecond})
	defer r.stop()
	r.ask(greedy(promptOf(20, 1), 4).as("ada"))
	waitFor(t, "ada to expire", func() bool { return r.Stats().Expired == 1 })
}

// pinned says who is.
func (r *rig) pinned() string {
	var out []AgentID
	for _, a := range r.Agents("default") {
		if a.Pinned {
			out = append(out, a.ID)
		}
	}
	return fmt.Sprint(out)
}

// A pin outlasts the process, also a crash, and turns and rollbacks; it is the
// agent's alone: not its forks', not its exports', not its heir's.
func TestPinsLast(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	_, history := r.tell("ada", promptOf(100, 3), 4)
	r.tell("bob", promptOf(100, 5), 4)
	pin := func(r *rig, id AgentID, pinned bool) {
		t.Helper()
		if info, err := r.Pin("default", id, pinned); err != nil || info.Pinned != pinned {
			t.Fatalf("pin %s: %+v, %v", id, info, err)
		}
	}
	pin(r, "ada", true)
	pin(r, "bob", true)
	pin(r, "bob", false)
	after := newRig(t, rigOptions{dir: copyDir(t, dir)}) // as a kill leaves it
	if got := after.pinned(); got != "[ada]" {
		t.Errorf("after a kill %s are pinned", got)
	}
	after.stop()

	r.tell("ada", history, 6)
	if _, err := r.Rollback(context.Background(), "default", "ada", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Fork(context.Background(), "default", "ada", "fork", LastTurn); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := r.Export("default", "ada", true, &file); err != nil {
		t.Fatal(err)
	}
	if info, err := r.Import(context.Background(), "default", "copy", bytes.NewReader(file.Bytes()), int64(file.Len())); err != nil || info.Pinned {
		t.Errorf("imported %+v, %v", info, err)
	}
	pin(r, "bob", true)
	if err := r.DeleteAgent("default", "bob"); err != nil {
		t.Fatal(err)
	}
	r.tell("bob", promptOf(100, 5), 4)
	if got := r.pinned(); got != "[ada]" {
		t.Errorf("%s are pinned", got)
	}
	r.stop()
	r = newRig(t, rigOptions{dir: dir})
	defer r.stop()
	if got := r.pinned(); got != "[ada]" {
		t.Errorf("after a restart %s are pinned", got)
	}
}

// A pin in mid-turn holds at once and is durable when the turn is.
func TestPinInMidTurn(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	_, history := r.tell("ada", promptOf(100, 3), 4)
	s := r.submit(context.Background(), greedy(append(history, 40), 400).as("ada"))
	if info, err := r.Pin("default", "ada", true); err != nil || !info.Pinned {
		t.Fatalf("%+v, %v", info, err)
	}
	if !within(s, 10*time.Second) {
		t.Fatal("the turn hangs")
	}
	after := newRig(t, rigOptions{dir: copyDir(t, dir)}) // as a kill leaves it
	defer after.stop()
	if info, err := after.Agent("default", "ada"); err != nil || !info.Pinned || info.Turns != 2 {
		t.Errorf("after a kill behind the turn: %+v, %v", info, err)
	}
	s = r.submit(context.Background(), greedy(promptOf(50, 8), 3000).as("ada"))
	if _, err := r.Pin("default", "ada", false); err != nil {
		t.Fatal(err)
	}
	s.Close() // the turn does not carry it
	waitFor(t, "the pin's end to be stored", func() bool { h, _ := r.store.Header("default", "ada"); return !h.Pinned })
	r.stop()
}

// Twelve agents of all sizes in a pool for three of the largest, some of them
// pinned or awaited, all at once: whoever is protected from whom, every turn ends.
func TestCrowdedPool(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: 1 << 20, maxBatch: 4})
	defer r.stop()
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, 0))
	var wg sync.WaitGroup
	for a := range 12 {
		id, lengths := AgentID(fmt.Sprint("agent-", a)), []int{40 + rng.IntN(400), 400 + rng.IntN(800), 1200 + rng.IntN(1400)}
		wg.Go(func() {
			for i, n := range lengths {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				if _, err := r.try(ctx, greedy(promptOf(n, 10*a+i%2), 20).as(id)); err != nil {
					t.Errorf("seed %d: %s, turn %d of %d tokens: %v", seed, id, i+1, n, err)
				}
				cancel()
				switch a % 4 {
				case 0:
					if _, err := r.Pin("default", id, true); err != nil {
						t.Error(err)
					}
				case 1:
					r.Await("default", id, time.Now().Add(time.Hour))
				}
			}
		})
	}
	wg.Wait()
	st := r.Stats()
	t.Logf("%d preempted, %d below their share gave way", st.Preempted, st.ShareOverruled)
}
