package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/model/modeltest"
	"mneme/internal/token"
)

// tell lets an agent take a turn on its history and gives the new history.
func (r *rig) tell(agent AgentID, history []token.ID, seed int) (answer, []token.ID) {
	r.t.Helper()
	prompt := append(append([]token.ID(nil), history...), promptOf(40, seed)...)
	got := r.ask(greedy(prompt, 30).as(agent))
	return got, append(prompt, got.ids...)
}

// A fork goes on where its source stood, hot and after a restart, and neither
// sees the other.
func TestFork(t *testing.T) {
	for _, restart := range []bool{false, true} {
		dir := t.TempDir()
		r := newRig(t, rigOptions{dir: dir})
		_, first := r.tell("ada", promptOf(150, 3), 4)
		_, second := r.tell("ada", first, 5)
		info, err := r.Fork(context.Background(), "default", "ada", "bob", LastTurn)
		if err != nil || info.Parent != "ada" || info.Turns != 2 || info.Tokens != len(second) {
			t.Fatalf("fork %+v, %v", info, err)
		}
		old, err := r.Fork(context.Background(), "default", "ada", "eve", 1)
		if err != nil || old.Turns != 1 || old.Tokens != len(first) {
			t.Fatalf("fork at turn 1: %+v, %v", old, err)
		}
		if restart {
			r.stop()
			r = newRig(t, rigOptions{dir: dir})
		}
		for i, agent := range []AgentID{"bob", "ada", "bob"} {
			got, _ := r.tell(agent, second, 20+i)
			alone := r.ask(greedy(append(append([]token.ID(nil), second...), promptOf(40, 20+i)...), 30).in(Namespace(fmt.Sprint(i, restart))))
			if !got.same(alone) {
				t.Errorf("restart %t: %s after the fork %v, alone %v", restart, agent, got, alone)
			}
			if want := len(second) - 1; i < 2 && got.usage.Cached != want {
				t.Errorf("restart %t: %s cached %d, want %d", restart, agent, got.usage.Cached, want)
			}
		}
		if got, _ := r.tell("eve", first, 30); got.usage.Cached < len(first)/kv.BlockTokens*kv.BlockTokens-kv.BlockTokens || got.turn != 2 {
			t.Errorf("restart %t: eve's turn %d cached %d of %d", restart, got.turn, got.usage.Cached, len(first))
		}
		r.stop()
	}
}

// Rollback to any turn, then going on, is as if there had been no more.
func TestRollback(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	histories := [][]token.ID{nil}
	var history []token.ID
	for i := range 4 {
		_, history = r.tell("ada", history, 3+i)
		histories = append(histories, history)
	}
	for _, turn := range []int{4, 2, 1, 0} {
		info, err := r.Rollback(context.Background(), "default", "ada", turn)
		if err != nil || info.Turns != turn || info.Tokens != len(histories[turn]) {
			t.Fatalf("to turn %d: %+v, %v", turn, info, err)
		}
		got, _ := r.tell("ada", histories[turn], 50+turn)
		alone := r.ask(greedy(append(append([]token.ID(nil), histories[turn]...), promptOf(40, 50+turn)...), 30).in(Namespace(fmt.Sprint("alone", turn))))
		if !got.same(alone) || got.turn != turn+1 {
			t.Errorf("after turn %d: turn %d %v, alone %v", turn, got.turn, got, alone)
		}
	}
	var input *InputError
	if _, err := r.Rollback(context.Background(), "default", "ada", 9); !errors.As(err, &input) {
		t.Errorf("to a turn that never was: %v", err)
	}
}

// A pinned agent keeps its blocks while others need room; a warm one is hot
// again without a turn.
func TestPinAndWarm(t *testing.T) {
	r := newRig(t, rigOptions{poolBytes: 720 << 10})
	defer r.stop()
	_, ada := r.tell("ada", promptOf(300, 3), 4)
	_, bob := r.tell("bob", promptOf(300, 5), 4)
	if info, err := r.Pin("default", "ada", true); err != nil || !info.Pinned {
		t.Fatalf("pin %+v, %v", info, err)
	}
	for i := range 3 {
		r.ask(greedy(promptOf(2500, 10+i), 4))
	}
	tier := func(id AgentID) kv.Tier {
		info, err := r.Agent("default", id)
		if err != nil {
			t.Fatal(err)
		}
		return info.Tier
	}
	if tier("ada") != kv.TierHot || tier("bob") != kv.TierWarm {
		t.Errorf("ada is %s, bob %s", tier("ada"), tier("bob"))
	}
	if info, err := r.Warm(context.Background(), "default", "bob"); err != nil || info.Tier != kv.TierHot {
		t.Errorf("warm: %+v, %v", info, err)
	}
	for id, history := range map[AgentID][]token.ID{"ada": ada, "bob": bob} {
		if got, _ := r.tell(id, history, 8); got.start != StartHot || got.usage.Cached != len(history)-1 {
			t.Errorf("%s: %s, cached %d of %d", id, got.start, got.usage.Cached, len(history))
		}
	}
	if info, err := r.Pin("default", "ada", false); err != nil || info.Pinned {
		t.Errorf("unpin %+v, %v", info, err)
	}
}

// An agent moves as one file, with its KV or without; what cannot be used is
// refused with a reason.
func TestExportImport(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	_, history := r.tell("ada", promptOf(200, 3), 4)
	want := r.ask(greedy(append(append([]token.ID(nil), history...), promptOf(40, 9)...), 30).in("alone"))
	for _, withKV := range []bool{true, false} {
		var file bytes.Buffer
		if err := r.Export("default", "ada", withKV, &file); err != nil {
			t.Fatal(err)
		}
		there := newRig(t, rigOptions{})
		info, err := there.Import(context.Background(), "default", "eve", bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil || info.Tokens != len(history) || info.ID != "eve" {
			t.Fatalf("import %+v, %v", info, err)
		}
		got, _ := there.tell("eve", history, 9)
		cached := 0
		if withKV {
			cached = len(history) - 1
		}
		if !got.same(want) || got.usage.Cached != cached {
			t.Errorf("with KV %t: %v, want %v with %d cached", withKV, got, want, cached)
		}
		if _, err := there.Import(context.Background(), "default", "eve", bytes.NewReader(file.Bytes()), int64(file.Len())); !errors.Is(err, ErrAgentExists) {
			t.Errorf("import onto an agent: %v", err)
		}
		broken := bytes.Clone(file.Bytes())
		broken[len(broken)/2] ^= 1
		var input *InputError
		if _, err := there.Import(context.Background(), "default", "x", bytes.NewReader(broken), int64(len(broken))); !errors.As(err, &input) {
			t.Errorf("import of a damaged file: %v", err)
		}
		there.stop()
		other := newRig(t, rigOptions{file: modeltest.File(2)})
		if _, err := other.Import(context.Background(), "default", "x", bytes.NewReader(file.Bytes()), int64(file.Len())); !errors.Is(err, ErrOtherModel) {
			t.Errorf("import into another model: %v", err)
		}
		other.stop()
	}
}

// Operations on what is not there, or is in use, say so.
func TestOperationsRefuse(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	ctx := context.Background()
	r.tell("ada", promptOf(80, 3), 4)
	for name, err := range map[string]error{
		"fork":     func() error { _, err := r.Fork(ctx, "default", "nobody", "x", LastTurn); return err }(),
		"rollback": func() error { _, err := r.Rollback(ctx, "default", "nobody", 1); return err }(),
		"warm":     func() error { _, err := r.Warm(ctx, "default", "nobody"); return err }(),
		"pin":      func() error { _, err := r.Pin("default", "nobody", true); return err }(),
		"export":   r.Export("default", "nobody", true, &bytes.Buffer{}),
	} {
		if !errors.Is(err, ErrNoAgent) {
			t.Errorf("%s of nobody: %v", name, err)
		}
	}
	if _, err := r.Fork(ctx, "default", "ada", "ada", LastTurn); !errors.Is(err, ErrAgentExists) {
		t.Errorf("fork onto itself: %v", err)
	}
	s := r.submit(ctx, greedy(promptOf(80, 9), 2000).as("ada"))
	if _, err := r.Rollback(ctx, "default", "ada", 1); !errors.Is(err, ErrAgentBusy) {
		t.Errorf("rollback in mid-turn: %v", err)
	}
	s.Close()
}
