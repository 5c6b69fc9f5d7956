package proof

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"mneme/internal/engine"
	"mneme/internal/vfs"
)

const deletions = 1500

// Agents are deleted while others take their first turns, whose blocks no agent
// names yet: every turn is stored, and after a restart nothing of it is computed.
func TestDeletesWhileOthersSpeak(t *testing.T) { each(t, proveDeletes) }

func proveDeletes(t *testing.T, c cover) {
	n := deletions / share
	disk := vfs.NewCrashable()
	h := mustOpen(t, disk, c)
	var all sync.WaitGroup
	var errs [3]error
	for i, name := range []string{"guest", "ada", "bob"} {
		all.Go(func() {
			for turn := range n {
				id := engine.AgentID(fmt.Sprint(name, turn))
				_, done, err := h.ask(namespace, id, words(20+37*i, 1000*i+turn))
				if err = errors.Join(err, done.PublishErr); err == nil && (name == "guest" || turn < n-10) {
					err = h.DeleteAgent(namespace, id)
				}
				if err != nil {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %w", id, err))
				}
			}
		})
	}
	all.Wait()
	must(t, errors.Join(errs[:]...))
	must(t, h.close())
	h = mustOpen(t, disk, c)
	agents := h.Agents(namespace)
	for _, a := range agents {
		if info, err := h.Turns(namespace, a.ID); err != nil || len(info) != 1 {
			t.Errorf("%s: %v, %v", a.ID, info, err)
		}
		m, err := h.store.Load(namespace, string(a.ID))
		must(t, err)
		_, done, err := h.ask(namespace, a.ID, join(m.Tokens, words(5, 1)))
		if must(t, err); done.Usage.Cached != len(m.Tokens)-1 {
			t.Errorf("%s: %d tokens cached, want %d", a.ID, done.Usage.Cached, len(m.Tokens)-1)
		}
	}
	if len(agents) != 20 {
		t.Errorf("%d agents are there, want 20", len(agents))
	}
	must(t, h.close())
	t.Logf("%d agents deleted while others took their first turns: every turn stored", 3*n-20)
}
