package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/token"
	"mneme/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	blockTokens  = 4 // of the stories; the store takes any number
	payloadBytes = 100
	fingerprint  = "abcdef0123"
)

var (
	scope = kv.Scope{Fingerprint: fingerprint, Namespace: "default"}
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func options(fsys vfs.FS) Options {
	return Options{
		FS: fsys, Dir: "/data", ModelFingerprint: "m0", KVFingerprint: fingerprint,
		Clock:        func() time.Time { return epoch },
		SegmentBytes: 1200, // four or five frames
		QueueBytes:   1000,
	}
}

func open(t testing.TB, fsys vfs.FS) *Store {
	t.Helper()
	s, err := Open(options(fsys))
	must(t, err)
	return s
}

// payload is what the block of these tokens after parent holds.
func payload(parent kv.Key, tokens []token.ID) []byte {
	key := scope.Next(parent, tokens)
	b := make([]byte, payloadBytes)
	for i := range b {
		b[i] = key[i%len(key)] + byte(i)
	}
	return b
}

func fill(data []byte) func([]byte) {
	return func(dst []byte) {
		if len(dst) != len(data) {
			panic(fmt.Sprintf("asked for %d bytes, have %d", len(dst), len(data)))
		}
		copy(dst, data)
	}
}

// actor is an agent in a story: what it would say it has after each turn.
type actor struct {
	id          string
	blockTokens int // blockTokens if 0
	all         []token.ID
	turns       []Manifest // as handed to Publish, tail not filled
}

func newActor(id string) *actor { return &actor{id: id} }

// forkOf is an actor that says it has what another has.
func forkOf(a *actor, id string) *actor {
	f := &actor{id: id, all: slices.Clip(a.all)}
	for _, m := range a.turns {
		m.ID, m.Parent = id, a.id
		f.turns = append(f.turns, m)
	}
	return f
}

func (a *actor) size() int { return cmp.Or(a.blockTokens, blockTokens) }

// say adds a turn of n tokens that depend on the actor and their position.
func (a *actor) say(n int) Manifest {
	for range n {
		a.all = append(a.all, token.ID(1000*int(a.id[0])+len(a.all)))
	}
	tokens := a.all[:len(a.all):len(a.all)]
	m := Manifest{
		Namespace: "default", ID: a.id, Model: "tiny", Tokens: tokens,
		Keys: scope.Chain(tokens, a.size()), KVTokens: len(tokens), BlockTokens: a.size(),
		Created: epoch, LastUsed: epoch.Add(time.Duration(len(tokens)) * time.Minute),
	}
	for i := range tokens {
		m.Ends = append(m.Ends, 3*(i+1))
	}
	if len(a.turns) > 0 {
		m.Turns = a.turns[len(a.turns)-1].Turns
	}
	m.Turns = append(m.Turns[:len(m.Turns):len(m.Turns)], Turn{
		Turn: len(m.Turns) + 1, Tokens: len(tokens), TextEnd: 3*len(tokens) - 1, Prompt: n - 1, Completion: 1, Finish: "stop", Created: epoch,
	})
	a.turns = append(a.turns, m)
	return m
}

// blocks are the sealed blocks of a manifest, as the engine would append them.
func blocks(m Manifest, done func()) []Block {
	var out []Block
	parent := scope.Root()
	for i, key := range m.Keys {
		tokens := m.Tokens[i*m.BlockTokens : (i+1)*m.BlockTokens]
		out = append(out, Block{
			Namespace: "default", Key: key, Parent: parent, Form: quant.KVQ4, Tokens: tokens, SizeBytes: payloadBytes,
			Copy: fill(payload(parent, tokens)), Done: done,
		})
		parent = key
	}
	return out
}

func lastKey(m Manifest) kv.Key {
	if len(m.Keys) == 0 {
		return scope.Root()
	}
	return m.Keys[len(m.Keys)-1]
}

func tail(m Manifest) []TailBlock {
	tokens := m.Tokens[len(m.Keys)*m.BlockTokens:]
	if len(tokens) == 0 {
		return nil
	}
	return []TailBlock{{
		Form: quant.KVF16, Tokens: tokens, SizeBytes: payloadBytes, Copy: fill(payload(lastKey(m), tokens)),
	}}
}

// publish appends what the turn needs and publishes it.
func publish(s *Store, m Manifest) error {
	for _, b := range blocks(m, func() {}) {
		s.Append(b)
	}
	return s.Publish(context.Background(), m, tail(m))
}

// standsAt reads a whole agent: its manifest must be that of one of its turns, with
// every block and the tail. It returns which turn; 0 when there is no such agent.
func standsAt(s *Store, a *actor) (turn int, err error) {
	got, err := s.Load("default", a.id)
	if errors.Is(err, ErrNoAgent) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	turn = len(got.Turns)
	if h, ok := s.Header("default", a.id); !ok || h.Turns != turn {
		return turn, fmt.Errorf("agent %s has %d turns, listed with %d", a.id, turn, h.Turns)
	}
	if turn < 1 || turn > len(a.turns) {
		return turn, fmt.Errorf("agent %s has %d turns, of %d that were tried", a.id, turn, len(a.turns))
	}
	want := a.turns[turn-1]
	want.Pinned = got.Pinned
	want.Tail, want.ModelFingerprint, want.KVFingerprint = got.Tail, "m0", fingerprint
	if !reflect.DeepEqual(got, want) {
		return turn, fmt.Errorf("agent %s:\n got %+v\nwant %+v", a.id, got, want)
	}
	return turn, readAll(s, got)
}

// fallen is standsAt for an agent that damage has put back to an earlier turn: the
// tail of that is no longer there.
func fallen(s *Store, a *actor) (turn int, err error) {
	turn, err = standsAt(s, a)
	if errors.Is(err, ErrMissing) && strings.Contains(err.Error(), "tail") {
		err = nil
	}
	return turn, err
}

func readAll(s *Store, m Manifest) error {
	dst := make([]byte, payloadBytes)
	for _, b := range blocks(m, nil) {
		if err := s.Read(b.Key, 0, b.Tokens, dst); err != nil {
			return err
		}
		if !bytes.Equal(dst, payload(b.Parent, b.Tokens)) {
			return fmt.Errorf("block %s holds other bytes", b.Key)
		}
	}
	tails := tail(m)
	if len(m.Tail) != len(tails) {
		return fmt.Errorf("agent %s has tails %v, want %d", m.ID, m.Tail, len(tails))
	}
	for i, ref := range m.Tail {
		if err := s.ReadTail(ref, tails[i].Tokens, dst); err != nil {
			return fmt.Errorf("tail: %w", err)
		}
		if !bytes.Equal(dst, payload(lastKey(m), tails[i].Tokens)) {
			return fmt.Errorf("tail %v holds other bytes", ref)
		}
	}
	return nil
}

// script is a history that is disturbed at every operation.
type script struct {
	ada, bob, eve *actor // the first may be anybody's parent
	play          func(sc *script, s *Store)
	published     map[string]int  // the last turn that Publish returned nil for
	gone          map[string]int  // of agents whose Delete returned nil: the last turn they can have had
	pinned        map[string]bool // whose pin was published
	errs          []error         // all that surfaced
}

// newScript has turns of two agents, one forked, one deleted in the middle and
// begun anew, blocks across segments that are collected.
func newScript() *script {
	return &script{
		ada: newActor("ada"), bob: newActor("bob"), eve: newActor("eve"), play: (*script).turns,
		published: map[string]int{}, gone: map[string]int{}, pinned: map[string]bool{},
	}
}

// newFamily has two forks of an agent: one is pinned, deleted and forked anew,
// one goes on by itself and is deleted, and the parent is deleted.
func newFamily() *script {
	sc := newScript()
	sc.play = (*script).family
	return sc
}

func (sc *script) actors() []*actor { return []*actor{sc.ada, sc.bob, sc.eve} }

func (sc *script) turn(s *Store, a *actor, n int) {
	m := a.say(n)
	m.Pinned = sc.pinned[a.id]
	if err := publish(s, m); err != nil {
		sc.errs = append(sc.errs, err)
		return
	}
	sc.published[a.id] = len(m.Turns)
}

func (sc *script) fork(s *Store) { sc.forkTo(s, &sc.eve) }

// forkTo makes somebody what ada is, without writing a frame. Where ada could not
// be published, he begins empty; where he is still there, he stays.
func (sc *script) forkTo(s *Store, to **actor) {
	m, err := s.Load("default", "ada")
	if err != nil {
		sc.errs = append(sc.errs, err)
		return
	}
	ada := *sc.ada
	ada.turns = ada.turns[:len(m.Turns)]
	ada.all = slices.Clip(ada.turns[len(m.Turns)-1].Tokens)
	fork := forkOf(&ada, (*to).id)
	m.ID, m.Parent = fork.id, "ada"
	err = s.Fork(context.Background(), m)
	if !errors.Is(err, ErrAgentExists) {
		*to = fork
		delete(sc.gone, fork.id)
		delete(sc.pinned, fork.id)
	}
	if err != nil {
		sc.errs = append(sc.errs, err)
		return
	}
	sc.published[fork.id] = len(m.Turns)
}

// pin publishes an agent as it is, pinned.
func (sc *script) pin(s *Store, id string) {
	m, err := s.Load("default", id)
	if err == nil {
		m.Pinned = true
		err = s.Publish(context.Background(), m, nil)
	}
	if err != nil {
		sc.errs = append(sc.errs, err)
		return
	}
	sc.pinned[id] = true
}

func (sc *script) delete(s *Store, a *actor) {
	err := s.Delete("default", a.id)
	if err == nil {
		sc.gone[a.id] = len(a.turns)
	}
	sc.try(err)
	sc.published[a.id] = 0
	delete(sc.pinned, a.id)
}

func (sc *script) try(err error) {
	if err != nil && !errors.Is(err, ErrNoAgent) {
		sc.errs = append(sc.errs, err)
	}
}

func (sc *script) run(s *Store) { sc.play(sc, s) }

func (sc *script) family(s *Store) {
	sc.turn(s, sc.ada, 6)
	sc.forkTo(s, &sc.bob)
	sc.forkTo(s, &sc.eve)
	sc.pin(s, "bob")
	sc.turn(s, sc.eve, 7)
	sc.delete(s, sc.bob)
	sc.forkTo(s, &sc.bob)
	sc.turn(s, sc.ada, 3)
	sc.delete(s, sc.ada)
	sc.delete(s, sc.eve)
	sc.try(s.Collect(context.Background()))
	sc.pin(s, "bob")
}

func (sc *script) turns(s *Store) {
	sc.turn(s, sc.ada, 6)
	sc.turn(s, sc.bob, 9)
	sc.turn(s, sc.ada, 3)
	sc.fork(s)
	sc.turn(s, sc.ada, 3) // ends on a block: no tail
	sc.delete(s, sc.bob)
	sc.turn(s, sc.eve, 2)
	sc.try(s.Collect(context.Background()))
	sc.turn(s, sc.bob, 5)
	sc.turn(s, sc.ada, 9)
}

// holds checks the promise: each agent at its last published turn or a later
// one, whole. The turns found are returned.
func (sc *script) holds(s *Store) (map[string]int, error) {
	found := map[string]int{}
	for _, a := range sc.actors() {
		turn, err := standsAt(s, a)
		if err != nil {
			return nil, err
		}
		if turn < sc.published[a.id] {
			return nil, fmt.Errorf("agent %s is at turn %d, turn %d was published", a.id, turn, sc.published[a.id])
		}
		found[a.id] = turn
	}
	for id, turns := range sc.gone {
		if found[id] > 0 && found[id] <= turns {
			return nil, fmt.Errorf("agent %s was deleted and is back at turn %d", id, found[id])
		}
	}
	return found, errors.Join(sc.stillPinned(s), s.Check())
}

func (sc *script) stillPinned(s *Store) error {
	for id := range sc.pinned {
		if h, _ := s.Header("default", id); !h.Pinned {
			return fmt.Errorf("agent %s is not pinned any more", id)
		}
	}
	return nil
}

func rng(seed uint64, at int64) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(at))) }
