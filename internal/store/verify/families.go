package verify

import (
	"errors"
	"fmt"

	"mneme/internal/store/families"
	"mneme/internal/store/format"
)

// eachFamily reads both files of every family, and looks for what the members
// name that have no file of their own.
func (c *check) eachFamily() error {
	ids, stray, err := c.families.List()
	if err != nil {
		c.say(c.families.Dir, err.Error(), false)
	}
	err = c.strays(stray)
	for _, id := range ids {
		err = errors.Join(err, c.family(id))
	}
	return err
}

func (c *check) family(id format.FamilyID) error {
	path := c.families.Path(id)
	if whole, lost, encrypted, err := c.families.ReadSums(id); err != nil || encrypted {
		return errors.Join(err, c.familySums(id, whole, lost))
	}
	found, err := c.families.Read(id)
	if err != nil {
		return c.lostFamily(path, &found, err)
	}
	if found.Lost != "" {
		if err := c.mendFamily(&found); err != nil {
			return fmt.Errorf("repair %s: %w", path, err)
		}
		c.say(path, fmt.Sprintf("%s; %d members are known", found.Lost, len(found.Members)), c.repair)
	}
	members, err := c.families.Unwritten(&found)
	for _, m := range members {
		one := m.Of(found.Common)
		c.frames(path, &one)
	}
	return err
}

// mendFamily makes both files say what either says.
func (c *check) mendFamily(found *families.Found) error {
	if !c.repair {
		return nil
	}
	return c.families.Write(&found.Family)
}

// lostFamily names the agents that cannot be read with their family.
func (c *check) lostFamily(path string, found *families.Found, err error) error {
	err = c.unreadable(path, err)
	for _, m := range found.Members {
		c.say(path, fmt.Sprintf("agent %q is a member", m.ID), false)
	}
	return err
}
