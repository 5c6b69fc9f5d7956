package verify

import (
	"fmt"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
)

// sums says what is wrong with an agent's encrypted file, and puts what is whole of
// it in place. What it means takes a key: that is left to the next start.
func (c *check) sums(dir string, found journal.Sums, err error) error {
	switch {
	case err != nil:
		return c.unreadable(dir, err)
	case found.Lost == "":
		return nil
	case c.repair:
		if err := journal.Write(c.fs, dir, found.Data, false); err != nil {
			return fmt.Errorf("repair %s: %w", dir, err)
		}
	}
	c.say(dir, "its agent stands at an earlier turn: "+found.Lost, c.repair)
	return nil
}

// familySums says what is wrong with the files of an encrypted family. One that is
// whole is put in place of the other; without, the next start saves what can be.
func (c *check) familySums(id format.FamilyID, whole []byte, lost string) error {
	if lost == "" {
		return nil
	}
	mended := c.repair && whole != nil
	if mended {
		if err := c.families.Copy(id, whole); err != nil {
			return fmt.Errorf("repair %s: %w", c.families.Path(id), err)
		}
	}
	c.say(c.families.Path(id), lost, mended)
	return nil
}
