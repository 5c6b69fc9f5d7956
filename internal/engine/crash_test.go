package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"mneme/internal/token"
	"mneme/internal/vfs"
)

// story is two agents that take turns: what each was told and answered.
type story struct {
	history map[AgentID][]token.ID
	turns   map[AgentID]int // acknowledged
	answers map[AgentID][]answer
}

var storyAgents = []AgentID{"ada", "bob"}

const (
	storyTurns = 3
	storyPool  = 4 << 20
)

// tell lets every agent take its remaining turns; it ends at the first turn
// that fails or is not stored.
func (s *story) tell(r *rig) error {
	for turn := range storyTurns {
		for i, agent := range storyAgents {
			if s.turns[agent] > turn {
				continue
			}
			prompt := append(append([]token.ID(nil), s.history[agent]...), promptOf(30+17*turn, 3+i)...)
			got, err := r.try(context.Background(), greedy(prompt, 40).as(agent))
			if err != nil {
				return err
			}
			s.history[agent] = append(prompt, got.ids...)
			s.answers[agent] = append(s.answers[agent], got)
			s.turns[agent]++
		}
	}
	return nil
}

func newStory() *story {
	return &story{history: map[AgentID][]token.ID{}, turns: map[AgentID]int{}, answers: map[AgentID][]answer{}}
}

// TestCrashAtEveryOperation kills the process, and takes the power, at every
// numbered change on disk of a story. After it every acknowledged turn is there
// and costs nothing, and the story goes on with the same tokens.
func TestCrashAtEveryOperation(t *testing.T) {
	whole := newStory()
	counter := vfs.NewFailing(vfs.NewCrashable(), nil)
	r := newRig(t, rigOptions{fs: counter, dir: "/data"})
	if err := whole.tell(r); err != nil {
		t.Fatal(err)
	}
	r.stop()
	unpublished := 0
	for n := int64(1); n <= counter.Changes(); n++ {
		for _, power := range []bool{false, true} {
			if crashAt(t, whole, n, power) {
				unpublished++
			}
		}
	}
	t.Logf("%d operations, killed and without power at each: %d hit a turn that was not yet published", counter.Changes(), unpublished)
	if unpublished < 5 {
		t.Errorf("only %d crashes hit an unpublished turn, want at least 5", unpublished)
	}
}

var errKilled = errors.New("process killed")

// crashAt runs the story until change n and everything after it fails, then
// goes on in what is found; it says whether a turn was cut off.
func crashAt(t *testing.T, whole *story, n int64, power bool) (cut bool) {
	t.Helper()
	inner := vfs.NewCrashable()
	var dead atomic.Bool
	failing := vfs.NewFailing(inner, func(op vfs.Op) error {
		if op.Change >= n || dead.Load() {
			dead.Store(true)
			return errKilled
		}
		return nil
	})
	s := newStory()
	if r, err := openRig(t, rigOptions{fs: failing, dir: "/data", poolBytes: storyPool, threads: 1, context: 1024}); err == nil {
		cut = s.tell(r) != nil
		_ = r.Engine.Close()
		_ = r.store.Close()
		if err := r.pool.Check(); err != nil {
			t.Errorf("killed at %d: %v", n, err)
		}
		_ = r.pool.Close()
		_ = r.model.Close()
	}
	if power {
		inner = inner.Crash(rand.New(rand.NewPCG(uint64(n), 7)))
	} else {
		inner.Kill()
	}
	s.goOn(t, whole, inner, fmt.Sprintf("change %d, power lost %t", n, power))
	return cut
}

// goOn reopens what a crash left and compares the rest of the story.
func (s *story) goOn(t *testing.T, whole *story, fs vfs.FS, where string) {
	t.Helper()
	r := newRig(t, rigOptions{fs: fs, dir: "/data", poolBytes: storyPool, threads: 1, context: 1024})
	defer r.stop()
	for _, agent := range storyAgents {
		info, err := r.Agent("default", agent)
		if err != nil && s.turns[agent] > 0 {
			t.Errorf("%s: %s: %v after %d acknowledged turns", where, agent, err, s.turns[agent])
		}
		if info.Turns < s.turns[agent] || info.Turns > s.turns[agent]+1 {
			t.Errorf("%s: %s has %d turns, %d were acknowledged", where, agent, info.Turns, s.turns[agent])
		}
		if info.Turns > s.turns[agent] { // published, but the answer was cut off
			w := whole.answers[agent][s.turns[agent]]
			s.history[agent] = append(append([]token.ID(nil), s.history[agent]...), promptOf(30+17*s.turns[agent], 3+indexOf(agent))...)
			s.history[agent] = append(s.history[agent], w.ids...)
			s.answers[agent] = append(s.answers[agent], w)
			s.turns[agent]++
		}
	}
	before := map[AgentID]int{"ada": s.turns["ada"], "bob": s.turns["bob"]}
	if err := s.tell(r); err != nil {
		t.Errorf("%s: going on: %v", where, err)
		return
	}
	for _, agent := range storyAgents {
		for turn := range storyTurns {
			got, want := s.answers[agent][turn], whole.answers[agent][turn]
			if !got.same(want) {
				t.Errorf("%s: %s turn %d: %v, uninterrupted %v", where, agent, turn+1, got, want)
			}
			// A turn that was cut off may have left sealed blocks: then it costs less.
			if turn >= before[agent] && got.usage.Cached < want.usage.Cached {
				t.Errorf("%s: %s turn %d: cached %d, uninterrupted %d", where, agent, turn+1, got.usage.Cached, want.usage.Cached)
			}
		}
	}
}

func indexOf(agent AgentID) int {
	for i, a := range storyAgents {
		if a == agent {
			return i
		}
	}
	return -1
}
