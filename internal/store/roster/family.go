package roster

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"mneme/internal/kv"
	"mneme/internal/store/families"
	"mneme/internal/store/format"
	"mneme/internal/store/frames"
)

// kin is what is remembered of a family; replaced, never changed. Its members'
// cards share its lists.
type kin struct {
	format.Kin
	whole bool // both files are: the catalogue may stand for them
}

// member is an agent as a family names it.
type member struct {
	AgentID
	family format.FamilyID
}

func (m member) exists() bool { return m.family != format.FamilyID{} }

// memberOf is the family's name of an agent; of one that is in none it does not exist.
func memberOf(a *Agent) member {
	if a == nil {
		return member{}
	}
	return member{a.Name(), a.Card.Family}
}

// agentOf is a member that has nothing of its own.
func (k *kin) agentOf(m *format.Manifest) *Agent {
	return &Agent{Card: k.CardOf(format.MemberOf(m)), Appendable: true, Body: m}
}

// Join makes an agent a member of a family, durably, or says anew what one is, and
// lists it.
func (r *Roster) Join(m *format.Manifest, family format.Family) error {
	id := AgentID{m.Namespace, m.ID}
	if !r.isWhole(family.ID) {
		if err := r.families.SyncNames(); err != nil {
			return err
		}
	}
	now, err := r.families.Join(family, format.MemberOf(m))
	if err != nil {
		r.rejoin(member{id, family.ID}, m, family)
		return err
	}
	r.Set(id, r.setKin(&now, true).agentOf(m))
	return nil
}

// rejoin makes the list say what a family's files do after a join that failed.
// When they cannot be read, the agent may be there: what it names counts.
func (r *Roster) rejoin(of member, m *format.Manifest, family format.Family) {
	found, err := r.families.Read(of.family)
	var a *Agent
	switch {
	case err == nil:
		r.setKin(&found.Family, false)
		if _, a, _ = r.readMember(of, ""); a == nil {
			return
		}
	case errors.Is(err, fs.ErrNotExist):
		return
	default:
		a = r.setKin(&family, false).agentOf(m)
	}
	a.Appendable = false
	r.Set(of.AgentID, a)
}

// Leave takes deleted agents out of their families, and families away with the last
// one.
func (r *Roster) Leave(deleted ...*Agent) error {
	leaving := map[format.FamilyID][]*Agent{}
	for _, a := range deleted {
		if memberOf(a).exists() {
			leaving[a.Card.Family] = append(leaving[a.Card.Family], a)
		}
	}
	if len(leaving) == 0 {
		return nil
	}
	staying := r.staying(deleted)
	var alone []format.FamilyID
	for id, members := range leaving {
		if !staying[id] {
			alone = append(alone, id)
		} else if err := r.leave(id, members); err != nil {
			return err
		}
	}
	return r.removeFamilies(alone)
}

func (r *Roster) leave(id format.FamilyID, members []*Agent) error {
	var names []string
	for _, a := range members {
		names = append(names, a.Card.ID)
	}
	family, err := r.families.Leave(id, names...)
	if err == nil && r.kinOf(id) != nil {
		r.setKin(&family, true)
	}
	return err
}

func (r *Roster) removeFamilies(ids []format.FamilyID) error {
	if err := r.families.Remove(ids...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		delete(r.kin, id)
	}
	return nil
}

// staying are the families that have others than these deleted agents.
func (r *Roster) staying(deleted []*Agent) map[format.FamilyID]bool {
	gone := map[*Agent]bool{}
	for _, a := range deleted {
		gone[a] = true
	}
	staying := map[format.FamilyID]bool{}
	for _, a := range slices.AppendSeq(r.All(), maps.Values(r.gone)) {
		if !gone[a] {
			staying[a.Card.Family] = true
		}
	}
	return staying
}

// setKin remembers a family as its files stand.
func (r *Roster) setKin(family *format.Family, whole bool) *kin {
	k := &kin{whole: whole}
	if before := r.kinOf(family.ID); before != nil {
		k.Card = before.Card
	} else {
		k.Card = format.CardOf(&family.Common, nil, format.Mark{})
		k.Family = family.ID
		k.DiskBytes = r.o.Frames.BytesOf(k.Frames())
	}
	k.End = family.Bytes
	if family.Encrypted() {
		k.Version = family.Version()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kin[k.Family] = k
	return k
}

func (r *Roster) kinOf(id format.FamilyID) *kin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kin[id]
}

// isWhole tells that both files of a family are known to be, and durable.
func (r *Roster) isWhole(id format.FamilyID) bool {
	k := r.kinOf(id)
	return k != nil && k.whole
}

// common finds what the members of a family have in common.
func (r *Roster) common(id format.FamilyID) (format.Manifest, error) {
	if m, ok := r.loading[id]; ok {
		return m, nil
	}
	m, err := r.families.Common(id)
	if err == nil && r.loading != nil {
		r.loading[id] = m
	}
	return m, err
}

// NewJournal is a file of one snapshot for what an agent is to be: on top of its
// family, if it has one that is known to be durable and can be read. The error is
// that there is no key.
func (r *Roster) NewJournal(m *format.Manifest, former []kv.Key, before *Agent) ([]byte, format.Mark, error) {
	c, err := r.o.Ring.Of(m.Namespace)
	if err != nil {
		return nil, format.Mark{}, err
	}
	var base *format.Base
	if of := memberOf(before); of.exists() && r.isWhole(of.family) {
		if common, err := r.common(of.family); err == nil {
			base = &format.Base{ID: of.family, Head: common}
		}
	}
	return format.NewJournal(m, former, base, c)
}

// readMember reads a member from its family. Lost is why it is not read from its
// own file. Errors are as read's.
func (r *Roster) readMember(of member, lost string) (format.Manifest, *Agent, error) {
	found, err := r.families.Read(of.family)
	if errors.Is(err, fs.ErrNotExist) {
		err = &format.DamagedError{Where: r.families.Path(of.family), Reason: "it is missing"}
	}
	var damaged *format.DamagedError
	switch {
	case errors.As(err, &damaged):
		return format.Manifest{}, lostMember(of, err), err
	case err != nil:
		return format.Manifest{}, nil, err
	}
	for _, m := range found.Members {
		if m.ID == of.ID {
			body := m.Of(found.Common)
			a := r.knownKin(&found).agentOf(&body)
			a.Body, a.lost, a.Appendable = nil, lost, lost == ""
			return body, a, nil
		}
	}
	return format.Manifest{}, nil, ErrNoAgent
}

// lostMember is an agent whose family cannot be read.
func lostMember(of member, err error) *Agent {
	return &Agent{Card: format.Card{Namespace: of.Namespace, ID: of.ID, Family: of.family}, Damaged: err.Error()}
}

func (r *Roster) knownKin(found *families.Found) *kin {
	if k := r.kinOf(found.ID); k != nil {
		return k
	}
	return r.setKin(&found.Family, found.Lost == "")
}

// CheckFamilies reads both files of every family. Nobody may change them meanwhile.
// Where a join has failed one of the two is enough.
func (r *Roster) CheckFamilies() error {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.kin))
	r.mu.Unlock()
	var errs []error
	for _, k := range all {
		found, err := r.families.Read(k.Family)
		if err == nil && found.Lost != "" && k.whole {
			err = &format.DamagedError{Where: r.families.Path(k.Family), Reason: found.Lost}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// loadFamilies finds the members of all families: in the catalogue, or in the
// family's files, which are made whole again if they are not.
func (st *start) loadFamilies(known []format.Kin) error {
	ids, stray, err := st.families.List()
	if err != nil {
		return err
	}
	for _, path := range stray {
		if err := st.o.FS.Remove(path); err != nil {
			return err
		}
	}
	listed := map[format.FamilyID]format.Kin{}
	for _, k := range known {
		listed[k.Family] = k
	}
	for _, id := range ids {
		if k, ok := listed[id]; ok {
			st.kin[id] = &kin{Kin: k, whole: true}
			st.admit(st.kin[id], k.Members)
		} else if err := st.loadFamily(id); err != nil {
			return err
		}
	}
	return nil
}

func (st *start) loadFamily(id format.FamilyID) error {
	if err := errors.Join(st.families.Sync(id), st.families.SyncNames()); err != nil {
		return err
	}
	found, err := st.families.Read(id)
	var damaged *format.DamagedError
	switch {
	case errors.As(err, &damaged):
		st.loadLost(id, &found, err)
		return nil
	case err != nil:
		return err
	}
	if found.Lost != "" {
		st.mend(&found)
	}
	st.loading[id] = found.Common
	st.admit(st.setKin(&found.Family, found.Lost == ""), found.Members)
	return nil
}

// admit lists the members of a family that may have nothing of their own. Of two
// of one name, which no run leaves, the later one counts.
func (st *start) admit(k *kin, members []format.Member) {
	for _, m := range members {
		a := &Agent{Card: k.CardOf(m), Appendable: true}
		dir := st.Folder(a.Name())
		if before := st.members[dir]; before == nil || before.Card.Created.Before(m.Created) {
			st.members[dir] = a
		}
	}
}

// mend makes both files of a family say what either says.
func (st *start) mend(found *families.Found) {
	path := st.families.Path(found.ID)
	if found.Torn && !st.o.Clean {
		st.o.Log.Info("store: a fork or its end was cut short", "family", path, "because", found.Lost)
	} else {
		st.o.Log.Warn("store: a family is damaged", "family", path, "because", found.Lost)
		st.noteDamage(frames.Damage{Where: path, Reason: found.Lost, Namespace: found.Common.Namespace})
	}
	if err := st.families.Write(&found.Family); err != nil {
		st.o.Log.Warn("store: mend a family", "family", path, "err", err)
		return
	}
	found.Lost = ""
}

// loadLost lists the members of a family that cannot be read.
func (st *start) loadLost(id format.FamilyID, found *families.Found, err error) {
	st.o.Log.Error("store: a family cannot be read", "err", err)
	st.noteDamage(frames.Damage{Where: st.families.Path(id), Reason: err.Error(), Namespace: found.Common.Namespace})
	st.noteKeyless(keyless{family: id}, err)
	for _, m := range found.Members {
		a := lostMember(member{AgentID{found.Common.Namespace, m.ID}, id}, err)
		st.members[st.Folder(a.Name())] = a
	}
}
