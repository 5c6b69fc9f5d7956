package api_test

import (
	"mneme/internal/engine"
	"mneme/internal/engine/reuse"
	"mneme/internal/lineage"
	"mneme/internal/token"
)

// note makes the report of an agent's turn, as the engine does. before is what the
// agent had seen.
func (f *fake) note(id string, before []token.ID, s *fakeStream, done engine.Completed) {
	cached := done.Usage.Cached
	r := reuse.Report{Prompt: len(s.prompt), Hot: cached, Computed: len(s.prompt) - cached, Diverged: -1}
	at := lineage.CommonPrefix(before, s.prompt)
	switch {
	case len(before) == 0:
		r.Cause = reuse.FirstTurn
	case at < len(before):
		r.Diverged, r.Offset, r.Cause = at, at, reuse.Diverged
		r.Known, r.Asked = near(before, at), near(s.prompt, at)
	}
	if f.reports == nil {
		f.reports = map[string]map[int]reuse.Report{}
	}
	if f.reports[id] == nil {
		f.reports[id] = map[int]reuse.Report{}
	}
	f.reports[id][done.Turn] = r
}

// near is up to four tokens from a place on.
func near(ids []token.ID, at int) string {
	return letters().Decode(ids[at:min(len(ids), at+4)])
}

func (f *fake) Reuse(_ engine.Namespace, id engine.AgentID, turn int) (reuse.Report, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.reports[string(id)][turn]
	return r, ok
}
