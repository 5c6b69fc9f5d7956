package value

import (
	"math"
	"testing"
	"testing/quick"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"512MiB": {Bytes: 512 << 20}, "4GiB": {Bytes: 4 << 30}, "1.5KiB": {Bytes: 1536}, "1TiB": {Bytes: 1 << 40},
		"2GB": {Bytes: 2e9}, "100": {Bytes: 100}, "7B": {Bytes: 7}, "4 GiB": {Bytes: 4 << 30},
		"25%": {Percent: 25}, "0.5%": {Percent: 0.5}, "100%": {Percent: 100},
	} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("%q is %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "-1GiB", "0", "0MiB", "0%", "101%", "1e3", "1.2.3MiB", "4gib", "NaN", "+Inf", "Inf%", "9999999TiB", "0.1B", "1KiB2"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// What String writes, ParseSize reads as the same size.
func TestSizesSurviveWriting(t *testing.T) {
	same := func(n int64) bool {
		s := Size{Bytes: n&(math.MaxInt64>>11) + 1} // all of these are exact in a float64
		got, err := ParseSize(s.String())
		return err == nil && got == s
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080", "http://example.org:1/": "http://example.org:1",
		":9": "http://127.0.0.1:9", "0.0.0.0:9": "http://127.0.0.1:9", "[::]:9": "http://127.0.0.1:9", "[::1]:9": "http://[::1]:9",
	} {
		var a Address
		if err := a.Set(text); err != nil || a.URL() != want {
			t.Errorf("%q: %s (%v), want %s", text, a.URL(), err, want)
		}
	}
}

// A count says its bounds when it is out of them, and stays what it was.
func TestCounts(t *testing.T) {
	within, atLeast := Within(3, 2, 8), AtLeast(16)
	for _, c := range []struct {
		count *Count
		text  string
		want  string // after it
		err   string
	}{
		{&within, "1", "3", "must be a whole number from 2 to 8"},
		{&within, "9", "3", "must be a whole number from 2 to 8"},
		{&within, "8", "8", ""},
		{&within, "99999999999999999999", "8", "must be a whole number from 2 to 8"},
		{&atLeast, "15", "", "must be a whole number, 16 or more"},
		{&atLeast, "4294967296", "", "must be a whole number, 16 or more"},
		{&atLeast, "16", "16", ""},
	} {
		err := c.count.Set(c.text)
		if c.count.String() != c.want || err == nil != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %q (%v), want %q and %q", c.text, c.count.String(), err, c.want, c.err)
		}
	}
}

// A list of words has no strangers and nobody twice, and stays what it was then.
func TestChoices(t *testing.T) {
	c := SomeOf([]string{"q8", "q4"}, "q3")
	for _, step := range []struct{ text, want, err string }{
		{"q3, q8", "q3,q8", ""},
		{"q4,f16", "q3,q8", "every entry must be one of q8, q4, q3"},
		{"", "q3,q8", "every entry must be one of q8, q4, q3"},
		{"q4,q4", "q3,q8", "q4 is there twice"},
		{"q4", "q4", ""},
	} {
		err := c.Set(step.text)
		if c.String() != step.want || err == nil != (step.err == "") || err != nil && err.Error() != step.err {
			t.Errorf("%q: %q (%v), want %q and %q", step.text, c.String(), err, step.want, step.err)
		}
	}
}
