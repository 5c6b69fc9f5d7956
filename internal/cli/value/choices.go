package value

import (
	"fmt"
	"slices"
	"strings"
)

// Choices is a list out of a few words, with commas between them. It is a flag
// value.
type Choices struct {
	chosen  []string
	allowed []string
}

// SomeOf is a list until another is set, which may have the others too.
func SomeOf(chosen []string, others ...string) Choices {
	return Choices{chosen: chosen, allowed: slices.Concat(chosen, others)}
}

// List are the words that were chosen.
func (c *Choices) List() []string { return c.chosen }

// Words are all that can be chosen.
func (c *Choices) Words() []string { return c.allowed }

// Type names the value in help texts.
func (c *Choices) Type() string { return "list" }

// String writes the list as Set reads it.
func (c *Choices) String() string { return strings.Join(c.chosen, ",") }

// Set replaces the list; no word may come twice.
func (c *Choices) Set(text string) error {
	var list []string
	for _, part := range strings.Split(text, ",") {
		word := strings.TrimSpace(part)
		switch {
		case !slices.Contains(c.allowed, word):
			return fmt.Errorf("every entry must be one of %s", strings.Join(c.allowed, ", "))
		case slices.Contains(list, word):
			return fmt.Errorf("%s is there twice", word)
		}
		list = append(list, word)
	}
	c.chosen = list
	return nil
}
