package value

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Choice is a flag value out of a few words.
type Choice struct {
	value   string
	allowed []string
}

// OneOf is a choice whose value is the first word until another is set.
func OneOf(value string, others ...string) *Choice {
	return &Choice{value: value, allowed: append([]string{value}, others...)}
}

// Words are all that can be chosen.
func (c *Choice) Words() []string { return c.allowed }

// String is the word that was chosen.
func (c *Choice) String() string { return c.value }

// Type names the value in help texts.
func (c *Choice) Type() string { return strings.Join(c.allowed, "|") }

// Set takes one of the words.
func (c *Choice) Set(text string) error {
	if !slices.Contains(c.allowed, text) {
		return fmt.Errorf("must be one of %s", strings.Join(c.allowed, ", "))
	}
	c.value = text
	return nil
}

// Count is a whole number within bounds; 0 stands for "not given".
type Count struct{ n, least, most int }

// Within is a count from least to most, n until another is set.
func Within(n, least, most int) Count { return Count{n, least, most} }

// AtLeast is a count without an upper bound, not given until it is set.
func AtLeast(least int) Count { return Count{0, least, math.MaxInt32} }

// Int is the number, 0 when not given.
func (c *Count) Int() int { return c.n }

// Type names the value in help texts.
func (c *Count) Type() string { return "int" }

// String is "" when not given.
func (c *Count) String() string {
	if c.n == 0 {
		return ""
	}
	return strconv.Itoa(c.n)
}

// Set takes a number within the bounds.
func (c *Count) Set(text string) error {
	n, err := strconv.Atoi(text)
	switch {
	case err == nil && c.least <= n && n <= c.most:
		c.n = n
		return nil
	case c.most == math.MaxInt32:
		return fmt.Errorf("must be a whole number, %d or more", c.least)
	}
	return fmt.Errorf("must be a whole number from %d to %d", c.least, c.most)
}

// Counts is a list of such numbers with commas between them.
type Counts []int

// Type names the value in help texts.
func (c *Counts) Type() string { return "list" }

// String writes the list as Set reads it.
func (c *Counts) String() string {
	parts := make([]string, len(*c))
	for i, n := range *c {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, ",")
}

// Set replaces the list.
func (c *Counts) Set(text string) error {
	var list Counts
	for _, part := range strings.Split(text, ",") {
		n := AtLeast(1)
		if err := n.Set(strings.TrimSpace(part)); err != nil {
			return fmt.Errorf("every entry %w", err)
		}
		list = append(list, n.Int())
	}
	*c = list
	return nil
}

// Address is host:port; as a URL it may have http:// before it.
type Address string

// String is host:port.
func (a *Address) String() string { return string(*a) }

// Type names the value in help texts.
func (a *Address) Type() string { return "host:port" }

// Set takes host:port; the host may be empty, the port a number.
func (a *Address) Set(text string) error {
	bare := strings.TrimSuffix(strings.TrimPrefix(text, "http://"), "/")
	_, port, err := net.SplitHostPort(bare)
	if err != nil {
		return fmt.Errorf("must be host:port: %w", err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q must be a number from 0 to %d", port, math.MaxUint16)
	}
	*a = Address(bare)
	return nil
}

// URL is the address as a client writes it; a host that stands for "every
// interface" becomes the local one.
func (a Address) URL() string {
	host, port, _ := net.SplitHostPort(string(a))
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}).String()
}
