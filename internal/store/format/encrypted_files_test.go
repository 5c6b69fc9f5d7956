package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"mneme/internal/kv"
)

// An encrypted journal is read back turn by turn; a turn is not written behind it in
// clear, nor an encrypted one behind a plain one.
func TestEncryptedJournal(t *testing.T) {
	k := key('k')
	_, turns := journal()
	file, at, err := NewJournal(&turns[0], []kv.Key{{6}}, nil, k.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		record, next, ok := at.AppendTurn(&turns[i], &turns[i+1], k.Cipher)
		if !ok {
			t.Fatal("a turn cannot be appended")
		}
		file, at = append(file, record...), next
		j, err := ReadJournal(file, "f", nil, k)
		if err != nil || !reflect.DeepEqual(j.Manifest, turns[i+1]) || j.Mark != at || j.Rest != 0 {
			t.Errorf("turn %d: %v\n got %+v", i+2, err, j)
		}
	}
	_, plain, _ := NewJournal(&turns[0], nil, nil, Cipher{})
	_, _, clear := at.AppendTurn(&turns[2], &turns[2], Cipher{})
	_, _, hidden := plain.AppendTurn(&turns[0], &turns[1], k.Cipher)
	if clear || hidden {
		t.Errorf("a plain turn in an encrypted file %v, an encrypted one in a plain file %v", clear, hidden)
	}
	var keyless *KeylessError
	if j, err := ReadJournal(file, "f", nil, nil); !errors.As(err, &keyless) || j.ID != "" {
		t.Errorf("without a key: %+v %v", j, err)
	}
	if where, rest, err := CheckJournal(file[:len(file)-1], "f"); err != nil || where.End != int64(len(file)-1-rest) || rest == 0 || !where.Encrypted() {
		t.Errorf("cut, by its sums: %+v %d %v", where, rest, err)
	}
}

// An encrypted family has a name that takes the key to make, and is read under no
// other; a plain one that is encrypted keeps its name and its members.
func TestEncryptedFamily(t *testing.T) {
	k := key('k')
	m := manifest()
	plain, _ := family()
	f, err := NewFamily(&m, k.Cipher)
	if err != nil || f.ID == plain.ID || !f.Takes(k.Cipher) || f.Takes(Cipher{}) {
		t.Fatalf("%v: family %s", err, f.ID)
	}
	for name, family := range map[string]Family{"new": f, "was plain": plain} {
		for _, id := range []string{"x", "y", "x"} {
			family.Admit(Member{ID: id, Pinned: true})
		}
		file, err := family.Encode(k.Cipher)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadFamily(file, "f", family.ID, k)
		if err != nil || !got.Encrypted() || !reflect.DeepEqual(got.Common, family.Common) || !slices.Equal(got.Members, family.Members) || got.Bytes != int64(len(file)) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, family)
		}
		if _, err := ReadFamily(file, "f", FamilyID{1}, k); err == nil {
			t.Errorf("%s: it is read under another name", name)
		}
		damaged := bytes.Clone(file)
		damaged[len(got.before)-1] ^= 1
		lost, err := ReadFamily(damaged, "f", family.ID, k)
		again, encodeErr := lost.Encode(k.Cipher)
		if err == nil || encodeErr != nil || !slices.Equal(lost.Members, got.Members) || !bytes.Equal(again[:len(got.before)], damaged[:len(got.before)]) {
			t.Errorf("%s: what its members have in common is damaged: %v %v %+v", name, err, encodeErr, lost.Members)
		}
	}
}

// Of an encrypted catalogue a start has what there are keys of, and no bit of it can
// be changed, whether its sum is made right or not.
func TestEncryptedCatalogue(t *testing.T) {
	k, o := key('k'), key('o')
	m := manifest()
	at := Mark{SnapshotBytes: 5}
	at.End, at.Version, at.Nonce = 7, 3, [12]byte{9}
	parts := []Part{
		{Catalogue{Agents: []Card{CardOf(&m, nil, at)}}, k.Cipher},
		{Catalogue{Families: []Kin{{CardOf(&m, nil, Mark{}), []Member{{ID: "x"}}}}}, o.Cipher},
	}
	b, err := EncryptCatalogue(parts)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys Keys
		want Catalogue
	}{"one key": {k, parts[0].Catalogue}, "the other": {o, parts[1].Catalogue}, "none": {nil, Catalogue{}}} {
		if got, err := DecodeCatalogue(b, c.keys); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, c.want)
		}
	}
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if got, err := DecodeCatalogue(bad, k); err == nil {
			t.Errorf("nobody sees bit %d change: %+v", bit, got)
		}
		binary.LittleEndian.PutUint32(bad[12:], fileSum(bad))
		got, err := DecodeCatalogue(bad, k)
		if err == nil && len(got.Agents)+len(got.Families) > 0 && !reflect.DeepEqual(got, parts[0].Catalogue) {
			t.Errorf("bit %d, with the right sum: %+v", bit, got)
		}
	}
	k.Random = bytes.NewReader(nil)
	parts[0].Cipher = k.Cipher
	if _, err := EncryptCatalogue(parts); fmt.Sprint(err) != "draw a nonce: EOF" {
		t.Errorf("without random numbers: %v", err)
	}
}
