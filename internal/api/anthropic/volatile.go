package anthropic

import "strings"

// BillingLine says what becomes of a line that a known client puts before its
// system prompt and that is another one each time: with it no prompt begins as
// the one before did.
type BillingLine uint8

const (
	StripBilling BillingLine = iota // it is left out of the prompt
	KeepBilling                     // it is a text like any other
)

const (
	// StrippedHeader is the answer's header that names what was left out.
	StrippedHeader = "X-Mneme-Stripped"
	// billingHeader is what the line begins with, and its name.
	billingHeader = "x-anthropic-billing-header"
)

// stripped is a text of the system prompt without the volatile lines that it
// begins with, and whether it had any.
func stripped(text string) (rest string, had bool) {
	for strings.HasPrefix(text, billingHeader+":") {
		_, text, _ = strings.Cut(text, "\n")
		had = true
	}
	return text, had
}
