package value

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Span is a length of time as a user writes it: 720h, 90m, 30d. The zero value,
// also written 0, means "never". It is a flag value.
type Span time.Duration

// Duration is the span; 0 when not given.
func (s *Span) Duration() time.Duration { return time.Duration(*s) }

// Type names the value in help texts.
func (s *Span) Type() string { return "duration" }

// String writes the span so that Set reads it again, whole days as days; "" when
// not given.
func (s *Span) String() string {
	switch d := time.Duration(*s); {
	case d == 0:
		return ""
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	default:
		return d.String()
	}
}

// Set takes a number of days as in 30d, what Go calls a duration, 0 or nothing.
func (s *Span) Set(text string) error {
	d, err := parseSpan(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no length of time; write 30d, 720h, 90m, or 0 for never", text)
	case d < 0:
		return fmt.Errorf("a time of %s lies in the past; write 0 for never", text)
	}
	*s = Span(d)
	return nil
}

func parseSpan(text string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(text, "d")
	if !isDays {
		return time.ParseDuration(cmp.Or(text, "0"))
	}
	n, err := strconv.ParseFloat(days, 64)
	if err == nil && !(math.Abs(n) < float64(math.MaxInt64/day)) { // not a number neither
		err = strconv.ErrRange
	}
	return time.Duration(n * float64(day)), err
}
