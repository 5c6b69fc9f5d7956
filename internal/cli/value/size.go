// Package value has the values of flags, as a user writes them: sizes,
// addresses, counts, a choice of words. Each one parses and checks itself, so
// that a flag, a variable and a configuration file mean the same. What a value
// is for is cli's business.
package value

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is an amount of bytes as a user writes it: 512MiB, 4GiB, 25%.
// The zero value means "not given". It is a flag value.
type Size struct {
	Bytes   int64   // of an absolute size
	Percent float64 // of a relative one, 0 < Percent <= 100
}

var units = map[string]float64{
	"": 1, "B": 1,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}

// ParseSize reads a number with a unit (B, KiB … TiB, KB … TB) or a percentage.
func ParseSize(text string) (Size, error) {
	at := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if at < 0 {
		at = len(text)
	}
	n, err := strconv.ParseFloat(text[:at], 64)
	unit := strings.TrimSpace(text[at:])
	if err != nil || n <= 0 {
		return Size{}, sizeProblem(text)
	}
	if unit == "%" {
		if n > 100 {
			return Size{}, fmt.Errorf("a share of %s is more than there is", text)
		}
		return Size{Percent: n}, nil
	}
	factor, ok := units[unit]
	if !ok {
		return Size{}, sizeProblem(text)
	}
	if n*factor < 1 || n*factor > math.MaxInt64/2 {
		return Size{}, fmt.Errorf("a size of %s is out of range", text)
	}
	return Size{Bytes: int64(n * factor)}, nil
}

func sizeProblem(text string) error {
	return fmt.Errorf("%q is no size; write 512MiB, 4GiB or 25%%", text)
}

// Given says whether the size was set.
func (s Size) Given() bool { return s.Bytes > 0 || s.Percent > 0 }

// Of is the size in bytes when the whole has totalBytes.
func (s Size) Of(totalBytes int64) int64 {
	if s.Percent > 0 {
		return int64(float64(totalBytes) * s.Percent / 100)
	}
	return s.Bytes
}

// String writes the size so that ParseSize reads it again; "" when not given.
func (s Size) String() string {
	switch {
	case s.Percent > 0:
		return strconv.FormatFloat(s.Percent, 'f', -1, 64) + "%"
	case s.Bytes > 0:
		return exactBytes(s.Bytes)
	}
	return ""
}

// Set and Type make Size a flag value.
func (s *Size) Set(text string) (err error) { *s, err = ParseSize(text); return err }

// Type names the value in help texts.
func (s *Size) Type() string { return "size" }

// exactBytes uses the largest binary unit that loses nothing.
func exactBytes(n int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if size := int64(units[unit]); n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// Bytes writes an amount for a reader: 3 digits at most before the unit.
func Bytes(n int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if size := units[unit]; float64(n) >= size {
			return strconv.FormatFloat(float64(n)/size, 'f', 1, 64) + " " + unit
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
