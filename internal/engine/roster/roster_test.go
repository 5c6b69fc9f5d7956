package roster

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mneme/internal/kv"
	"mneme/internal/store"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spec is one layer of one head.
func spec() kv.Spec {
	return kv.Spec{Format: kv.FormatQ8, Groups: []kv.Group{{Layers: []int{0}, KVHeads: 1, KDim: 64, VDim: 64}}}
}

// open is an empty roster at noon, whose clock the caller sets.
func open(t *testing.T) (*Roster, *time.Time) {
	t.Helper()
	p, err := kv.NewPool(spec(), 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Options{FS: vfs.NewCrashable(), Dir: "/data", ModelFingerprint: "ab", KVFingerprint: "cd"})
	if err != nil {
		t.Fatal(err)
	}
	now := noon
	r := Open(Options{Pool: p, Store: s, Served: Served{"tiny", "ab", "cd"}, Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		r.CoolAll()
		if err := errors.Join(p.Check(), s.Close(), p.Close()); err != nil {
			t.Error(err)
		}
	})
	return r, &now
}

// table is that of a sequence of n tokens, all id; those of equal ids share blocks.
func table(t *testing.T, r *Roster, n int, id token.ID) *kv.AgentBlocks {
	t.Helper()
	p := r.pool
	stock, ok := p.Allocate(p.NeedFor(n, n))
	if !ok {
		t.Fatal("no room")
	}
	g := kv.NewGrowing(p, kv.Scope{Fingerprint: "f", Namespace: "a"}, stock)
	tokens := make([]token.ID, n)
	for i := range tokens {
		tokens[i] = id
	}
	g.Plan(n)
	g.Commit(tokens)
	return g.Freeze()
}

func key(id string) Key { return Key{Namespace: "a", ID: ID(id)} }

func saved(id string, blocks *kv.AgentBlocks, minute int) *State {
	return &State{Manifest: store.Manifest{Namespace: "a", ID: id, LastUsed: time.Unix(int64(60*minute), 0)}, Blocks: blocks, Saved: true}
}

var noon = time.Unix(43200, 0)

// Of blocks that three have each is charged a third; what is alone is its own.
func TestCharges(t *testing.T) {
	r, _ := open(t)
	for _, id := range []string{"a", "b", "c"} {
		r.Set(key(id), saved(id, table(t, r, 2*kv.BlockTokens, 7), 1))
	}
	r.Set(key("d"), saved("d", table(t, r, kv.BlockTokens+1, 8), 1))
	s := spec()
	sealed, open := int64(s.BlockBytes(0, s.Format.Form(1))), int64(s.BlockBytes(0, s.Format.Open()))
	want := map[string]int64{"a": 2 * (sealed / 3), "b": 2 * (sealed / 3), "c": 2 * (sealed / 3), "d": sealed + open}
	r.mu.Lock()
	keys, all := r.candidatesLocked(Key{})
	r.mu.Unlock()
	for i, k := range keys {
		if got := all[i].Bytes; got != want[string(k.ID)] {
			t.Errorf("%s is charged %d bytes, want %d", k.ID, got, want[string(k.ID)])
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d candidates", len(keys))
	}
}

// Whose turn it is, who is awaited and who is pinned decide who goes; an agent
// that is not stored keeps its tokens.
func TestEvict(t *testing.T) {
	r, _ := open(t)
	big := int(r.pool.BudgetBytes()) / spec().BlockBytes(0, spec().Format.Form(1)) / 7 * kv.BlockTokens // a seventh of the pool
	for i, id := range []string{"idle", "awaited", "pinned", "unsaved", "turn"} {
		r.Set(key(id), saved(id, table(t, r, big, token.ID(i)), i))
	}
	r.Set(key("small"), saved("small", table(t, r, kv.BlockTokens, 99), 0))
	r.State(key("unsaved")).Saved = false
	r.State(key("unsaved")).Manifest.Turns = make([]store.Turn, 1)
	r.Await(key("awaited"), noon.Add(time.Minute))
	r.setPinned(key("pinned"), true)
	leave, _ := r.Turns.TryEnter(key("turn"))
	defer leave()
	var got []string
	for _, mode := range []Mode{Sparing, Overruling} {
		for {
			gone, claim, _, ok := r.evict(Key{}, mode)
			if !ok {
				break
			}
			got = append(got, fmt.Sprintf("%s:%d", gone.ID, claim))
		}
		got = append(got, "|")
	}
	// With six in memory a share is a twelfth of the pool, with four an eighth, with three a sixth.
	if want := "idle:0 turn:0 unsaved:0 | small:2 awaited:2 pinned:3 |"; strings.Join(got, " ") != want {
		t.Errorf("gone %v, want %s", got, want)
	}
	if s := r.State(key("unsaved")); s == nil || s.Blocks != nil || !s.Exists() {
		t.Errorf("an agent that is not on disk is forgotten: %+v", s)
	}
	if s := r.State(key("idle")); s != nil {
		t.Errorf("an agent that is on disk is kept: %+v", s)
	}
}

// A wait ends with its time, with the next turn's publication, with the agent.
func TestAwait(t *testing.T) {
	r, now := open(t)
	for _, id := range []string{"late", "next", "gone", "waits"} {
		r.Await(key(id), noon.Add(time.Minute))
	}
	r.Await(key("late"), noon.Add(time.Second))
	r.Publish(key("next"), saved("next", nil, 0))
	r.setPinned(key("gone"), true)
	r.forget(key("gone"))
	*now = noon.Add(2 * time.Second)
	for id, want := range map[string]bool{"late": false, "next": false, "gone": false, "waits": true} {
		if got := r.isAwaited(key(id)); got != want {
			t.Errorf("%s is awaited: %t", id, got)
		}
	}
	if r.Pinned(key("gone")) {
		t.Error("who is forgotten is pinned")
	}
	*now = noon.Add(time.Hour)
	r.Await(key("waits"), noon.Add(2*time.Hour))
	if len(r.awaited) != 1 {
		t.Errorf("%d waits are kept, one is not over", len(r.awaited))
	}
}

func TestIDs(t *testing.T) {
	for id, ok := range map[ID]bool{
		"ada": true, "A-1_b:c.d": true, ID(strings.Repeat("x", 256)): true, "...": true,
		"": false, ID(strings.Repeat("x", 257)): false, ".": false, "..": false, "a/b": false, "a b": false, "é": false, "a\x00": false, "\xff": false,
	} {
		if err := id.Check(); (err == nil) != ok {
			t.Errorf("%q: %v", string(id), err)
		}
	}
}

// What a member was chosen for is forgotten when no turn follows, whoever asks
// next; of a turn that runs it is not.
func TestClaimsEnd(t *testing.T) {
	r, now := open(t)
	for _, id := range []ID{"gone", "runs"} {
		r.Member("a", id, "hello")
	}
	leave, _ := r.Turns.TryEnter(key("runs"))
	*now = now.Add(claimLasts + time.Second)
	r.Member("b", "other", "hello")
	leave()
	var left []ID
	for key := range r.claims {
		left = append(left, key.ID)
	}
	slices.Sort(left)
	if got := fmt.Sprint(left); got != "[other runs]" {
		t.Errorf("claims of %s, want those of a turn that runs and of the last one", got)
	}
}
