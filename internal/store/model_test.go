package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mneme/internal/kv"
	"mneme/internal/vfs"
)

// world is a store and the plain maps that it must equal.
type world struct {
	fsys      *vfs.Crashable
	s         *Store
	actors    map[string]*actor
	published map[string]int  // turn of each agent that is there
	durable   map[kv.Key]bool // blocks that some publish named
	seen      map[kv.Key]bool // blocks appended and not known lost
	owner     map[kv.Key]string
	erased    map[kv.Key]bool // with their agent, and not appended since
	seed      uint64
}

func (w *world) actor(t *rapid.T) *actor {
	id := rapid.SampledFrom([]string{"ada", "bob", "eve"}).Draw(t, "agent")
	if w.actors[id] == nil {
		w.actors[id] = newActor(id)
	}
	return w.actors[id]
}

func (w *world) saw(m Manifest, sets ...map[kv.Key]bool) {
	for _, key := range m.Keys {
		w.owner[key] = m.ID
		delete(w.erased, key)
		for _, set := range sets {
			set[key] = true
		}
	}
}

func (w *world) publish(t *rapid.T) {
	a := w.actor(t)
	m := a.say(rapid.IntRange(1, 9).Draw(t, "tokens"))
	if err := publish(w.s, m); err != nil {
		t.Fatal(err)
	}
	w.published[a.id] = len(a.turns)
	w.saw(m, w.durable, w.seen)
}

// fork makes an agent that is not there what another is.
func (w *world) fork(t *rapid.T) {
	from, to := w.actor(t), w.actor(t)
	if w.published[from.id] == 0 {
		return
	}
	m, err := w.s.Load("default", from.id)
	if err != nil {
		t.Fatal(err)
	}
	m.ID, m.Parent = to.id, from.id
	err = w.s.Fork(t.Context(), m)
	if (err == nil) != (w.published[to.id] == 0) {
		t.Fatalf("fork of %s to %s, at turn %d: %v", from.id, to.id, w.published[to.id], err)
	}
	if err != nil {
		return
	}
	// blocks that one of that name has left go on from what the new one never had
	maps.DeleteFunc(w.owner, func(_ kv.Key, id string) bool { return id == to.id })
	w.actors[to.id] = forkOf(from, to.id)
	w.published[to.id] = len(from.turns)
}

func (w *world) pin(t *rapid.T) {
	a := w.actor(t)
	m, err := w.s.Load("default", a.id)
	if (err == nil) != (w.published[a.id] > 0) {
		t.Fatalf("load %s at turn %d: %v", a.id, w.published[a.id], err)
	}
	if err != nil {
		return
	}
	m.Pinned = !m.Pinned
	if err := w.s.Publish(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
	if h, _ := w.s.Header("default", a.id); h.Pinned != m.Pinned {
		t.Fatalf("agent %s: pinned %v", a.id, h.Pinned)
	}
}

func (w *world) append(t *rapid.T) {
	a := w.actor(t)
	m := a.say(rapid.IntRange(1, 9).Draw(t, "tokens")) // a turn that is never published
	for _, b := range blocks(m, func() {}) {
		w.s.Append(b)
	}
	w.saw(m, w.seen)
	if err := w.s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.saw(m, w.durable)
	a.turns = a.turns[:len(a.turns)-1]
	a.all = a.all[:0:0]
	if n := len(a.turns); n > 0 {
		a.all = append(a.all, a.turns[n-1].Tokens...)
	}
}

func (w *world) delete(t *rapid.T) {
	a := w.actor(t)
	err := w.s.Delete("default", a.id)
	if (err == nil) != (w.published[a.id] > 0) {
		t.Fatalf("delete of %s at turn %d: %v", a.id, w.published[a.id], err)
	}
	delete(w.published, a.id)
	if err == nil {
		w.forget(a)
	}
}

// forget leaves only blocks that an agent names: those of the deleted one are
// gone, others without a name may be.
func (w *world) forget(a *actor) {
	named := map[kv.Key]bool{}
	for id, turn := range w.published {
		w.saw(w.actors[id].turns[turn-1], named)
	}
	for key := range w.seen {
		if !named[key] {
			delete(w.seen, key)
			delete(w.durable, key)
			w.erased[key] = w.owner[key] == a.id
		}
	}
}

func (w *world) reopen(t *rapid.T) {
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.s = open2(t, w.fsys)
}

func (w *world) crash(t *rapid.T) {
	w.seed = rapid.Uint64().Draw(t, "seed")
	after := w.fsys.Crash(rng(w.seed, 0))
	_ = w.s.Close()
	w.fsys, w.s = after, open2(t, after)
	w.seen = maps.Clone(w.durable)
}

func open2(t *rapid.T, fsys vfs.FS) *Store {
	s, err := Open(options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check compares everything that can be asked with the maps.
func (w *world) check(t *rapid.T) {
	var got, want []string
	for _, h := range w.s.List() {
		got = append(got, fmt.Sprint(h.ID, h.Turns))
	}
	for _, id := range slices.Sorted(maps.Keys(w.published)) {
		want = append(want, fmt.Sprint(id, w.published[id]))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("agents %v, want %v", got, want)
	}
	for id, a := range w.actors {
		turn, err := standsAt(w.s, a)
		if err != nil || turn != w.published[id] {
			t.Fatalf("agent %s: turn %d, want %d: %v", id, turn, w.published[id], err)
		}
	}
	for key := range w.seen {
		if !w.s.Has(key, 0) {
			t.Fatalf("block %s is gone", key)
		}
	}
	for key, gone := range w.erased {
		if gone && w.s.Has(key, 0) {
			t.Fatalf("block %s is still there", key)
		}
	}
	if err := w.s.Check(); err != nil {
		t.Fatal(err)
	}
}

// Any sequence of publishes, forks, pins, appends, deletes, restarts and crashes
// leaves what plain maps say.
func TestStoreIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			fsys: vfs.NewCrashable(), actors: map[string]*actor{}, published: map[string]int{},
			durable: map[kv.Key]bool{}, seen: map[kv.Key]bool{}, owner: map[kv.Key]string{}, erased: map[kv.Key]bool{},
		}
		w.s = open2(t, w.fsys)
		defer func() { _ = w.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"publish": w.publish, "fork": w.fork, "pin": w.pin, "append": w.append, "delete": w.delete, "reopen": w.reopen, "crash": w.crash,
			"": w.check,
		})
	})
}
