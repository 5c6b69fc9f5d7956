package talk

import (
	"crypto/sha256"
	"math/big"
	"regexp"
	"slices"

	"mneme/internal/chat"
)

// wantsNine finds templates that refuse ids of calls which are not 9 letters and
// digits, as Mistral's do.
var wantsNine = regexp.MustCompile(`\|\s*length\s*[!=]=\s*9\b`)

var isNine = regexp.MustCompile(`^[0-9A-Za-z]{9}$`)

// nine is an id of 9 letters and digits, the same for the same id.
func nine(id string) string {
	if isNine.MatchString(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return new(big.Int).SetBytes(sum[:]).Text(62)[:9]
}

// shorten gives all calls and their results such ids.
func shorten(messages []chat.Message) {
	for i := range messages {
		m := &messages[i]
		m.ToolCalls = slices.Clone(m.ToolCalls) // the request's own
		for k := range m.ToolCalls {
			m.ToolCalls[k].ID = nine(m.ToolCalls[k].ID)
		}
		if m.Role == "tool" {
			m.ToolCallID = nine(m.ToolCallID)
		}
	}
}
