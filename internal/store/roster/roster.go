// Package roster is which agents there are: what is known of each without its
// tokens, what their families share, and how both are read from the data folder.
// It knows which of an agent's files counts, what a damaged one costs, and what a
// start can do without reading them. Writing them is left to store, their bytes
// and places to journal, families and format.
//
// What stays true:
//   - An agent on the list is whole on disk, or says why not.
//   - What an agent on the list names is counted in frames once NameAll was called.
//   - An agent's own file counts before what its family says of it.
//
// Locks: Roster.mu stands above the lists; the one of frames is taken under it or
// alone. It is not held over I/O.
package roster

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"mneme/internal/kv"
	"mneme/internal/store/families"
	"mneme/internal/store/format"
	"mneme/internal/store/frames"
	"mneme/internal/store/journal"
	"mneme/internal/store/keyring"
	"mneme/internal/vfs"
)

// ErrNoAgent is returned for an agent that was never published, or deleted.
var ErrNoAgent = errors.New("no such agent")

// AgentID is the two names of an agent.
type AgentID struct{ Namespace, ID string }

// Agent is what is remembered of an agent; replaced, never changed.
type Agent struct {
	Card       format.Card
	Intact     bool             // its file can be read, if not to its end: worth keeping back
	Appendable bool             // what there is of it is durable; its file ends at Card.End
	Body       *format.Manifest // nil: on disk
	Damaged    string           // why there is nothing to read
	lost       string           // what of the file could not be read
	torn       bool             // that may be a crash's doing

	// After a publish that failed: turns that its file may turn out to be at. What
	// they name counts as named until the next publish.
	maybe []*format.Card
}

// Name is whose agent it is.
func (a *Agent) Name() AgentID { return AgentID{a.Card.Namespace, a.Card.ID} }

// Unwritten tells that there is nothing of an agent but its family's record of it.
func (a *Agent) Unwritten() bool { return memberOf(a).exists() && a.Card.End == 0 }

// Options say where agents are and what they name.
type Options struct {
	FS      vfs.FS
	DataDir string
	Frames  *frames.Shelf
	Ring    *keyring.Ring // what is written is encrypted; nil: plain
	Clean   bool          // nothing in the folder waits to be synced
	Log     *slog.Logger
}

// Roster lists agents and families.
//   - All methods may be called at the same time but those on what is gone, which
//     are the writer's.
type Roster struct {
	o        Options
	dir      string
	families families.Folder
	gone     map[string]*Agent                   // by folder: deleted, not yet erased; Open's, then the writer's
	loading  map[format.FamilyID]format.Manifest // what families have in common, while Open reads; nil after
	keyless  []keyless                           // what there is no key of; Open's, then the writer's

	mu      sync.Mutex
	agents  map[AgentID]*Agent
	kin     map[format.FamilyID]*kin
	naming  bool // what agents name is counted in frames
	damaged int64
}

// Open lists every agent: from the catalogue that Save left, or from its own file,
// or from its family's. After an unclean end the files are synced first: what is
// shown must not be lost later.
func Open(o Options) (*Roster, error) {
	r := &Roster{
		o: o, dir: Dir(o.DataDir), families: families.In(o.FS, o.DataDir, o.Ring),
		gone: map[string]*Agent{}, loading: map[format.FamilyID]format.Manifest{},
		agents: map[AgentID]*Agent{}, kin: map[format.FamilyID]*kin{},
	}
	for _, dir := range []string{r.dir, r.families.Dir} {
		if err := vfs.MkdirDurable(o.FS, dir); err != nil {
			return nil, fmt.Errorf("make data folder: %w", err)
		}
	}
	err := r.load()
	r.loading = nil
	return r, err
}

// Dir is the folder of agents in a data folder.
func Dir(dataDir string) string { return filepath.Join(dataDir, "agents") }

// Folder is where an agent's file is.
func (r *Roster) Folder(id AgentID) string {
	return filepath.Join(r.dir, journal.Folder(id.Namespace, id.ID))
}

// Sync makes the names of the agents' folders durable.
func (r *Roster) Sync() error { return r.o.FS.SyncDir(r.dir) }

// Agent is what is known of an agent; nil if there is none.
func (r *Roster) Agent(id AgentID) *Agent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agents[id]
}

// All gives every agent, in no order.
func (r *Roster) All() []*Agent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.agents))
}

// In gives every agent of a namespace.
func (r *Roster) In(namespace string) []*Agent {
	return slices.DeleteFunc(r.All(), func(a *Agent) bool { return a.Card.Namespace != namespace })
}

// Stats is one snapshot.
type Stats struct {
	Agents  int
	Bytes   int64 // of their files and their families'
	Damaged int64 // that have lost turns, or cannot be read; since Open
}

// Stats counts.
func (r *Roster) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Stats{Agents: len(r.agents), Damaged: r.damaged}
	for _, a := range r.agents {
		st.Bytes += a.Card.End
	}
	for _, k := range r.kin {
		st.Bytes += 2 * k.End
	}
	return st
}

// Set replaces an agent; nil takes it off the list. What it names counts before
// what it named is let go.
func (r *Roster) Set(id AgentID, a *Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.agents[id]
	if a != nil {
		r.agents[id] = a
		r.nameLocked(a)
	} else {
		delete(r.agents, id)
	}
	if before != nil {
		r.unnameLocked(before)
	}
}

// NameAll begins to count what agents name.
func (r *Roster) NameAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.naming = true
	for _, a := range r.agents {
		r.nameLocked(a)
	}
}

func (r *Roster) nameLocked(a *Agent) {
	if !r.naming {
		return
	}
	r.o.Frames.Name(a.Card.Frames())
	for _, c := range a.maybe {
		r.o.Frames.Name(c.Frames())
	}
}

// unnameLocked takes that back.
func (r *Roster) unnameLocked(a *Agent) {
	if !r.naming {
		return
	}
	r.o.Frames.Unname(a.Card.Frames())
	for _, c := range a.maybe {
		r.o.Frames.Unname(c.Frames())
	}
}

// Unsure leaves an agent where it stands, or may stand: its file is replaced at
// the next turn.
func (r *Roster) Unsure(id AgentID, maybe ...*format.Card) {
	a := r.Agent(id)
	if a == nil {
		return
	}
	other := *a
	other.Appendable, other.maybe = false, maybe
	r.replace(a, &other)
}

// ForgetBody lets an agent's tokens go.
func (r *Roster) ForgetBody(id AgentID) {
	if a := r.Agent(id); a != nil {
		other := *a
		other.Body = nil
		r.replace(a, &other)
	}
}

// replace sets what is known now unless something newer was published meanwhile.
func (r *Roster) replace(before, now *Agent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.agents[before.Name()] == before {
		r.agents[before.Name()] = now
		r.nameLocked(now)
		r.unnameLocked(before)
	}
}

// Written is an agent whose file has just been written. It stays in its family.
func (r *Roster) Written(m *format.Manifest, former []kv.Key, mark format.Mark, before *Agent) *Agent {
	a := &Agent{Card: format.CardOf(m, former, mark), Intact: true, Appendable: true, Body: m}
	a.Card.Family = memberOf(before).family
	a.Card.DiskBytes = r.diskBytes(&a.Card)
	return a
}

// diskBytes is the size of an agent's file and of the frames it names.
func (r *Roster) diskBytes(c *format.Card) int64 { return c.End + r.o.Frames.BytesOf(c.Frames()) }

// Gone gives deleted agents, by the folders that they are to be erased with.
func (r *Roster) Gone(dirs ...string) (deleted []*Agent) {
	for _, dir := range dirs {
		if a := r.gone[dir]; a != nil {
			deleted = append(deleted, a)
		}
	}
	return deleted
}

// AllGone lists such folders.
func (r *Roster) AllGone() []string { return slices.Collect(maps.Keys(r.gone)) }

// Bury takes an agent off the list; it is still to be erased.
func (r *Roster) Bury(a *Agent, dir string) {
	r.gone[dir] = a
	r.Set(a.Name(), nil)
}

// Erased forgets deleted agents.
func (r *Roster) Erased(dirs ...string) {
	for _, dir := range dirs {
		delete(r.gone, dir)
	}
}
