package diagnose

import (
	"slices"

	"mneme/internal/engine/reuse"
	"mneme/internal/kv"
)

// Reason says why KV that might have been used was not.
type Reason string

// What differs between two conversations; engine's causes are reasons too.
const (
	None            Reason = ""
	ModelChanged    Reason = "model_changed"
	SystemChanged   Reason = "system_changed"
	ToolsChanged    Reason = "tools_changed"
	ToolsReordered  Reason = "tools_reordered"
	HistoryEdited   Reason = "history_edited"
	SettingsChanged Reason = "settings_changed"    // variables of the template
	Rerendered      Reason = "template_rerendered" // all is the same but the prompt's text
	NotFound        Reason = "not_found"           // there is nothing to compare with
)

// Asked is a conversation that waits for its answer, or has it.
type Asked struct {
	Print
	Text   string // of the prompt
	Tokens int    // of the prompt
	Cached int    // of them that were not computed
}

// Finding is what a comparison came to. Counts are tokens.
type Finding struct {
	Reason   Reason
	Message  int // with HistoryEdited: the first that differs, behind the system prompt
	Reusable int // that the earlier conversation had
	Missed   int // of them that were computed again
}

// Compare says what of a conversation is no longer as it was; only the first
// difference counts.
func Compare(before Print, now Asked) Finding {
	f := Finding{Reusable: before.Tokens}
	f.Missed = max(0, min(f.Reusable, now.Tokens-1)-now.Cached)
	f.Reason, f.Message = differs(before, now)
	return f
}

func differs(before Print, now Asked) (Reason, int) {
	switch {
	case before.Model != now.Model:
		return ModelChanged, 0
	case before.Whole.begins(now.Text) || before.Prompt == now.Prompt:
		return None, 0
	case before.System != now.System:
		return SystemChanged, 0
	case !slices.Equal(before.Tools, now.Tools):
		return toolsDiffer(before.Tools, now.Tools), 0
	}
	if i := firstEdited(before.said(), now.Messages); i >= 0 {
		return HistoryEdited, i
	}
	switch {
	case before.Variables != now.Variables:
		return SettingsChanged, 0
	case len(now.Messages) < len(before.Messages): // the beginning of what was
		return None, 0
	}
	return Rerendered, 0
}

func toolsDiffer(a, b []Tool) Reason {
	if slices.Equal(slices.SortedFunc(slices.Values(a), byDigest), slices.SortedFunc(slices.Values(b), byDigest)) {
		return ToolsReordered
	}
	return ToolsChanged
}

// firstEdited is the first place where what both have differs, -1 for none.
func firstEdited(a, b []Digest) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// Slight is the finding without one that cost next to nothing: most templates trim
// what the model said.
func (f Finding) Slight() Finding {
	if (f.Reason == SettingsChanged || f.Reason == Rerendered) && f.Missed <= kv.BlockTokens {
		f.Reason = None
	}
	return f
}

// Lost tells of KV that was not there although nothing differs: evicted or
// damaged. Without an agent the last, open block is never there.
func (f Finding) Lost() bool { return f.Reason == None && f.Missed > kv.BlockTokens }

// Diverged tells whether a prompt differs from what the agent had seen, rather than
// ends within it.
func Diverged(r reuse.Report) bool { return r.Diverged >= 0 && r.Diverged < r.Prompt }

// Explain is the reason of a turn: what changed in the conversation, where it did
// and that is known; else the engine's cause.
func Explain(r reuse.Report, f Finding) Reason {
	switch {
	case r.Cause != reuse.Diverged:
		return Reason(r.Cause)
	case !Diverged(r):
		return None
	case f.Reason == None || f.Reason == NotFound:
		return Reason(reuse.Diverged)
	}
	return f.Reason
}
