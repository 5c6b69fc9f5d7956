package ask

import (
	"mneme/internal/api/diagnose"
	"mneme/internal/api/fields"
	"mneme/internal/api/turn"
	"mneme/internal/engine"
)

// Diagnostics say why a prompt does not begin as that of an earlier response did.
type Diagnostics struct {
	Type     string `json:"type"` // one of the constants below
	Reason   string `json:"reason,omitempty"`
	Reusable *int   `json:"comparison_reusable_tokens,omitempty"` // that the earlier response had
	Missed   *int   `json:"cache_missed_tokens,omitempty"`        // of them that were computed again
}

// The types of Diagnostics.
const (
	cacheHit         = "cache_hit"  // nothing differs
	cacheMiss        = "cache_miss" // with Reason and counts
	responseNotFound = "comparison_response_not_found"
	unavailable      = "unavailable" // nothing differs, and yet KV was not there
)

// missReasons are the vendor's names; what has none is a changed input.
var missReasons = map[diagnose.Reason]string{
	diagnose.ModelChanged:    "model_changed",
	diagnose.ToolsChanged:    "tools_changed",
	diagnose.ToolsReordered:  "tools_changed",
	diagnose.SettingsChanged: "reasoning_effort_changed",
}

const inputChanged = "input_changed"

// Earlier is the response that a request wants to be compared with, "" for none.
func Earlier(o *fields.Object) string {
	if p := o.Sub("prompt_cache_options"); p != nil {
		return p.Text("comparison_response_id", "")
	}
	return ""
}

// Diagnose compares the conversation with that of an earlier response; nil without
// one.
func Diagnose(d *turn.Desk, earlier string, u engine.Usage) *Diagnostics {
	if earlier == "" {
		return nil
	}
	f := d.Compare(earlier, u.Prompt, u.Cached)
	switch {
	case f.Reason == diagnose.NotFound:
		return &Diagnostics{Type: responseNotFound}
	case f.Lost():
		return &Diagnostics{Type: unavailable}
	case f.Reason == diagnose.None:
		return &Diagnostics{Type: cacheHit}
	}
	reason, named := missReasons[f.Reason]
	if !named {
		reason = inputChanged
	}
	return &Diagnostics{cacheMiss, reason, &f.Reusable, &f.Missed}
}
