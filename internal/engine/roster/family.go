package roster

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"mneme/internal/lineage"
	"mneme/internal/token"
)

// A client's session id is one name for several conversations: sub-agents and
// side requests share it. They are members of a family, told apart by what they
// have seen: a prompt is of the member whose first prompt it begins with.

// claim is a prompt that a member was chosen for.
type claim struct {
	text string
	at   time.Time
}

// claimLasts is how long a choice is believed when no turn follows it.
const claimLasts = 10 * time.Second

// maxMembers bounds how many members of a family are looked at, those used last.
const maxMembers = 64

// member is what is known of a family's member.
type member struct {
	key    Key
	used   time.Time
	common int // bytes of the prompt that it has seen
	first  int // bytes of its own first prompt
}

// Member chooses the member of a family that a prompt goes on with: of those that
// have seen all of the prompt up to where their own first one ended, the one that
// has seen most of it. Otherwise it is a new member, with the one that has seen
// most as its parent. The choice is kept in mind until the turn is over, so that
// two conversations that begin at the same time do not become one.
func (r *Roster) Member(namespace Namespace, family ID, text string) (id, parent ID) {
	members := r.membersOf(namespace, family, text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropClaimsLocked()
	members = r.claimedLocked(members, Key{namespace, family}, text)
	best, nearest := -1, -1
	for i, m := range members {
		if m.common >= m.first && (best < 0 || m.common > members[best].common) {
			best = i
		}
		if nearest < 0 || m.common > members[nearest].common {
			nearest = i
		}
	}
	key := Key{Namespace: namespace}
	switch {
	case best >= 0:
		key = members[best].key
	case nearest >= 0:
		key.ID, parent = vacant(members, family), members[nearest].key.ID
	default:
		key.ID = family
	}
	r.claims[key] = claim{text, r.o.Clock()}
	return key.ID, parent
}

// Release forgets what a member was chosen for, after a turn that was none.
func (r *Roster) Release(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.claims, key)
}

// vacant is the first free name of a family.
func vacant(members []member, family ID) ID {
	n := 1
	for slices.ContainsFunc(members, func(m member) bool { return m.key.ID == family.numbered(n) }) {
		n++
	}
	return family.numbered(n)
}

// membersOf lists a family's members that exist, the latest first.
func (r *Roster) membersOf(namespace Namespace, family ID, text string) []member {
	var all []member
	for key, used := range r.known() {
		if name, _ := key.ID.member(); key.Namespace == namespace && name == family {
			all = append(all, member{key: key, used: used, first: len(text) + 1})
		}
	}
	slices.SortFunc(all, func(a, b member) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.key.ID, b.key.ID)) })
	for i := range all[:min(len(all), maxMembers)] {
		m, err := r.Last(all[i].key)
		if err != nil || len(m.Turns) == 0 {
			continue
		}
		all[i].common = r.seen(lineage.Lineage{Tokens: m.Tokens, Ends: m.Ends}, text)
		if n := m.Turns[0].Prompt; n > 0 && n <= len(m.Ends) {
			all[i].first = m.Ends[n-1]
		}
	}
	return all
}

// seen is how many bytes of a text a lineage begins with.
func (r *Roster) seen(l lineage.Lineage, text string) int {
	return lineage.SeenText(r.o.Tokens, l, text)
}

// dropClaimsLocked ends those, of all families, that no turn has followed.
func (r *Roster) dropClaimsLocked() {
	before := r.o.Clock().Add(-claimLasts)
	maps.DeleteFunc(r.claims, func(key Key, c claim) bool { return c.at.Before(before) && !r.Turns.Busy(key) })
}

// claimedLocked adds what members are chosen for and have not answered yet.
func (r *Roster) claimedLocked(members []member, family Key, text string) []member {
	for key, c := range r.claims {
		if name, _ := key.ID.member(); key.Namespace != family.Namespace || name != family.ID {
			continue
		}
		i := slices.IndexFunc(members, func(m member) bool { return m.key == key })
		if i < 0 {
			i = len(members)
			members = append(members, member{key: key, first: len(c.text)})
		}
		m := &members[i]
		m.common = max(m.common, lineage.CommonBytes(c.text, text))
		m.first = min(m.first, len(c.text))
	}
	return members
}

// Said lists what the model has said in an agent's turns, as it said it.
func (r *Roster) Said(key Key) []string {
	m, err := r.Last(key)
	if err != nil {
		return nil
	}
	var out []string
	for _, t := range m.Turns {
		if t.Prompt <= 0 || t.Prompt > t.Tokens || t.Tokens > len(m.Tokens) {
			continue
		}
		text := token.ValidText(r.o.Tokens.Decode(m.Tokens[t.Prompt:t.Tokens]))
		n := min(max(0, t.TextEnd-m.Ends[t.Prompt-1]), len(text))
		out = append(out, strings.ToValidUTF8(text[:n], ""))
	}
	return out
}
