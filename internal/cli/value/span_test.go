package value

import (
	"strings"
	"testing"
	"time"
)

// A length of time is written in days or as Go writes it; what cannot be one
// changes nothing.
func TestSpans(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		says string // String afterwards
		err  string
	}{
		{"720h", 720 * time.Hour, "30d", ""},
		{"30d", 720 * time.Hour, "30d", ""},
		{"1.5d", 36 * time.Hour, "36h0m0s", ""},
		{"90m", 90 * time.Minute, "1h30m0s", ""},
		{"0", 0, "", ""},
		{"", 0, "", ""},
		{"0d", 0, "", ""},
		{"30", time.Hour, "1h0m0s", `"30" is no length of time; write 30d, 720h, 90m, or 0 for never`},
		{"soon", time.Hour, "1h0m0s", `"soon" is no length of time`},
		{"d", time.Hour, "1h0m0s", `"d" is no length of time`},
		{"NaNd", time.Hour, "1h0m0s", `"NaNd" is no length of time`},
		{"1e300d", time.Hour, "1h0m0s", `"1e300d" is no length of time`},
		{"-1h", time.Hour, "1h0m0s", "a time of -1h lies in the past; write 0 for never"},
		{"-2d", time.Hour, "1h0m0s", "a time of -2d lies in the past"},
	} {
		s := Span(time.Hour)
		err := s.Set(c.text)
		if s.Duration() != c.want || s.String() != c.says || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %s, %q (%v), want %s, %q (%s)", c.text, s.Duration(), s.String(), err, c.want, c.says, c.err)
		}
	}
}
