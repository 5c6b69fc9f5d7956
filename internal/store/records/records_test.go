package records

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const magic = "MNEMETST"

// keyed is a ring of one key, of 32 times a letter; its nonces are counted.
type keyed struct {
	Cipher
	next byte
}

func (k *keyed) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = k.next
		k.next++
	}
	return len(b), nil
}

func (k *keyed) Find(id KeyID) (cipher.AEAD, error) {
	if id != k.ID {
		return nil, errors.New("no such key")
	}
	return k.AEAD, nil
}

func key(t testing.TB, letter byte) *keyed {
	t.Helper()
	block, err := aes.NewCipher(bytes.Repeat([]byte{letter}, 32))
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	k := &keyed{Cipher: Cipher{ID: KeyID{letter}, Namespace: Digest{letter}, NameKey: Digest{letter}, AEAD: aead}}
	k.Random = k
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// file has two names and the records, of kinds 1, 2, ...; ends are where each part
// ends, the head first.
func file(t testing.TB, c Cipher, bound string, bodies ...string) (b []byte, ends []int) {
	t.Helper()
	b, at, err := New(magic, []byte(bound), c, "team", "ada")
	must(t, err)
	ends = []int{len(b)}
	for i, body := range bodies {
		var record []byte
		record, at, err = at.Record(c, uint32(i+1), []byte(body))
		must(t, err)
		b = append(b, record...)
		ends = append(ends, len(b))
	}
	return b, ends
}

// said is what a file is read as: its names, its records up to the first that does
// not count, and what is left; or why not.
func said(b []byte, bound string, keys Keys) string {
	var namespace, id string
	f, err := Open(b, magic, "f", []byte(bound), keys, &namespace, &id)
	if err != nil {
		return err.Error()
	}
	parts := []string{namespace, id}
	for {
		r, ok := f.Next()
		if !ok || !r.Whole {
			return fmt.Sprint(strings.Join(parts, " "), " +", f.Rest())
		}
		parts = append(parts, fmt.Sprint(r.Kind, string(r.Body)))
		f.Take(r)
	}
}

// resum makes the sums right again, as nobody but who means harm does.
func resum(b []byte) []byte {
	le := binary.LittleEndian
	end := headBytes + int(le.Uint32(b[namesSizeAt:]))
	if end > len(b) {
		return b
	}
	s := headSum(b[:end])
	le.PutUint32(b[sumAt:], s)
	for len(b) >= end+bodyAt {
		size := bodyAt + int(le.Uint32(b[end:]))
		if size > len(b)-end {
			break
		}
		s = recordSum(s, b[end:end+size])
		le.PutUint32(b[end+ownSumAt:], s)
		end += size
	}
	return b
}

// The bytes of version 3, with a fixed key and nonces.
func TestEncryptedBytes(t *testing.T) {
	b, _ := file(t, key(t, 'k').Cipher, "it", "one")
	var dump strings.Builder
	for at := 0; at < len(b); at += 16 {
		fmt.Fprintf(&dump, "%3d %s\n", at, hex.EncodeToString(b[at:min(len(b), at+16)]))
	}
	want := `  0 4d4e454d45545354030000005c8f71ec
 16 4d0000006b000000000000006b000000
 32 00000000000000000000000000000000
 48 00000000000000000000000000010203
 64 0405060708090a0b6ea9914f69d3e711
 80 221fdd58f8862c862e98f58a74198c9a
 96 f01f00000001000000c91ed0150c0d0e
112 0f10111213141516179eb82f8c61e4e3
128 912ad918d80458b384f34f99
`
	if dump.String() != want {
		t.Errorf("got\n%s", dump.String())
	}
}

// What was written is read, with the key alone, and as the file that it was.
func TestReadBack(t *testing.T) {
	k := key(t, 'k')
	plain, _ := file(t, Cipher{}, "it", "one", "", "three")
	b, _ := file(t, k.Cipher, "it", "one", "", "three")
	other := key(t, 'o')
	other.ID = k.ID
	for _, c := range []struct {
		b     []byte
		bound string
		keys  Keys
		want  string
	}{
		{plain, "it", nil, "team ada 1one 2 3three +0"},
		{b, "it", k, "team ada 1one 2 3three +0"},
		{b[:len(b)-1], "it", k, "team ada 1one 2 +44"},
		{b, "it", nil, "f is damaged: it is encrypted, and there are no keys"},
		{b, "it", key(t, 'o'), "f is damaged: no such key"},
		{b, "it", other, "f is damaged: its head: it is not what was encrypted, or for another place"},
		{b, "them", k, "f is damaged: its head: it is not what was encrypted, or for another place"},
	} {
		if got := said(c.b, c.bound, c.keys); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	_, err := Open(b, magic, "f", nil, key(t, 'o'))
	var keyless *KeylessError
	var damaged *DamagedError
	if !errors.As(err, &keyless) || keyless.Namespace != (Digest{'k'}) || !errors.As(err, &damaged) {
		t.Errorf("without the key: %v", err)
	}
	var name string
	if _, err := Open(plain, magic, "f", nil, nil, &name); fmt.Sprint(err) != "f is damaged: its names are not names" {
		t.Errorf("two names for one: %v", err)
	}
	for _, text := range []string{"team", "ada", "one", "three"} {
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("%q is in the file", text)
		}
	}
}

// A name is one that only who has the key can make.
func TestNames(t *testing.T) {
	k, o := key(t, 'k'), key(t, 'o')
	body := []byte("what is in it")
	if k.Name(body) == o.Name(body) || k.Name(body) == (Cipher{}).Name(body) || k.Name(body) != key(t, 'k').Name(body) {
		t.Error("names are not of their keys")
	}
}

// Every bit of an encrypted file matters, whether the sums are right or made right:
// what is read is a beginning of what was written, or nothing.
func TestEveryBitOfAnEncryptedFile(t *testing.T) {
	k := key(t, 'k')
	b, ends := file(t, k.Cipher, "it", "one", "two", "three")
	beginnings := []string{"team ada", "team ada 1one", "team ada 1one 2two"}
	for at := range 8 * len(b) {
		for _, knowing := range []bool{false, true} {
			bad := bytes.Clone(b)
			bad[at/8] ^= 1 << (at % 8)
			if knowing {
				bad = resum(bad)
			}
			if bytes.Equal(bad, b) { // it was of a sum
				continue
			}
			got, _, _ := strings.Cut(said(bad, "it", k), " +")
			if !strings.HasPrefix(got, "f ") && !slices.Contains(beginnings, got) {
				t.Errorf("bit %d, sums made right %v: %s", at, knowing, got)
			}
			if i := slices.IndexFunc(ends, func(end int) bool { return at/8 < end }); i > 0 && got != beginnings[i-1] {
				t.Errorf("bit %d, sums made right %v: %s before %s", at, knowing, got, beginnings[i-1])
			}
		}
	}
	for cut := range b {
		if got, rest, _ := strings.Cut(said(b[:cut], "it", k), " +"); rest == "0" && !slices.Contains(ends, cut) {
			t.Errorf("nobody sees that it ends at %d: %s", cut, got)
		}
	}
}

// Records do not count elsewhere: not in another order, not in another file of the
// same key, not twice, whatever the sums say.
func TestRecordsDoNotMove(t *testing.T) {
	k := key(t, 'k')
	a, ends := file(t, k.Cipher, "it", "one", "two", "six")
	b, _ := file(t, k.Cipher, "it", "ten", "two", "six")
	head, one, two, six := a[:ends[0]], a[ends[0]:ends[1]], a[ends[1]:ends[2]], a[ends[2]:]
	for name, c := range map[string]struct {
		parts [][]byte
		want  string
	}{
		"as written":  {[][]byte{head, one, two, six}, "team ada 1one 2two 3six +0"},
		"swapped":     {[][]byte{head, one, six, two}, "team ada 1one +86"},
		"left out":    {[][]byte{head, two, six}, "team ada +86"},
		"twice":       {[][]byte{head, one, one}, "team ada 1one +43"},
		"of another":  {[][]byte{head, one, b[ends[1]:ends[2]], six}, "team ada 1one +86"},
		"another's":   {[][]byte{b[:ends[0]], one}, "team ada +43"},
		"the last is": {[][]byte{head, one, two, b[ends[2]:]}, "team ada 1one 2two +43"},
	} {
		if got := said(resum(slices.Concat(c.parts...)), "it", k); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Sums take no key: they tell how far a file is whole.
func TestCheck(t *testing.T) {
	for name, c := range map[string]Cipher{"plain": {}, "encrypted": key(t, 'k').Cipher} {
		b, ends := file(t, c, "it", "one", "two")
		for at := range b {
			bad := bytes.Clone(b)
			bad[at] ^= 1
			got, err := Check(bad, magic, "f")
			part := slices.IndexFunc(ends, func(end int) bool { return at < end })
			if (err != nil) != (part == 0) || part > 0 && (got.Records != part-1 || got.End != int64(ends[part-1]) || got.Rest != len(b)-ends[part-1]) {
				t.Errorf("%s, byte %d of part %d: %+v %v", name, at, part, got, err)
			}
		}
		got, err := Check(b, magic, "f")
		if err != nil || got.Records != 2 || got.Rest != 0 || got.Encrypted() != c.Encrypts() || !got.Takes(c) || got.Takes(Cipher{}) == c.Encrypts() {
			t.Errorf("%s, whole: %+v %v", name, got, err)
		}
	}
}

// Without random numbers nothing is written.
func TestNoRandom(t *testing.T) {
	c := key(t, 'k').Cipher
	_, at, err := New(magic, nil, c)
	must(t, err)
	c.Random = strings.NewReader("short")
	_, _, headErr := New(magic, nil, c)
	_, same, recordErr := at.Record(c, 1, nil)
	if want := "draw a nonce: EOF"; fmt.Sprint(headErr) != "draw a nonce: unexpected EOF" || fmt.Sprint(recordErr) != want || same != at {
		t.Errorf("head %v, record %v", headErr, recordErr)
	}
}

// Bytes nobody wrote are an error, never a panic.
func FuzzOpen(f *testing.F) {
	plain, _ := file(f, Cipher{}, "", "one")
	k := key(f, 'k')
	b, _ := file(f, k.Cipher, "", "one", "two")
	f.Add(plain)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		said(b, "", k)
		if len(b) >= headBytes {
			said(resum(bytes.Clone(b)), "", k)
		}
		if c, err := Check(b, magic, "f"); err == nil && c.End+int64(c.Rest) != int64(len(b)) {
			t.Errorf("%d bytes, of which %d and %d", len(b), c.End, c.Rest)
		}
	})
}
