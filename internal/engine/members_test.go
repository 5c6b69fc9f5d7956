package engine

import (
	"context"
	"strings"
	"testing"
)

// say runs a turn of text for the member that the family's prompt is of.
func (r *rig) say(family AgentID, text string) (id, parent AgentID, a answer) {
	r.t.Helper()
	id, parent = r.Member("default", family, text)
	req := greedy(nil, 6).as(id)
	req.Tokens, req.Text, req.Parent = nil, text, parent
	return id, parent, r.ask(req)
}

// One session is several conversations: each goes on with its own member, in
// memory and after a restart.
func TestMembers(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, rigOptions{dir: dir})
	system := "system: be brief. tools: " + strings.Repeat("a tool; ", 20)
	first, aside := system+"user: hello. assistant:", system+"user: a title for this. assistant:"

	id, parent, a := r.say("ses", first)
	if id != "ses" || parent != "" {
		t.Errorf("the first is %q of %q", id, parent)
	}
	side, parent, _ := r.say("ses", aside)
	if side != "ses~2" || parent != "ses" {
		t.Errorf("a side request is %q of %q", side, parent)
	}
	next := first + a.text + " user: and? assistant:"
	if id, _, b := r.say("ses", next); id != "ses" || b.turn != 2 {
		t.Errorf("the second turn is %q's %d", id, b.turn)
	} else {
		next += b.text + " user: so? assistant:"
	}
	if info, err := r.Agent("default", "ses~2"); err != nil || info.Parent != "ses" || info.Turns != 1 {
		t.Errorf("the side request: %+v, %v", info, err)
	}
	if id, _, _ := r.say("ses", "something else entirely. assistant:"); id != "ses~3" {
		t.Errorf("another conversation is %q's", id)
	}
	if id, _, _ := r.say("other", first); id != "other" {
		t.Errorf("another session's is %q's", id)
	}
	if got := r.Said("default", "ses"); len(got) != 2 || got[0] != a.text {
		t.Errorf("said %q, the first answer was %q", got, a.text)
	}
	n, err := r.Count("default", "ses", next)
	if err != nil {
		t.Error(err)
	}
	r.stop()

	r = newRig(t, rigOptions{dir: dir})
	defer r.stop()
	id, _, b := r.say("ses", next)
	if id != "ses" || b.turn != 3 || b.usage.Prompt != n {
		t.Errorf("after a restart: %q's turn %d, %d tokens, counted %d", id, b.turn, b.usage.Prompt, n)
	}
	if id, _, a := r.say("ses", aside); id != "ses~2" || a.turn != 1 || a.usage.Prompt-a.usage.Cached != 1 {
		t.Errorf("the side request once more (a turn in its place) is %q's turn %d: %+v", id, a.turn, a.usage)
	}
}

// Conversations of a session that begin at once are two members; what was chosen
// for a turn that never came is free again.
func TestMembersAtOnce(t *testing.T) {
	r := newRig(t, rigOptions{})
	defer r.stop()
	a, _ := r.Member("default", "ses", "system. user: one. assistant:")
	b, parent := r.Member("default", "ses", "system. user: two. assistant:")
	again, _ := r.Member("default", "ses", "system. user: one. assistant:")
	if a != "ses" || b != "ses~2" || parent != "ses" || again != "ses" {
		t.Errorf("%q, then %q of %q, then %q", a, b, parent, again)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	req := greedy(promptOf(40, 1), 5).as("ses")
	if _, err := r.try(ctx, req); err == nil {
		t.Error("a cancelled turn was answered")
	}
	for _, id := range []AgentID{"ses~2", "ses"} {
		if err := id.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []AgentID{"ses~1", "ses~", "~2", "ses~02", "ses~x", "a~2~3"} {
		if id.Check() == nil {
			t.Errorf("%q is a name", id)
		}
	}
}
