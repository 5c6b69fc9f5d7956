package roster

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/store/frames"
	"mneme/internal/store/journal"
)

// Look gives an agent's manifest, from memory or from its file; false when that does
// not say what it said: it is damaged, or is being written this moment. Body tells.
func (r *Roster) Look(a *Agent) (m format.Manifest, ok bool) {
	switch {
	case a.Damaged != "":
		return m, false
	case a.Body != nil:
		return *a.Body, true
	case a.Unwritten() && a.Appendable:
		m, _, err := r.readMember(memberOf(a), "")
		return m, err == nil
	}
	m, now, err := r.read(r.Folder(a.Name()), a.Card.End, memberOf(a))
	return m, err == nil && now.Card.Mark == a.Card.Mark
}

// Body gives an agent's manifest, from memory or from its file. If that no longer
// says what it said, the agent becomes what it says. Nobody may write meanwhile.
func (r *Roster) Body(a *Agent) (format.Manifest, error) {
	switch {
	case a.Damaged != "":
		return format.Manifest{}, &format.DamagedError{Where: r.Folder(a.Name()), Reason: a.Damaged}
	case a.Body != nil:
		return *a.Body, nil
	case a.Unwritten() && a.Appendable:
		m, now, err := r.readMember(memberOf(a), "")
		r.nowDamaged(a, now)
		return m, err
	}
	m, now, err := r.read(r.Folder(a.Name()), a.Card.End, memberOf(a))
	r.nowDamaged(a, now)
	if err != nil {
		return m, err
	}
	if now.Card.Mark != a.Card.Mark {
		r.sayLost(now)
		now.Appendable = false
		r.replace(a, now)
	}
	return m, nil
}

// nowDamaged lists an agent, which could be read when it was listed, as damaged.
func (r *Roster) nowDamaged(a, now *Agent) {
	if now == nil || now.Damaged == "" {
		return
	}
	other := *a
	other.Damaged, other.Intact, other.Appendable = now.Damaged, false, false
	r.replace(a, &other)
	r.o.Log.Error("store: agent cannot be read", "agent", a.Card.ID, "because", now.Damaged)
	r.note(a, now.Damaged)
}

// read reads an agent from its folder, or if there is nothing to be read in it,
// from the family that it is a member of: then it stands where it was forked.
// ErrNoAgent when there is neither. With a *format.DamagedError the agent is given
// as far as it is known.
func (r *Roster) read(dir string, limitBytes int64, of member) (format.Manifest, *Agent, error) {
	m, a, err := r.readFolder(dir, limitBytes)
	var damaged *format.DamagedError
	switch {
	case !of.exists():
		return m, a, err
	case errors.Is(err, ErrNoAgent):
		return r.readMember(of, "")
	case errors.As(err, &damaged):
		if m, now, err := r.readMember(of, err.Error()); err == nil {
			return m, now, nil
		}
	}
	if a != nil {
		a.Card.Family = of.family
	}
	return m, a, err
}

// readFolder reads the file in a folder, or the one kept back when it is damaged
// or, after a crash, not there. Errors are those of read.
func (r *Roster) readFolder(dir string, limitBytes int64) (format.Manifest, *Agent, error) {
	found, err := journal.Read(r.o.FS, dir, limitBytes, r.common, r.o.Ring)
	var damaged *format.DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return format.Manifest{}, nil, ErrNoAgent
	case errors.As(err, &damaged):
		return format.Manifest{}, &Agent{Card: format.Card{Namespace: found.Namespace, ID: found.ID}, Damaged: damaged.Error()}, err
	case err != nil:
		return format.Manifest{}, nil, err
	}
	m := found.Manifest
	if r.Folder(AgentID{m.Namespace, m.ID}) != dir {
		return format.Manifest{}, nil, &format.DamagedError{Where: dir, Reason: fmt.Sprintf("it is of agent %q, which belongs elsewhere", m.ID)}
	}
	a := &Agent{
		Card:   format.CardOf(&m, r.stillStored(found.Former, m.Keys), found.Mark),
		Intact: !found.Kept, Appendable: found.Lost == "", lost: found.Lost, torn: found.Torn,
	}
	a.Card.Family = found.BaseID()
	a.Card.DiskBytes = r.diskBytes(&a.Card)
	return m, a, nil
}

// sayLost says that an agent's file is not what was written. What a crash can
// have torn was never answered for.
func (r *Roster) sayLost(a *Agent) {
	log, about := r.o.Log, []any{"agent", a.Card.ID, "turns", a.Card.Turns, "because", a.lost}
	switch {
	case a.lost == "":
	case a.torn && !r.o.Clean:
		log.Info("store: an agent's last turn was cut short", about...)
	default:
		log.Warn("store: an agent has lost turns", about...)
		r.note(a, a.lost)
	}
}

func (r *Roster) note(a *Agent, reason string) {
	r.noteDamage(frames.Damage{Where: r.Folder(a.Name()), Reason: reason, Namespace: a.Card.Namespace, ID: a.Card.ID})
}

func (r *Roster) noteDamage(d frames.Damage) {
	r.mu.Lock()
	r.damaged++
	r.mu.Unlock()
	r.o.Frames.Note(d)
}

// Reload makes the list say what is on disk after a publish failed half way.
func (r *Roster) Reload(id AgentID) {
	_, a, err := r.read(r.Folder(id), 0, memberOf(r.Agent(id)))
	switch {
	case a != nil && a.Name() == id:
		r.Set(id, a)
	case errors.Is(err, ErrNoAgent):
		r.Set(id, nil)
	default:
		r.o.Log.Error("store: agent cannot be read", "agent", id.ID, "err", err)
	}
}

// Former are the blocks an agent has named and does not any more with its next
// turn, as far as they are stored: they go when it is deleted.
func (r *Roster) Former(before *Agent, m *format.Manifest) []kv.Key {
	if before == nil {
		return nil
	}
	kept := 0
	for kept < len(m.Keys) && kept < len(before.Card.Keys) && m.Keys[kept] == before.Card.Keys[kept] {
		kept++
	}
	if kept == len(before.Card.Keys) && len(before.Card.Former) == 0 {
		return nil
	}
	former := slices.Concat(before.Card.Former, before.Card.Keys[kept:])
	return r.stillStored(former, m.Keys)
}

func (r *Roster) stillStored(former, named []kv.Key) []kv.Key {
	if len(former) == 0 {
		return nil
	}
	seen := map[kv.Key]bool{}
	for _, key := range named {
		seen[key] = true
	}
	return slices.DeleteFunc(former, func(key kv.Key) bool {
		again := seen[key]
		seen[key] = true
		return again || !r.o.Frames.Has(format.BlockID{Key: key})
	})
}

// Check reads an agent's file up to its last turn. What families say of members
// that have none is left to CheckFamilies.
func (r *Roster) Check(a *Agent) error {
	if a.Unwritten() && a.Damaged == "" {
		return nil
	}
	dir := r.Folder(a.Name())
	found, err := journal.Read(r.o.FS, dir, a.Card.End, r.common, r.o.Ring)
	if err == nil && found.Mark != a.Card.Mark {
		err = &format.DamagedError{Where: dir, Reason: cmp.Or(found.Lost, "it is not the turn that was published")}
	}
	return err
}
