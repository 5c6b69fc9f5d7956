package format

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"mneme/internal/kv"
	"mneme/internal/store/records"
)

// A journal is a file of records whose names are namespace and id. The
// first record is a snapshot, alone or based on a family; a record for each turn
// follows. A record counts only after all before it.
const (
	journalMagic = "MNEMEAGT"

	recordSnapshot = 1
	recordTurn     = 2
	recordBased    = 3 // since version 2
)

// Journal is what an agent's file says, as far as it can be read.
type Journal struct {
	Namespace, ID string
	Manifest      Manifest
	Former        []kv.Key // blocks named before the last turn and not by it: for erasing
	Base          *Base    // what its snapshot is based on, if it is
	Mark

	Turns int  // turn records
	Rest  int  // bytes after the last whole record: torn, or damaged
	Inner bool // more than one record's: damaged
}

// Mark is where a journal ends and how it goes on.
type Mark struct {
	records.Place       // behind the last whole record
	SnapshotBytes int64 // up to the end of the snapshot
}

// Base is a family that a snapshot says the difference to.
type Base struct {
	ID   FamilyID
	Head Manifest
}

// Bases finds what a family's members have in common; the error is a
// *DamagedError, fs.ErrNotExist, or of the disk.
type Bases func(id FamilyID) (Manifest, error)

// BaseID names the family that the snapshot is based on; zeros for none.
func (j *Journal) BaseID() FamilyID {
	if j.Base == nil {
		return FamilyID{}
	}
	return j.Base.ID
}

// NewJournal is a file of a head and one snapshot, and its mark. With a base the
// snapshot says what differs from it, if it can. Errors are those of c.Random.
func NewJournal(m *Manifest, former []kv.Key, base *Base, c Cipher) ([]byte, Mark, error) {
	file, at, err := records.New(journalMagic, nil, c, m.Namespace, m.ID)
	if err != nil {
		return nil, Mark{}, err
	}
	var body encoder
	kind := uint32(recordSnapshot)
	if base != nil && sameShape(&base.Head, m) {
		kind = recordBased
		body.based(base, m)
	} else {
		body.manifest(m)
	}
	body.keys(former)
	record, at, err := at.Record(c, kind, body)
	return append(file, record...), Mark{at, at.End}, err
}

// sameShape tells whether a turn's fields can make b of a, whoever they are of.
func sameShape(a, b *Manifest) bool {
	return a.Namespace == b.Namespace && (a.Ends == nil) == (b.Ends == nil)
}

// based is a snapshot's manifest on top of a family.
func (b *encoder) based(base *Base, m *Manifest) {
	*b = append(*b, base.ID[:]...)
	each([]string{m.Model, m.Parent, m.ModelFingerprint, m.KVFingerprint}, b.string)
	b.time(m.Created)
	b.counts(m.Groups, m.BlockTokens)
	b.turn(&base.Head, m)
}

// AppendTurn is the record that makes after of before, and the mark behind it;
// false when only a snapshot can say what has changed, or the file is of an
// earlier version, or not encrypted as c does.
func (at Mark) AppendTurn(before, after *Manifest, c Cipher) (record []byte, next Mark, ok bool) {
	if !at.Takes(c) || !sameOwner(before, after) || !sameShape(before, after) {
		return nil, Mark{}, false
	}
	var b encoder
	b.turn(before, after)
	record, place, err := at.Record(c, recordTurn, b)
	return record, Mark{place, at.SnapshotBytes}, err == nil
}

func (b *encoder) turn(before, after *Manifest) {
	keep := commonTokens(before, after)
	b.time(after.LastUsed)
	b.count(keep)
	b.tokens(after.Tokens[keep:])
	if after.Ends == nil {
		b.ends(nil, false, 0)
	} else {
		b.ends(after.Ends[keep:], true, endBefore(after.Ends, keep))
	}
	keep = common(before.Turns, after.Turns, sameTurn)
	b.count(keep)
	b.turns(after.Turns[keep:])
	keep = common(before.Keys, after.Keys, func(a, b kv.Key) bool { return a == b })
	b.count(keep)
	b.keys(after.Keys[keep:])
	b.count(after.KVTokens)
	b.tails(after.Tail)
	b.flag(after.Pinned)
}

// sameOwner tells whether all that a turn record does not say is the same.
func sameOwner(a, b *Manifest) bool {
	return a.Namespace == b.Namespace && a.ID == b.ID && a.Model == b.Model && a.Parent == b.Parent &&
		a.ModelFingerprint == b.ModelFingerprint && a.KVFingerprint == b.KVFingerprint &&
		a.Created.Equal(b.Created) && a.Groups == b.Groups && a.BlockTokens == b.BlockTokens
}

func common[T any](a, b []T, same func(a, b T) bool) int {
	n := 0
	for n < len(a) && n < len(b) && same(a[n], b[n]) {
		n++
	}
	return n
}

// commonTokens counts tokens at the beginning that have the same text offsets too.
func commonTokens(a, b *Manifest) int {
	n := 0
	for n < len(a.Tokens) && n < len(b.Tokens) && a.Tokens[n] == b.Tokens[n] && (a.Ends == nil || a.Ends[n] == b.Ends[n]) {
		n++
	}
	return n
}

func sameTurn(a, b Turn) bool {
	same := a.Created.Equal(b.Created)
	a.Created, b.Created = time.Time{}, time.Time{}
	return same && a == b
}

func endBefore(ends []int, n int) int {
	if n == 0 {
		return 0
	}
	return ends[n-1]
}

// ReadJournal reads an agent's file, which path names in errors: a *VersionError
// for an intact one of another version, a *KeylessError, a *DamagedError when not
// even its snapshot can be read, or what that is based on; the names are given then
// if the head is whole. Other errors are those of bases.
func ReadJournal(b []byte, path string, bases Bases, keys Keys) (Journal, error) {
	var j Journal
	f, err := records.Open(b, journalMagic, path, nil, keys, &j.Namespace, &j.ID)
	if err != nil {
		return Journal{}, err
	}
	j.Place = f.Place
	for more := true; more; {
		if more, err = j.next(&f, bases); err != nil {
			return j, baseError(path, err)
		}
	}
	j.Rest = f.Rest()
	if j.SnapshotBytes == 0 {
		return j, &DamagedError{Where: path, Reason: "its snapshot cannot be read"}
	}
	return j, nil
}

// CheckJournal reads an agent's file as far as its sums tell, which takes no key:
// where its last whole record ends, and how many bytes follow. A *DamagedError when
// there is not even a snapshot.
func CheckJournal(b []byte, path string) (at records.Place, rest int, err error) {
	c, err := records.Check(b, journalMagic, path)
	if err == nil && c.Records == 0 {
		err = &DamagedError{Where: path, Reason: "its snapshot cannot be read"}
	}
	return c.Place, c.Rest, err
}

// baseError says that a snapshot cannot be read for want of its family.
func baseError(path string, err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) {
		return &DamagedError{Where: path, Reason: fmt.Sprintf("what it is based on cannot be read: %v", err)}
	}
	return err
}

// next takes the record at End; false when there is no whole one that makes
// sense. The error is that of bases.
func (j *Journal) next(f *records.File, bases Bases) (ok bool, err error) {
	r, ok := f.Next()
	if !ok {
		return false, nil
	}
	if r.Whole {
		ok, err = j.apply(r, bases)
	}
	if !r.Whole || !ok {
		j.Inner = f.Inner(r)
		return false, err
	}
	f.Take(r)
	j.Place = f.Place
	if j.SnapshotBytes == 0 {
		j.SnapshotBytes = j.End
	}
	return true, nil
}

func (j *Journal) apply(r records.Record, bases Bases) (ok bool, err error) {
	d := &decoder{rest: r.Body, version: j.Version}
	var m Manifest
	var former []kv.Key
	switch {
	case r.Kind == recordTurn && j.SnapshotBytes > 0:
		m = d.turnAfter(j.Manifest)
		former = append(j.Former, j.Manifest.Keys[common(j.Manifest.Keys, m.Keys, func(a, b kv.Key) bool { return a == b }):]...)
		j.Turns++
	case r.Kind == recordSnapshot && j.SnapshotBytes == 0:
		m = d.manifest()
		former = list(d, len(kv.Key{}), d.key)
	case r.Kind == recordBased && j.SnapshotBytes == 0 && bases != nil:
		if m, j.Base, err = d.based(bases); err != nil {
			return false, err
		}
		m.ID = j.ID
		former = list(d, len(kv.Key{}), d.key)
	default:
		return false, nil
	}
	if d.err != nil || len(d.rest) > 0 || m.Namespace != j.Namespace || m.ID != j.ID || CheckManifest(&m) != nil {
		return false, nil
	}
	j.Manifest, j.Former = m, former
	return true, nil
}

// based is the manifest, without an id, of a snapshot on top of a family.
func (d *decoder) based(bases Bases) (Manifest, *Base, error) {
	base := &Base{ID: FamilyID(d.take(len(FamilyID{})))}
	if d.err != nil {
		return Manifest{}, nil, nil
	}
	var err error
	if base.Head, err = bases(base.ID); err != nil {
		return Manifest{}, nil, err
	}
	m := base.Head
	for _, s := range []*string{&m.Model, &m.Parent, &m.ModelFingerprint, &m.KVFingerprint} {
		*s = d.string()
	}
	m.Created = d.time()
	m.Groups, m.BlockTokens = d.count(), d.count()
	return d.turnAfter(m), base, nil
}

// turnAfter is the manifest that a turn record makes of the one before.
func (d *decoder) turnAfter(m Manifest) Manifest {
	m.LastUsed = d.time()
	keep := d.keep(len(m.Tokens))
	fresh := d.tokens()
	ends := d.count() != 0
	if ends != (m.Ends != nil) {
		d.fail(errShort)
		return m
	}
	if ends {
		m.Ends = instead(m.Ends, keep, d.ends(len(fresh), endBefore(m.Ends, keep)))
	}
	m.Tokens = instead(m.Tokens, keep, fresh)
	keep = d.keep(len(m.Turns))
	m.Turns = instead(m.Turns, keep, list(d, 8, d.turn))
	keep = d.keep(len(m.Keys))
	m.Keys = instead(m.Keys, keep, list(d, len(kv.Key{}), d.key))
	m.KVTokens = d.count()
	m.Tail = d.tails()
	m.Pinned = d.flag()
	return m
}

// instead is the first keep of list and then fresh; list itself stays as it is.
func instead[T any](list []T, keep int, fresh []T) []T {
	if keep < len(list) {
		list = list[:keep:keep]
	}
	return append(list, fresh...)
}

// keep is a number of things kept, of n.
func (d *decoder) keep(n int) int {
	k := d.count()
	if k > n {
		d.fail(errShort)
		return 0
	}
	return k
}
