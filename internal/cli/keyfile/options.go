package keyfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"mneme/internal/api/access"
	"mneme/internal/cli/value"
)

// MaxWeight is the most that a key's share may weigh.
const MaxWeight = 100

// options are what may stand behind a key's digest.
var options = []option{
	rate("requests", func(l *access.Limits) *access.Rate { return &l.Requests }),
	rate("tokens", func(l *access.Limits) *access.Rate { return &l.Tokens }),
	{
		name: "kv",
		set: func(l *access.Limits, text string) error {
			size, err := value.ParseSize(text)
			if err == nil && size.Percent > 0 {
				err = fmt.Errorf("%s is a share; a quota is in bytes, as in 4GiB", text)
			}
			l.DiskBytes = size.Bytes
			return err
		},
		show: func(l *access.Limits) string { return value.Size{Bytes: l.DiskBytes}.String() },
	},
	{
		name: "weight",
		set: func(l *access.Limits, text string) (err error) {
			if l.Weight, err = strconv.Atoi(text); err != nil || l.Weight < 1 || l.Weight > MaxWeight {
				err = fmt.Errorf("%q is no weight; write a whole number from 1 to %d", text, MaxWeight)
			}
			return err
		},
		show: func(l *access.Limits) string {
			if l.Weight <= 1 {
				return ""
			}
			return strconv.Itoa(l.Weight)
		},
	},
}

// option is one of them: name=text.
type option struct {
	name string
	set  func(l *access.Limits, text string) error
	show func(l *access.Limits) string // "" for none
}

func rate(name string, of func(*access.Limits) *access.Rate) option {
	return option{
		name: name,
		set:  func(l *access.Limits, text string) error { return (*Rate)(of(l)).Set(text) },
		show: func(l *access.Limits) string { return (*Rate)(of(l)).String() },
	}
}

// Rate is a rate as a user writes it: 60/m. It is a flag value; the zero value is
// no limit.
type Rate access.Rate

// String is "" when not given.
func (r *Rate) String() string {
	if *r == (Rate{}) {
		return ""
	}
	return access.Rate(*r).String()
}

// Type names the value in help texts.
func (r *Rate) Type() string { return "rate" }

// Set takes a whole number per s, m, h or d.
func (r *Rate) Set(text string) error {
	amount, sign, _ := strings.Cut(text, "/")
	n, err := strconv.ParseInt(amount, 10, 64)
	for _, u := range access.Units {
		if err == nil && 0 < n && n <= math.MaxInt32 && u.Sign == sign {
			*r = Rate{Amount: n, Per: u.Per}
			return nil
		}
	}
	return fmt.Errorf("%q is no rate; write 60/m, or as many per s, h or d", text)
}
