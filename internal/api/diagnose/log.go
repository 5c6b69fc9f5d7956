package diagnose

import (
	"slices"
	"sync"

	"mneme/internal/engine"
)

// maxPrints bounds what a Log keeps of a namespace.
const maxPrints = 4096

// Key names a conversation: by its answer, and by the turn of its agent that it
// was; "" is none.
type Key struct {
	Answer string
	Agent  engine.AgentID
	Turn   int
}

// Log keeps prints of the latest conversations, and what each differed in from
// what its agent was asked before. The zero value is ready. Nobody finds what
// another namespace has.
type Log struct {
	mu  sync.Mutex
	all map[engine.Namespace]*prints
}

// prints are those of a namespace.
type prints struct {
	answers map[string]*entry
	agents  map[engine.AgentID][]*entry // by turn
	order   []*entry                    // the oldest first
}

type entry struct {
	key     Key
	print   *Print // nil for a turn that was no conversation
	finding Finding
}

// Note keeps a conversation that was answered. It is compared with what its agent
// was asked before, which may not be a turn of the agent any more: a conversation
// that differs takes the agent back first.
func (l *Log) Note(ns engine.Namespace, k Key, now Asked) {
	f := Finding{Reason: NotFound}
	if before := l.newest(ns, k.Agent); before != nil {
		f = Compare(*before, now)
	}
	l.add(ns, &entry{k, &now.Print, f})
}

// NoteOther keeps that a turn of an agent was no conversation.
func (l *Log) NoteOther(ns engine.Namespace, agent engine.AgentID, turn int) {
	l.add(ns, &entry{key: Key{Agent: agent, Turn: turn}, finding: Finding{Reason: NotFound}})
}

func (l *Log) add(ns engine.Namespace, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[engine.Namespace]*prints{}
	}
	p := l.all[ns]
	if p == nil {
		p = &prints{answers: map[string]*entry{}, agents: map[engine.AgentID][]*entry{}}
		l.all[ns] = p
	}
	if e.key.Answer != "" {
		p.answers[e.key.Answer] = e
	}
	if e.key.Agent != "" {
		p.cut(e.key.Agent, e.key.Turn-1)
		p.agents[e.key.Agent] = append(p.agents[e.key.Agent], e)
	}
	if p.order = append(p.order, e); len(p.order) > maxPrints {
		p.drop(p.order[0])
		p.order = p.order[1:]
	}
}

// cut takes an agent's turns away that come after one. Their answers stay: they may
// be compared with.
func (p *prints) cut(agent engine.AgentID, turn int) {
	p.keep(agent, func(e *entry) bool { return e.key.Turn <= turn })
}

func (p *prints) keep(agent engine.AgentID, which func(*entry) bool) {
	kept := slices.DeleteFunc(p.agents[agent], func(e *entry) bool { return !which(e) })
	if p.agents[agent] = kept; len(kept) == 0 {
		delete(p.agents, agent)
	}
}

// drop makes an entry unfindable.
func (p *prints) drop(e *entry) {
	if p.answers[e.key.Answer] == e {
		delete(p.answers, e.key.Answer)
	}
	p.keep(e.key.Agent, func(other *entry) bool { return other != e })
}

// newest is the print of what an agent was last asked, nil when it is not known.
func (l *Log) newest(ns engine.Namespace, agent engine.AgentID) *Print {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.all[ns]; p != nil && len(p.agents[agent]) > 0 {
		all := p.agents[agent]
		return all[len(all)-1].print
	}
	return nil
}

// RollBack takes an agent back to a turn; 0 is before its first.
func (l *Log) RollBack(ns engine.Namespace, agent engine.AgentID, turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.all[ns]; p != nil {
		p.cut(agent, turn)
	}
}

// Forget drops what is kept of an agent.
func (l *Log) Forget(ns engine.Namespace, agent engine.AgentID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.all[ns]
	if p == nil {
		return
	}
	p.order = slices.DeleteFunc(p.order, func(e *entry) bool {
		if e.key.Agent != agent {
			return false
		}
		p.drop(e)
		return true
	})
}

// Answer is the print of the conversation that an answer ended; false when it is
// not known.
func (l *Log) Answer(ns engine.Namespace, id string) (Print, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.all[ns]; p != nil && p.answers[id] != nil {
		return *p.answers[id].print, true
	}
	return Print{}, false
}

// Turn is what the conversation of an agent's turn differed in from what the agent
// was asked before; its reason is NotFound where one of them is not known.
func (l *Log) Turn(ns engine.Namespace, agent engine.AgentID, n int) Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.all[ns]; p != nil {
		for _, e := range p.agents[agent] {
			if e.key.Turn == n {
				return e.finding
			}
		}
	}
	return Finding{Reason: NotFound}
}
