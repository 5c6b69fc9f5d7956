package format

import (
	"encoding/binary"
	"fmt"
	"time"

	"mneme/internal/kv"
)

// A journal is a head and records, the first of them a snapshot:
//
//	 0  magic "MNEMEAGT"                record:  0  body  u32  bytes
//	 8  version      u32                         4  kind  u32  1 snapshot, 2 turn
//	12  sum          u32  crc32c of              8  sum   u32  crc32c of the sum before it
//	       [0,12) and [16,end of head)                         (the head's, for the first),
//	16  names        u32  bytes                                [0,8) and the body
//	20  namespace, id: strings                  12  body
//
// A record counts only after all before it: its sum goes on from theirs.
const (
	journalMagic     = "MNEMEAGT"
	journalVersion   = 1
	journalHeadBytes = 20
	recordHeadBytes  = 12

	recordSnapshot = 1
	recordTurn     = 2
)

// Journal is what an agent's file says, as far as it can be read.
type Journal struct {
	Namespace, ID string
	Manifest      Manifest
	Former        []kv.Key // blocks named before the last turn and not by it: for erasing
	Mark

	Turns int  // turn records
	Rest  int  // bytes after the last whole record: torn, or damaged
	Inner bool // more than one record's: damaged
}

// Mark is where a journal ends and how it goes on.
type Mark struct {
	End           int64  // after the last whole record
	SnapshotBytes int64  // up to the end of the snapshot
	Sum           uint32 // of the last whole record
}

// NewJournal is a file of a head and one snapshot, and its mark.
func NewJournal(m *Manifest, former []kv.Key) ([]byte, Mark) {
	head := make(encoder, journalHeadBytes)
	copy(head, journalMagic)
	binary.LittleEndian.PutUint32(head[8:], journalVersion)
	head.string(m.Namespace)
	head.string(m.ID)
	binary.LittleEndian.PutUint32(head[16:], uint32(len(head)-journalHeadBytes))
	headSum := fileSum(head)
	binary.LittleEndian.PutUint32(head[12:], headSum)

	var body encoder
	body.manifest(m)
	body.keys(former)
	record, sum := newRecord(headSum, recordSnapshot, body)
	file := append(head, record...)
	return file, Mark{int64(len(file)), int64(len(file)), sum}
}

func newRecord(before uint32, kind uint32, body []byte) (record []byte, sum uint32) {
	record = make([]byte, recordHeadBytes, recordHeadBytes+len(body))
	binary.LittleEndian.PutUint32(record, uint32(len(body)))
	binary.LittleEndian.PutUint32(record[4:], kind)
	record = append(record, body...)
	sum = recordSum(before, record)
	binary.LittleEndian.PutUint32(record[8:], sum)
	return record, sum
}

func recordSum(before uint32, record []byte) uint32 {
	return sum(binary.LittleEndian.AppendUint32(nil, before), record[:8], record[recordHeadBytes:])
}

// AppendTurn is the record that makes after of before, and the mark behind it;
// false when only a snapshot can say what has changed.
func (at Mark) AppendTurn(before, after *Manifest) (record []byte, next Mark, ok bool) {
	if !sameOwner(before, after) {
		return nil, Mark{}, false
	}
	keep := commonTokens(before, after)
	var b encoder
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
	record, sum := newRecord(at.Sum, recordTurn, b)
	return record, Mark{at.End + int64(len(record)), at.SnapshotBytes, sum}, true
}

// sameOwner tells whether all that a turn record does not say is the same.
func sameOwner(a, b *Manifest) bool {
	return a.Namespace == b.Namespace && a.ID == b.ID && a.Model == b.Model && a.Parent == b.Parent &&
		a.ModelFingerprint == b.ModelFingerprint && a.KVFingerprint == b.KVFingerprint &&
		a.Created.Equal(b.Created) && a.Groups == b.Groups && a.BlockTokens == b.BlockTokens &&
		(a.Ends == nil) == (b.Ends == nil)
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
// for an intact one of another version, a *DamagedError when not even its
// snapshot can be read; the names are given then if the head is whole.
func ReadJournal(b []byte, path string) (Journal, error) {
	j, headSum, err := readJournalHead(b, path)
	if err != nil {
		return j, err
	}
	j.Sum = headSum
	for j.next(b) {
	}
	j.Rest = len(b) - int(j.End)
	if j.SnapshotBytes == 0 {
		return j, &DamagedError{path, "its snapshot cannot be read"}
	}
	return j, nil
}

func readJournalHead(b []byte, path string) (Journal, uint32, error) {
	le := binary.LittleEndian
	if len(b) < journalHeadBytes || string(b[:8]) != journalMagic {
		return Journal{}, 0, &DamagedError{path, fmt.Sprintf("no agent's file in %d bytes", len(b))}
	}
	names := int64(le.Uint32(b[16:]))
	if names > int64(len(b)-journalHeadBytes) {
		return Journal{}, 0, &DamagedError{path, "its head is cut"}
	}
	head := b[:journalHeadBytes+names]
	if have, want := fileSum(head), le.Uint32(b[12:]); have != want {
		return Journal{}, 0, &DamagedError{path, fmt.Sprintf("its head sums to %08x, written was %08x", have, want)}
	}
	if v := le.Uint32(b[8:]); v != journalVersion {
		return Journal{}, 0, &VersionError{path, v, journalVersion}
	}
	d := decoder{rest: head[journalHeadBytes:]}
	j := Journal{Namespace: d.string(), ID: d.string(), Mark: Mark{End: int64(len(head))}}
	if d.err != nil || len(d.rest) > 0 {
		return Journal{}, 0, &DamagedError{path, "its names are not names"}
	}
	return j, le.Uint32(b[12:]), nil
}

// next takes the record at End; false when there is no whole one that makes sense.
func (j *Journal) next(b []byte) bool {
	rest := b[j.End:]
	if len(rest) < recordHeadBytes {
		return false
	}
	size := recordHeadBytes + int64(binary.LittleEndian.Uint32(rest))
	if size > int64(len(rest)) {
		return false
	}
	record := rest[:size]
	sum := binary.LittleEndian.Uint32(record[8:])
	if recordSum(j.Sum, record) != sum || !j.apply(binary.LittleEndian.Uint32(record[4:]), record[recordHeadBytes:]) {
		j.Inner = size < int64(len(rest))
		return false
	}
	j.End, j.Sum = j.End+size, sum
	if j.SnapshotBytes == 0 {
		j.SnapshotBytes = j.End
	}
	return true
}

func (j *Journal) apply(kind uint32, body []byte) bool {
	d := &decoder{rest: body}
	var m Manifest
	var former []kv.Key
	switch {
	case kind == recordSnapshot && j.SnapshotBytes == 0:
		m = d.manifest()
		former = list(d, len(kv.Key{}), d.key)
	case kind == recordTurn && j.SnapshotBytes > 0:
		m = d.turnAfter(j.Manifest)
		former = append(j.Former, j.Manifest.Keys[common(j.Manifest.Keys, m.Keys, func(a, b kv.Key) bool { return a == b }):]...)
		j.Turns++
	default:
		return false
	}
	if d.err != nil || len(d.rest) > 0 || m.Namespace != j.Namespace || m.ID != j.ID || CheckManifest(&m) != nil {
		return false
	}
	j.Manifest, j.Former = m, former
	return true
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
