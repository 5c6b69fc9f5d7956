package sample

import (
	"fmt"
	"strings"
)

// Limits on stop strings.
const (
	maxStops     = 16
	maxStopBytes = 1024
)

// CheckStops refuses stop strings that a Stopper cannot take, as a *ParamError.
func CheckStops(stops []string) error {
	if len(stops) > maxStops {
		return &ParamError{"stop", fmt.Sprintf("%d strings, at most %d are allowed", len(stops), maxStops)}
	}
	for i, stop := range stops {
		if stop == "" || len(stop) > maxStopBytes {
			return &ParamError{"stop", fmt.Sprintf("string %d has %d bytes, not within 1 to %d", i, len(stop), maxStopBytes)}
		}
	}
	return nil
}

// Stopper ends a text at the first stop string that becomes complete in it.
//   - How the text falls into pushes makes no difference.
//   - Neither a stop string nor a beginning of the one that ends the text is
//     ever emitted: what could begin one is held until it is decided.
//   - Of stop strings that become complete at the same place, the one that
//     begins first cuts the text.
type Stopper struct {
	stops   []string
	held    string // the longest end of the text that begins a stop string
	stopped bool
}

// NewStopper starts a text; empty stop strings are nothing to look for.
func NewStopper(stops []string) *Stopper {
	s := &Stopper{}
	for _, stop := range stops {
		if stop != "" {
			s.stops = append(s.stops, stop)
		}
	}
	return s
}

// Push takes the next text and returns what can be shown, and whether the text
// has ended; after that it shows nothing.
func (s *Stopper) Push(text string) (emit string, stopped bool) {
	if s.stopped {
		return "", true
	}
	text = s.held + text
	if at, found := s.find(text); found {
		s.held, s.stopped = "", true
		return text[:at], true
	}
	open := s.openLen(text)
	s.held = text[len(text)-open:]
	return text[:len(text)-open], false
}

// Flush ends the text and returns what was still held.
func (s *Stopper) Flush() string {
	held := s.held
	s.held = ""
	return held
}

// find returns where the stop string begins that is the first to end.
func (s *Stopper) find(text string) (start int, found bool) {
	end := len(text) + 1
	for _, stop := range s.stops {
		at := strings.Index(text, stop)
		if at < 0 {
			continue
		}
		if at+len(stop) < end || at+len(stop) == end && at < start {
			start, end, found = at, at+len(stop), true
		}
	}
	return start, found
}

// openLen is the length of the longest end of text that begins a stop string.
func (s *Stopper) openLen(text string) int {
	longest := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}
