package store

import (
	"cmp"
	"fmt"
	"slices"

	"mneme/internal/store/roster"
)

type agentID = roster.AgentID

func idOf(m *Manifest) agentID { return agentID{Namespace: m.Namespace, ID: m.ID} }

// List gives the header of every agent, by namespace and id; those that cannot
// be read say why.
func (s *Store) List() []AgentHeader {
	var headers []AgentHeader
	for _, a := range s.roster.All() {
		headers = append(headers, headerOf(&a.Card, a.Damaged))
	}
	slices.SortFunc(headers, func(a, b AgentHeader) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ID, b.ID))
	})
	return headers
}

// Header is the header of one agent; false if there is none of that name.
func (s *Store) Header(namespace, id string) (AgentHeader, bool) {
	a := s.roster.Agent(agentID{Namespace: namespace, ID: id})
	if a == nil {
		return AgentHeader{}, false
	}
	return headerOf(&a.Card, a.Damaged), true
}

// Load gives an agent's manifest. When the end of its file is damaged the agent
// stands at the turn before from now on, and it is logged and counted. ErrNoAgent
// when there is none, a *DamagedError when it cannot be read.
func (s *Store) Load(namespace, id string) (Manifest, error) {
	if err := s.enter(); err != nil {
		return Manifest{}, err
	}
	defer s.leave()
	before := s.roster.Agent(agentID{Namespace: namespace, ID: id})
	if before == nil {
		return Manifest{}, fmt.Errorf("store: agent %q: %w", id, ErrNoAgent)
	}
	m, ok := s.roster.Look(before)
	if !ok {
		var err error
		if m, err = s.lookAgain(before); err != nil {
			return Manifest{}, fmt.Errorf("store: load agent %q: %w", id, err)
		}
	}
	return clipped(m), nil
}

// second is a second look at an agent, by the writer: nobody changes its file then.
type second struct {
	id   agentID
	body Manifest
	done chan error
}

func (s *Store) lookAgain(a *roster.Agent) (Manifest, error) {
	if a.Damaged != "" {
		return s.roster.Body(a)
	}
	look := &second{id: a.Name(), done: make(chan error, 1)}
	if err := s.enqueue(look); err != nil {
		return Manifest{}, err
	}
	err := <-look.done
	return look.body, err
}

func (l *second) run(w *writer) {
	a, err := w.s.roster.Agent(l.id), ErrNoAgent
	if a != nil {
		l.body, err = w.s.roster.Body(a)
	}
	l.done <- err
}
