package roster

import (
	"cmp"
	"slices"
	"time"

	"mneme/internal/kv"
	"mneme/internal/store"
)

// Info is what is known of an agent.
type Info struct {
	ID         ID
	Namespace  Namespace
	Model      string
	Tokens     int // of its lineage
	Turns      int
	Tier       kv.Tier
	BytesHot   int64 // in the pool
	BytesDisk  int64
	BytesShare int64 // of the hot bytes, those that others hold too
	Parent     ID
	Pinned     bool
	Created    time.Time
	LastUsed   time.Time
}

// infoOf describes an agent that is on disk.
func infoOf(h store.AgentHeader) Info {
	return Info{
		ID: ID(h.ID), Namespace: Namespace(h.Namespace), Model: h.Model, Tokens: h.Tokens, Turns: h.Turns, Tier: kv.TierWarm,
		Parent: ID(h.Parent), Created: h.Created, LastUsed: h.LastUsed,
	}
}

// info describes an agent whose blocks, if there are any, nobody cools meanwhile.
func (s *State) info() Info {
	m := &s.Manifest
	info := Info{
		ID: ID(m.ID), Namespace: Namespace(m.Namespace), Model: m.Model, Tokens: len(m.Tokens), Turns: len(m.Turns), Tier: kv.TierWarm,
		Parent: ID(m.Parent), Created: m.Created, LastUsed: m.LastUsed,
	}
	if s.Blocks != nil {
		info.Tier = kv.TierHot
		info.BytesHot, info.BytesShare = s.Blocks.Bytes()
	}
	return info
}

// Info describes an agent: as it is in memory, else as the store has it.
func (r *Roster) Info(key Key) (Info, error) {
	h, stored := r.store.Header(string(key.Namespace), string(key.ID))
	info, loaded, pinned := r.loaded(key)
	switch {
	case !loaded && !stored:
		return Info{}, ErrNoAgent
	case !loaded:
		info = infoOf(h)
	}
	info.BytesDisk, info.Pinned = h.DiskBytes, pinned
	return info, nil
}

func (r *Roster) loaded(key Key) (info Info, loaded, pinned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.states[key]; s.Exists() {
		info, loaded = s.info(), true
	}
	return info, loaded, r.pinned[key]
}

// List describes a namespace's agents by name.
func (r *Roster) List(namespace Namespace) []Info {
	out := []Info{}
	for key := range r.known() {
		if key.Namespace != namespace {
			continue
		}
		if info, err := r.Info(key); err == nil { // else it was deleted meanwhile
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// known are the agents of all namespaces, in memory or on disk, and when each was
// used last.
func (r *Roster) known() map[Key]time.Time {
	out := map[Key]time.Time{}
	for _, h := range r.store.List() {
		out[Key{Namespace(h.Namespace), ID(h.ID)}] = h.LastUsed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, s := range r.states {
		if s.Exists() {
			out[key] = s.Manifest.LastUsed
		}
	}
	return out
}
