package anthropic

import (
	"mneme/internal/api/diagnose"
	"mneme/internal/api/fields"
)

// Diagnostics say why a conversation does not begin as an earlier one did; null
// when it does, or when nobody asked.
type Diagnostics struct {
	Reason MissReason `json:"cache_miss_reason"`
}

// MissReason is what differs first, and about how many tokens were computed again
// for that.
type MissReason struct {
	Type   string `json:"type"`
	Missed *int   `json:"cache_missed_input_tokens,omitempty"`
}

// earlier is the answer to compare with, "" for none.
func earlier(o *fields.Object) string {
	if d := o.Sub("diagnostics"); d != nil {
		return d.Text("previous_message_id", "")
	}
	return ""
}

// missTypes are the vendor's names; what has none is unavailable.
var missTypes = map[diagnose.Reason]string{
	diagnose.ModelChanged:   "model_changed",
	diagnose.SystemChanged:  "system_changed",
	diagnose.ToolsChanged:   "tools_changed",
	diagnose.ToolsReordered: "tools_changed",
	diagnose.HistoryEdited:  "messages_changed",
}

// diagnostics compare the conversation with the one the request names.
func (t *speech) diagnostics(cachedTokens int) *Diagnostics {
	if t.ask.Earlier == "" {
		return nil
	}
	f := t.desk.Compare(t.ask.Earlier, t.prompt, cachedTokens)
	kind, named := missTypes[f.Reason]
	switch {
	case f.Reason == diagnose.None:
		return nil
	case f.Reason == diagnose.NotFound:
		return &Diagnostics{MissReason{Type: "previous_message_not_found"}}
	case !named:
		return &Diagnostics{MissReason{Type: "unavailable"}}
	}
	return &Diagnostics{MissReason{kind, &f.Missed}}
}
