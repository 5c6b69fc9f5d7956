package offline

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"mneme/internal/cli/remote"
	"mneme/internal/cli/value"
	"mneme/internal/store"
	"mneme/internal/store/keyring"
	"mneme/internal/vfs"
)

// List prints the agents of a data folder: a table, or what a server would say.
func List(w io.Writer, dir string, ring *keyring.Ring, asJSON bool) error {
	agents, err := Agents(vfs.Real(), dir, ring)
	if err != nil {
		return err
	}
	if asJSON {
		list := remote.List[Agent]{Object: remote.Object{Kind: "list"}, Data: append([]Agent{}, agents...)}
		return json.NewEncoder(w).Encode(list)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "AGENT\tTURNS\tTOKENS\tMODEL\tLAST USED\tDAMAGE")
	for _, a := range agents {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\n", value.Clip(a.ID), a.Turns, a.Tokens, value.Clip(a.Model), value.Time(a.LastUsed), a.Damage)
	}
	return table.Flush()
}

// tally counts and prints findings.
type tally struct {
	w           io.Writer
	found, left int
}

func (t *tally) add(f store.Finding) {
	t.found++
	note := " (repaired)"
	if !f.Repaired {
		t.left++
		note = ""
	}
	fmt.Fprintf(t.w, "%s: %s%s\n", f.Path, f.Reason, note)
}

// Verify prints what in a data folder is not as it was written, and fails when
// something stays so.
func Verify(w io.Writer, dir string, repair bool) error {
	if err := check(vfs.Real(), dir); err != nil {
		return err
	}
	t := &tally{w: w}
	err := store.Verify(vfs.Real(), dir, repair, t.add)
	switch {
	case err != nil:
		return err
	case t.left > 0:
		return fmt.Errorf("%d of %d findings are left", t.left, t.found)
	case t.found == 0:
		_, err = fmt.Fprintf(w, "%s is whole\n", dir)
	}
	return err
}
