package roster

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"mneme/internal/store/format"
	"mneme/internal/store/frames"
	"mneme/internal/store/journal"
	"mneme/internal/vfs"
)

// CatalogueName is the file, among agents, that spares a start reading theirs.
const CatalogueName = "catalogue"

// start is what Open knows of agents before it has read their folders.
type start struct {
	*Roster
	cards   map[string]format.Card // of the catalogue, by folder
	members map[string]*Agent      // of families, by the folder that they may have
}

func (r *Roster) load() error {
	if !r.o.Clean {
		if err := r.Sync(); err != nil {
			return fmt.Errorf("sync agents: %w", err)
		}
	}
	catalogue, err := r.takeCatalogue()
	if err != nil {
		return err
	}
	st := &start{r, map[string]format.Card{}, map[string]*Agent{}}
	for _, c := range catalogue.Agents {
		st.cards[r.Folder(AgentID{c.Namespace, c.ID})] = c
	}
	if err := st.loadFamilies(catalogue.Families); err != nil {
		return fmt.Errorf("families: %w", err)
	}
	return st.loadFolders()
}

// loadFolders reads the agents' folders, those of deleted agents first: a member
// that was deleted is none any more.
func (st *start) loadFolders() error {
	infos, err := st.o.FS.ReadDir(st.dir)
	if err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	for _, gone := range []bool{true, false} {
		for _, info := range infos {
			if !info.Dir || strings.HasSuffix(info.Name, journal.GoneSuffix) != gone {
				continue
			}
			if err := st.loadFolder(filepath.Join(st.dir, info.Name)); err != nil {
				return fmt.Errorf("agent folder %s: %w", info.Name, err)
			}
		}
	}
	for _, a := range st.members {
		st.agents[a.Name()] = a
	}
	return nil
}

// takeCatalogue reads the catalogue and takes it away durably before anything it
// says can change.
func (r *Roster) takeCatalogue() (c format.Catalogue, err error) {
	path := filepath.Join(r.dir, CatalogueName)
	data, err := vfs.ReadFile(r.o.FS, path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := r.o.FS.Remove(path); err != nil {
		return c, err
	}
	if err := r.o.FS.SyncDir(r.dir); err != nil {
		return c, err
	}
	c, err = format.DecodeCatalogue(data, r.o.Ring)
	if err != nil {
		r.o.Log.Info("store: reading every agent's file", "because", err)
		return format.Catalogue{}, nil
	}
	return c, nil
}

// Save writes the catalogue: it spares the next Open reading every agent's file.
// What has to be looked at is left out.
func (r *Roster) Save() {
	data, err := r.encode(r.catalogue())
	if err == nil {
		err = vfs.WriteFile(r.o.FS, filepath.Join(r.dir, CatalogueName), data)
	}
	if err != nil {
		r.o.Log.Warn("store: write catalogue", "err", err)
	}
}

func (r *Roster) catalogue() (c format.Catalogue) {
	for _, a := range r.agents {
		if a.Appendable && !a.Unwritten() {
			c.Agents = append(c.Agents, a.Card)
		}
	}
	slices.SortFunc(c.Agents, func(a, b format.Card) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	members := r.unlisted()
	for id, k := range r.kin {
		if k.whole {
			k.Members = slices.SortedFunc(slices.Values(members[id]), func(a, b format.Member) int { return cmp.Compare(a.ID, b.ID) })
			c.Families = append(c.Families, k.Kin)
		}
	}
	slices.SortFunc(c.Families, func(a, b format.Kin) int { return bytes.Compare(a.Family[:], b.Family[:]) })
	return c
}

// unlisted are the members of families that the catalogue has no cards of: those
// that have nothing of their own, or of which that has to be looked at.
func (r *Roster) unlisted() map[format.FamilyID][]format.Member {
	members := map[format.FamilyID][]format.Member{}
	all := slices.DeleteFunc(r.All(), func(a *Agent) bool { return a.Appendable && !a.Unwritten() })
	for _, a := range slices.AppendSeq(all, maps.Values(r.gone)) {
		members[a.Card.Family] = append(members[a.Card.Family], a.Card.Member())
	}
	return members
}

func (st *start) loadFolder(dir string) error {
	if strings.HasSuffix(dir, journal.GoneSuffix) {
		return st.loadGone(dir)
	}
	if card, ok := st.cards[dir]; ok {
		st.list(dir, &Agent{Card: card, Intact: true, Appendable: true})
		return nil
	}
	if !st.o.Clean {
		if err := journal.Sync(st.o.FS, dir); err != nil {
			return err
		}
	}
	_, a, err := st.read(dir, 0, memberOf(st.members[dir]))
	var damaged *format.DamagedError
	switch {
	case errors.As(err, &damaged):
		st.loadDamaged(dir, a, err)
		return nil
	case errors.Is(err, ErrNoAgent), err == nil && a.Unwritten() && a.lost == "": // a first publish that did not finish
		return vfs.RemoveTree(st.o.FS, dir)
	case err != nil:
		return err
	}
	st.sayLost(a)
	st.list(dir, a)
	return nil
}

func (st *start) list(dir string, a *Agent) {
	delete(st.members, dir)
	st.agents[a.Name()] = a
}

// loadDamaged lists an agent that cannot be read, if its file says which it is.
func (st *start) loadDamaged(dir string, a *Agent, err error) {
	st.o.Log.Error("store: agent cannot be read", "err", err)
	st.noteKeyless(keyless{dir: dir}, err)
	if a == nil || st.Folder(a.Name()) != dir {
		st.noteDamage(frames.Damage{Where: dir, Reason: err.Error()})
		return
	}
	st.note(a, a.Damaged)
	st.list(dir, a)
}

// loadGone notes an agent whose delete a crash cut short. Without a file in its
// folder it was not deleted yet.
func (st *start) loadGone(dir string) error {
	found, err := journal.Read(st.o.FS, dir, 0, st.common, st.o.Ring)
	var damaged *format.DamagedError
	a := &Agent{}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return vfs.RemoveTree(st.o.FS, dir)
	case errors.As(err, &damaged):
		a.Damaged = err.Error()
	case err != nil:
		return err
	default:
		a.Card = format.CardOf(&found.Manifest, found.Former, found.Mark)
		a.Card.Family = found.BaseID()
	}
	alive := strings.TrimSuffix(dir, journal.GoneSuffix)
	if m := st.members[alive]; m != nil {
		if a.Damaged != "" {
			a.Card = m.Card
		}
		a.Card.Family = m.Card.Family
		delete(st.members, alive)
	}
	st.gone[dir] = a
	return nil
}
