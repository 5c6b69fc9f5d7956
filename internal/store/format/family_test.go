package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/store/records"
	"mneme/internal/token"
)

// newFamily is a plain one.
func newFamily(m *Manifest) Family {
	f, err := NewFamily(m, Cipher{})
	if err != nil {
		panic(err)
	}
	return f
}

// family has two members; the second has been put twice.
func family() (Family, []byte) {
	m := manifest()
	f := newFamily(&m)
	file, _ := f.Encode(Cipher{})
	eve := MemberOf(&m)
	eve.ID = "eve"
	for _, member := range []Member{MemberOf(&m), {ID: "eve"}, eve} {
		record, _ := f.Put(member, Cipher{})
		file = append(file, record...)
	}
	return f, file
}

// The bytes of a family as version 2 fixed them: its head, what the members have in
// common, and three records of members.
func TestFamilyBytes(t *testing.T) {
	f, file := family()
	want := `0b6665a98a55a80155ed35e1243f649a1e8e5a981881244fe49c1eb50fbc4d8d
  0 4d4e454d4546414d02000000b71b8edf
 16 05000000047465616d78000000010000
 32 00dc7c8471047465616d000000026d30
 48 02613100000305ac020601040e090101
 64 03080201010473746f708cc8b1c9c3bc
 80 e5863101aa0000000000000000000000
112 000000bb02020401cc00000000000000
144 00000000000000dd0101016400200000
160 00020000005edc77fe03616461036576
176 650474696e798cc8b1c9c3bce586318c
192 c8f6d4898ee786310109000000020000
208 00802f2ae70365766500000000002000
224 0000020000005ed37fef036576650365
240 76650474696e798cc8b1c9c3bce58631
256 8cc8f6d4898ee7863101
266 bytes`
	if got := f.ID.String() + "\n" + dump(file); got != want || int64(len(file)) != f.Bytes {
		t.Errorf("got\n%s", got)
	}
}

// A member of a family is the agent that it was made of; a family read back says
// the same, and written anew has a record for each.
func TestFamilyIsReadBack(t *testing.T) {
	f, file := family()
	m := manifest()
	got, err := ReadFamily(file, "f", f.ID, nil)
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, f)
	}
	if one := got.Members[0].Of(got.Common); !reflect.DeepEqual(one, m) || len(got.Members) != 2 || !got.Members[1].Pinned {
		t.Errorf("members %+v", got.Members)
	}
	other := m
	other.ID, other.Parent, other.LastUsed, other.Pinned = "x", "y", other.Created, false
	if newFamily(&other).ID != f.ID {
		t.Error("another family for what is a member's own")
	}
	other.Tokens = []token.ID{5, 300, 7}
	if newFamily(&other).ID == f.ID {
		t.Error("the same family for other tokens")
	}
	anew, _ := got.Encode(Cipher{})
	again, err := ReadFamily(anew, "f", f.ID, nil)
	if err != nil || !slices.Equal(again.Members, f.Members) || again.Bytes >= f.Bytes {
		t.Errorf("written anew: %v, %+v", err, again)
	}
	if id, ok := ParseFamilyID(f.ID.String()); !ok || id != f.ID {
		t.Errorf("its name is read as %v", id)
	}
	for _, bad := range []string{"", "ab", f.ID.String() + "0", "X" + f.ID.String()[1:]} {
		if id, ok := ParseFamilyID(bad); ok {
			t.Errorf("%q is read as %v", bad, id)
		}
	}
}

// Every bit of a family matters, and costs one member at most unless it is of the
// common part or of a length.
func TestFamilyDamageIsFound(t *testing.T) {
	f, file := family()
	lost := map[string]int{}
	for at := range 8 * len(file) {
		b := bytes.Clone(file)
		b[at/8] ^= 1 << (at % 8)
		got, err := ReadFamily(b, "f", f.ID, nil)
		if err == nil && got.Rest == 0 && got.Bad == 0 {
			t.Errorf("nobody sees bit %d change", at)
		}
		for _, m := range got.Members {
			if !slices.Contains(f.Members, m) && m != (Member{ID: "eve"}) {
				t.Errorf("bit %d: member %+v", at, m)
			}
		}
		lost[fmt.Sprint(err != nil, " ", len(got.Members))]++
	}
	if lost["true 2"] == 0 || lost["false 2"] == 0 || lost["false 1"] == 0 || lost["true 0"] == 0 || len(lost) > 6 {
		t.Errorf("an error, members left: %v", lost)
	}
	for cut := range file {
		got, err := ReadFamily(file[:cut], "f", f.ID, nil)
		if err == nil && len(got.Members) == 2 && got.Rest == 0 && cut != len(file) && got.Members[1].Pinned {
			t.Errorf("nobody sees that it ends at %d", cut)
		}
	}
	if _, err := ReadFamily(file, "f", FamilyID{1}, nil); err == nil {
		t.Error("it is read under another name")
	}
}

// A journal on top of a family says what differs, however much that is; it is read
// with the family, and not without.
func TestBasedJournal(t *testing.T) {
	m := manifest()
	common := newFamily(&m).Common
	base := &Base{ID: FamilyID{7}, Head: common}
	bases := func(id FamilyID) (Manifest, error) {
		if id != base.ID {
			return Manifest{}, fs.ErrNotExist
		}
		return common, nil
	}
	file, turns := journal()
	plain, _, _ := NewJournal(&turns[1], nil, nil, Cipher{})
	empty := Manifest{Namespace: m.Namespace, ID: "ada"}
	ends := turns[1]
	ends.Ends = nil
	away := turns[1]
	away.Model, away.KVFingerprint, away.Groups, away.BlockTokens = "other", "b2", 3, 8
	for i, want := range append(turns, away, ends, empty) {
		based := i < 4 // with text offsets where the family has none, or none where it has, it stands alone
		data, at, _ := NewJournal(&want, []kv.Key{{6}}, base, Cipher{})
		j, err := ReadJournal(data, "f", bases, nil)
		if err != nil || !reflect.DeepEqual(j.Manifest, want) || j.Mark != at || (j.Base != nil) != based || len(j.Former) != 1 {
			t.Errorf("%d: %v\n got %+v\nwant %+v", i, err, j, want)
		}
		if based != (j.BaseID() == base.ID) {
			t.Errorf("%d: base %v", i, j.BaseID())
		}
		next := want
		next.Pinned = !want.Pinned
		record, _, ok := at.AppendTurn(&want, &next, Cipher{})
		if j, err = ReadJournal(append(data, record...), "f", bases, nil); !ok || err != nil || !reflect.DeepEqual(j.Manifest, next) {
			t.Errorf("%d, a turn later: %v\n got %+v", i, err, j)
		}
	}
	data, _, _ := NewJournal(&turns[1], nil, base, Cipher{})
	if len(data) >= len(plain) {
		t.Errorf("%d bytes on top of a family, %d alone", len(data), len(plain))
	}
	var damaged *DamagedError
	failing := errors.New("the disk")
	for _, err := range []error{fs.ErrNotExist, &DamagedError{Where: "f", Reason: "x"}, &VersionError{Where: "f", Have: 7, Know: 2}, failing} {
		j, got := ReadJournal(data, "f", func(FamilyID) (Manifest, error) { return Manifest{}, err }, nil)
		if want := err == fs.ErrNotExist || errors.As(err, &damaged); errors.As(got, &damaged) != want || !want && !errors.Is(got, err) || j.ID != "ada" {
			t.Errorf("its family gives %v: %v", err, got)
		}
	}
	if _, err := ReadJournal(data, "f", nil, nil); !errors.As(err, &damaged) {
		t.Errorf("without bases: %v", err)
	}
	if _, err := ReadJournal(file, "f", nil, nil); err != nil {
		t.Errorf("one that needs none: %v", err)
	}
}

// A journal of version 1 is read, and not gone on with.
func TestJournalOfVersion1(t *testing.T) {
	m := manifest()
	m.Pinned = false
	head, at, _ := records.New(journalMagic, nil, Cipher{}, m.Namespace, m.ID)
	binary.LittleEndian.PutUint32(head[8:], 1)
	at.Sum = fileSum(head)
	binary.LittleEndian.PutUint32(head[12:], at.Sum)
	var body encoder
	body.manifest(&m)
	body = body[:len(body)-1] // nobody was pinned
	body.keys(nil)
	record, _, _ := at.Record(Cipher{}, recordSnapshot, body)
	j, err := ReadJournal(append(head, record...), "f", nil, nil)
	if err != nil || !reflect.DeepEqual(j.Manifest, m) || j.Version != 1 {
		t.Errorf("%v: %+v", err, j)
	}
	if _, _, ok := j.AppendTurn(&m, &m, Cipher{}); ok {
		t.Error("a record of version 2 in a file of version 1")
	}
}

// An intact family or journal of another version is named with both numbers.
func TestOtherVersionsOfRecords(t *testing.T) {
	f, file := family()
	journal, _ := journal()
	for _, v := range []uint32{0, 7} {
		for name, read := range map[string]func() error{
			familyMagic: func() error {
				_, err := ReadFamily(reversioned(file, v), "f", f.ID, nil)
				return err
			},
			journalMagic: func() error {
				_, err := ReadJournal(reversioned(journal, v), "f", nil, nil)
				return err
			},
		} {
			var version *VersionError
			if err := read(); !errors.As(err, &version) || *version != (VersionError{Where: "f", Have: v, Know: 3}) {
				t.Errorf("%s of version %d: %v", name, v, err)
			}
		}
	}
}

// reversioned is a file of records that says it is of another version.
func reversioned(file []byte, v uint32) []byte {
	b := bytes.Clone(file)
	head := b[:20+binary.LittleEndian.Uint32(b[16:])]
	binary.LittleEndian.PutUint32(head[8:], v)
	binary.LittleEndian.PutUint32(head[12:], fileSum(head))
	return b
}
