package format

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"mneme/internal/store/records"
)

// A family is a file of records whose name is a namespace: what its members have
// in common, which never changes, and then a record of each member. Its file is
// named by the digest of the first record's body, with a key if it is encrypted;
// then its head is bound to that name.
const (
	familyMagic = "MNEMEFAM"

	recordCommon = 1
	recordMember = 2
)

// FamilyID is Cipher.Name of what the members of a family have in common; zeros
// are none. A family that was plain keeps its own.
type FamilyID [sha256.Size]byte

func (id FamilyID) String() string { return hex.EncodeToString(id[:]) }

// ParseFamilyID reads what String gives; false for anything else.
func ParseFamilyID(s string) (id FamilyID, ok bool) {
	n, err := hex.Decode(id[:], []byte(s[:min(len(s), 2*len(id))]))
	return id, err == nil && n == len(id) && id.String() == s
}

// Member is what an agent has to itself as long as it has not written a turn
// since it was forked.
type Member struct {
	ID, Parent, Model string
	Created, LastUsed time.Time
	Pinned            bool
}

// MemberOf is the part of a manifest that is its agent's own.
func MemberOf(m *Manifest) Member {
	return Member{ID: m.ID, Parent: m.Parent, Model: m.Model, Created: m.Created, LastUsed: m.LastUsed, Pinned: m.Pinned}
}

// Of is the agent that a member of a family is.
func (f Member) Of(common Manifest) Manifest {
	common.ID, common.Parent, common.Model = f.ID, f.Parent, f.Model
	common.Created, common.LastUsed, common.Pinned = f.Created, f.LastUsed, f.Pinned
	return common
}

// Family is a family's file, as far as it can be read.
type Family struct {
	ID      FamilyID
	Common  Manifest // without what is a member's own
	Members []Member // each once, as its last record says
	Sizes

	known       bool          // Common is what the file says
	before      []byte        // the file up to the first member
	first, last records.Place // that the first member goes to, and the next
}

// Sizes are counts of a family's file.
type Sizes struct {
	Bytes int64 // of the file, whole records
	Rest  int   // bytes after the last whole record
	Bad   int   // records before that which cannot be read
	Inner bool  // one that can be read comes after one that cannot
}

// NewFamily is the family that a manifest's agent could be in, without members.
// Errors are those of c.Random.
func NewFamily(m *Manifest, c Cipher) (Family, error) {
	f := Family{Common: Member{}.Of(*m), known: true}
	f.ID = c.Name(f.body())
	return f, f.begin(c)
}

func (f *Family) body() []byte {
	var body encoder
	body.manifest(&f.Common)
	return body
}

// begin makes the file up to its first member.
func (f *Family) begin(c Cipher) error {
	head, at, err := records.New(familyMagic, f.ID[:], c, f.Common.Namespace)
	if err != nil {
		return err
	}
	record, at, err := at.Record(c, recordCommon, f.body())
	f.before, f.first, f.last, f.Bytes = append(head, record...), at, at, at.End
	return err
}

// Version is that of the file, 0 for one that cannot be read.
func (f *Family) Version() uint32 { return f.last.Version }

// Encrypted tells whether the file is.
func (f *Family) Encrypted() bool { return f.last.Encrypted() }

// Takes tells whether members can be put into the file with a cipher.
func (f *Family) Takes(c Cipher) bool { return f.last.Takes(c) }

// Put adds a member, or replaces the one of its name, and gives the record that
// says so; it goes behind the file's bytes. Errors are those of c.Random, which
// the file must take.
func (f *Family) Put(m Member, c Cipher) (record []byte, err error) {
	var body encoder
	body.member(m)
	if record, f.last, err = f.last.Record(c, recordMember, body); err != nil {
		return nil, err
	}
	f.Bytes = f.last.End
	f.Admit(m)
	return record, nil
}

// Admit is Put for a family that is to be written anew.
func (f *Family) Admit(m Member) {
	f.Members = put(f.Members, slices.IndexFunc(f.Members, func(other Member) bool { return other.ID == m.ID }), m)
}

// Encode is the file of the family's members, each in one record. A file that does
// not take the cipher is begun anew, if what its members have in common is known.
func (f *Family) Encode(c Cipher) (file []byte, err error) {
	if !f.Takes(c) && f.known {
		if err := f.begin(c); err != nil {
			return nil, err
		}
	}
	again := Family{last: f.first}
	file = slices.Clone(f.before)
	for _, m := range f.Members {
		record, err := again.Put(m, c)
		if err != nil {
			return nil, err
		}
		file = append(file, record...)
	}
	f.Bytes, f.last = again.last.End, again.last
	return file, nil
}

func (b *encoder) member(m Member) {
	each([]string{m.ID, m.Parent, m.Model}, b.string)
	b.time(m.Created)
	b.time(m.LastUsed)
	b.flag(m.Pinned)
}

// put replaces the i-th of list; -1 appends.
func put[T any](list []T, i int, v T) []T {
	if i < 0 {
		return append(list, v)
	}
	list[i] = v
	return list
}

// ReadFamily reads a family's file, which path names in errors: a *VersionError
// for an intact one of another version, a *KeylessError, a *DamagedError when it
// does not say what its members have in common; who they are is given all the same,
// if that can be read. A member's record that is damaged is stepped over.
func ReadFamily(b []byte, path string, id FamilyID, keys Keys) (Family, error) {
	f := Family{ID: id}
	file, err := records.Open(b, familyMagic, path, id[:], keys, &f.Common.Namespace)
	if err != nil {
		return f, err
	}
	r, ok := file.Next()
	if !ok {
		return f, &DamagedError{Where: path, Reason: "it is cut before its first member"}
	}
	file.Take(r)
	f.first, f.before = file.Place, file.Taken()
	if err = f.readCommon(r); err != nil {
		err = &DamagedError{Where: path, Reason: err.Error()}
	}
	f.readMembers(&file)
	f.last, f.Bytes, f.Rest = file.Place, file.End, file.Rest()
	return f, err
}

// CheckFamily reads a family's file as far as its sums tell, which takes no key:
// where its last record ends before one that is not whole, and how many bytes follow.
// A *DamagedError when it does not say what its members have in common.
func CheckFamily(b []byte, path string) (at records.Place, rest int, err error) {
	c, err := records.Check(b, familyMagic, path)
	if err == nil && c.Records == 0 {
		err = &DamagedError{Where: path, Reason: "what its members have in common cannot be read"}
	}
	return c.Place, c.Rest, err
}

func (f *Family) readCommon(r records.Record) error {
	d := decoder{rest: r.Body, version: f.first.Version}
	m := d.manifest()
	switch {
	case !r.Whole:
		return fmt.Errorf("what its members have in common does not sum to %08x", r.Next.Sum)
	case r.Kind != recordCommon || d.err != nil || len(d.rest) > 0 || m.Namespace != f.Common.Namespace:
		return fmt.Errorf("its first record does not say what its members have in common")
	case !f.first.Encrypted() && sha256.Sum256(r.Body) != f.ID:
		return fmt.Errorf("it is another family")
	}
	f.Common = m
	err := CheckManifest(&m)
	f.known = err == nil
	return err
}

func (f *Family) readMembers(file *records.File) {
	at := map[string]int{}
	for {
		r, ok := file.Next()
		if !ok {
			return
		}
		file.Take(r)
		m, ok := readMember(r, file.Version)
		if !ok {
			f.Bad++
			continue
		}
		f.Inner = f.Bad > 0
		i, ok := at[m.ID]
		if !ok {
			i, at[m.ID] = -1, len(f.Members)
		}
		f.Members = put(f.Members, i, m)
	}
}

func readMember(r records.Record, version uint32) (m Member, ok bool) {
	d := decoder{rest: r.Body, version: version}
	m = d.member()
	return m, r.Whole && r.Kind == recordMember && d.err == nil && len(d.rest) == 0
}

func (d *decoder) member() (m Member) {
	for _, s := range []*string{&m.ID, &m.Parent, &m.Model} {
		*s = d.string()
	}
	m.Created, m.LastUsed = d.time(), d.time()
	m.Pinned = d.flag()
	return m
}
