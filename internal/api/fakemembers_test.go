package api_test

import (
	"fmt"
	"strings"
	"time"

	"mneme/internal/engine"
	"mneme/internal/token"
)

// family is what the fake knows of conversations.
type family struct {
	prompts map[engine.AgentID]string // the first one of each member
	said    map[engine.AgentID][]string
	waits   map[engine.AgentID]time.Time
}

func newFamily() family {
	return family{map[engine.AgentID]string{}, map[engine.AgentID][]string{}, map[engine.AgentID]time.Time{}}
}

// Member is the first member whose first prompt, up to where the assistant was to
// speak, begins this one.
func (f *fake) Member(_ engine.Namespace, family engine.AgentID, prompt string) (id, parent engine.AgentID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	start := strings.TrimSuffix(prompt, "<|im_start|>assistant\n")
	for n := 1; ; n++ {
		id = family
		if n > 1 {
			id, parent = engine.AgentID(fmt.Sprintf("%s~%d", family, n)), family
		}
		first, taken := f.family.prompts[id]
		if taken && strings.HasPrefix(prompt, first) {
			return id, ""
		}
		if !taken {
			f.family.prompts[id] = start
			return id, parent
		}
	}
}

func (f *fake) Said(_ engine.Namespace, id engine.AgentID) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.family.said[id]
}

func (f *fake) Await(_ engine.Namespace, id engine.AgentID, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.family.waits[id] = until
}

// prompt is the tokens of request i.
func (f *fake) prompt(i int) []token.ID {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids, _ := letters().IDs(f.requests[i].Text, token.Options{ParseSpecial: true})
	return ids
}
