package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"mneme/internal/store/format"
	"mneme/internal/store/journal"
	"mneme/internal/vfs"
)

const (
	catalogueName = "catalogue"
	goneSuffix    = ".gone" // ends the folder of a deleted agent until it is erased
)

// loadAgents lists every agent: from the catalogue that Close left, or from its
// own file. After an unclean end the files are synced first: what is shown must
// not be lost later.
func (s *Store) loadAgents() error {
	if !s.clean {
		if err := s.o.FS.SyncDir(s.agentsDir); err != nil {
			return fmt.Errorf("sync agents: %w", err)
		}
	}
	cards, err := s.takeCatalogue()
	if err != nil {
		return err
	}
	infos, err := s.o.FS.ReadDir(s.agentsDir)
	if err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	for _, info := range infos {
		if !info.Dir {
			continue
		}
		dir := filepath.Join(s.agentsDir, info.Name)
		if card, ok := cards[dir]; ok {
			s.agents[agentID{card.Namespace, card.ID}] = &agent{card: card, intact: true, appendable: true}
		} else if err := s.loadFolder(dir); err != nil {
			return fmt.Errorf("agent folder %s: %w", info.Name, err)
		}
	}
	return nil
}

// takeCatalogue reads the catalogue, by agents' folders, and takes it away
// durably before anything it says can change.
func (s *Store) takeCatalogue() (map[string]format.Card, error) {
	path := filepath.Join(s.agentsDir, catalogueName)
	data, err := vfs.ReadFile(s.o.FS, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.o.FS.Remove(path); err != nil {
		return nil, err
	}
	if err := s.o.FS.SyncDir(s.agentsDir); err != nil {
		return nil, err
	}
	cards, err := format.DecodeCatalogue(data)
	if err != nil {
		s.o.Log.Info("store: reading every agent's file", "because", err)
	}
	byDir := map[string]format.Card{}
	for _, c := range cards {
		byDir[s.agentDir(agentID{c.Namespace, c.ID})] = c
	}
	return byDir, nil
}

// saveCatalogue spares the next Open reading every agent's file. Agents whose
// file has to be looked at are left out.
func (s *Store) saveCatalogue() {
	var cards []format.Card
	for _, a := range s.agents {
		if a.appendable {
			cards = append(cards, a.card)
		}
	}
	slices.SortFunc(cards, func(a, b format.Card) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	err := vfs.WriteFile(s.o.FS, filepath.Join(s.agentsDir, catalogueName), format.EncodeCatalogue(cards))
	if err != nil {
		s.o.Log.Warn("store: write catalogue", "err", err)
	}
}

func (s *Store) loadFolder(dir string) error {
	if strings.HasSuffix(dir, goneSuffix) {
		return s.loadGone(dir)
	}
	if !s.clean {
		if err := journal.Sync(s.o.FS, dir); err != nil {
			return err
		}
	}
	_, a, err := s.readAgent(dir, 0)
	var damaged *DamagedError
	switch {
	case errors.Is(err, ErrNoAgent): // a first publish that did not finish
		return vfs.RemoveTree(s.o.FS, dir)
	case errors.As(err, &damaged):
		s.loadDamaged(dir, a, err)
		return nil
	case err != nil:
		return err
	}
	s.sayLost(a)
	s.agents[a.name()] = a
	return nil
}

// loadDamaged lists an agent that cannot be read, if its file says which it is.
func (s *Store) loadDamaged(dir string, a *agent, err error) {
	s.o.Log.Error("store: agent cannot be read", "err", err)
	if a == nil || s.agentDir(a.name()) != dir {
		s.count(func(st *Stats) { st.DamagedManifests++ })
		s.frames.Note(Damage{Where: dir, Reason: err.Error()})
		return
	}
	s.noteAgent(a, a.damaged)
	s.agents[a.name()] = a
}

// loadGone notes an agent whose delete a crash cut short.
func (s *Store) loadGone(dir string) error {
	found, err := journal.Read(s.o.FS, dir, 0)
	var damaged *DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return vfs.RemoveTree(s.o.FS, dir)
	case errors.As(err, &damaged):
		s.gone[dir] = &agent{damaged: err.Error()}
	case err != nil:
		return err
	default:
		s.gone[dir] = &agent{card: format.CardOf(&found.Manifest, found.Former, found.Mark)}
	}
	return nil
}
