package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/store/records"
	"mneme/internal/token"
)

// block is a frame of two tokens whose payload is 1, 2, 3, ...; so are its bytes.
func block(name byte, payloadBytes int) (Frame, []byte) {
	f := Frame{
		Kind: Block, Form: quant.KVQ4, Group: 3, Tokens: []token.ID{7, 0x01020304},
		PayloadBytes: payloadBytes, Key: kv.Key{name}, Parent: kv.Key{31: name - 1},
	}
	b := bytes.Repeat([]byte{0xff}, int(f.Shape().FrameBytes())) // a used buffer
	f.Encode(b, count)
	return f, b
}

func count(dst []byte) {
	for i := range dst {
		dst[i] = byte(i + 1)
	}
}

// manifest has something in every field.
func manifest() Manifest {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return Manifest{
		Namespace: "team", ID: "ada", Model: "tiny", Parent: "eve", ModelFingerprint: "m0", KVFingerprint: "a1",
		Tokens: []token.ID{5, 300, 6}, Ends: []int{2, 9, 4}, Created: at, LastUsed: at.Add(time.Hour),
		Turns: []Turn{{Turn: 1, Tokens: 3, TextEnd: 8, Prompt: 2, Cached: 1, Completion: 1, Finish: "stop", Created: at}},
		Keys:  []kv.Key{{0: 0xaa, 31: 0xbb}}, Groups: 2, KVTokens: 2,
		BlockTokens: 4,
		Tail:        []TailRef{{Key: kv.Key{0: 0xcc, 31: 0xdd}, Group: 1, Form: quant.KVQ8, Tokens: 1, Bytes: 100}},
		Pinned:      true,
	}
}

// journal is a snapshot and two turns; the second goes back to the first token.
func journal() ([]byte, []Manifest) {
	first := manifest()
	second, third := first, first
	second.Tokens, second.Ends, second.KVTokens = []token.ID{5, 300, 6, 8}, []int{2, 9, 4, 20}, 4
	second.Turns = append(second.Turns[:1:1], Turn{Turn: 2, Tokens: 4, Finish: "length"})
	second.Keys = append(second.Keys[:1:1], kv.Key{7})
	second.LastUsed = first.LastUsed.Add(time.Hour)
	third.Tokens, third.Ends, third.KVTokens, third.Tail = []token.ID{5, 9}, []int{2, 3}, 1, nil
	third.Turns, third.Keys = []Turn{{Turn: 1, Tokens: 2}}, []kv.Key{{8}}
	file, at, _ := NewJournal(&first, []kv.Key{{6}}, nil, Cipher{})
	all := []Manifest{first, second, third}
	for i := range all[1:] {
		record, next, _ := at.AppendTurn(&all[i], &all[i+1], Cipher{})
		file, at = append(file, record...), next
	}
	return file, all
}

// dump shows bytes in rows of 16, without those of zeros alone.
func dump(b []byte) string {
	var rows strings.Builder
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		if !bytes.Equal(row, make([]byte, len(row))) {
			fmt.Fprintf(&rows, "%3d %x\n", at, row)
		}
	}
	return fmt.Sprintf("%s%3d bytes", &rows, len(b))
}

// The bytes as they were fixed: what earlier runs wrote is still what we write.
func TestBytes(t *testing.T) {
	_, frame := block(2, 10)
	m := manifest()
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"frame", frame, `
  0 4d4b5646010001020300000002000000
 16 0a000000000000000200000000000000
 80 0000000000000001ef500f1eb98b146d
 96 07000000040302010000000000000000
128 0102030405060708090a000000000000
192 bytes`},
		{"manifest", EncodeManifest(&m), `
  0 4d4e454d454d414e0200000037dbf26b
 16 9200000000000000047465616d036164
 32 610474696e7903657665026d30026131
 48 8cc8b1c9c3bce586318cc8f6d4898ee7
 64 86310305ac020601040e090101030802
 80 01010473746f708cc8b1c9c3bce58631
 96 01aa0000000000000000000000000000
128 bb02020401cc00000000000000000000
160 00000000dd0101016401
170 bytes`},
	} {
		if got := "\n" + dump(c.b); got != c.want {
			t.Errorf("%s:\n got%s\nwant%s", c.name, got, c.want)
		}
	}
}

func TestManifestIsReadBack(t *testing.T) {
	negative := Manifest{ID: "x", Tokens: []token.ID{-1}, Created: time.Unix(0, -5).UTC()}
	for _, m := range []Manifest{manifest(), {}, negative} {
		if got, err := DecodeManifest(EncodeManifest(&m), "f"); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v\n got %+v\nwant %+v", err, got, m)
		}
	}
}

// Every single bit matters: a changed or cut file is damaged.
func TestDamageIsFound(t *testing.T) {
	f, frame := block(2, 10)
	m := manifest()
	file, _ := journal()
	for name, c := range map[string]struct {
		b     []byte
		check func(b []byte) error
	}{
		"manifest": {EncodeManifest(&m), func(b []byte) error {
			_, err := DecodeManifest(b, "f")
			return err
		}},
		"catalogue": {EncodeCatalogue(Catalogue{Agents: []Card{CardOf(&m, nil, Mark{})}}), func(b []byte) error {
			_, err := DecodeCatalogue(b, nil)
			return err
		}},
		"journal": {file, func(b []byte) error {
			j, err := ReadJournal(b, "f", nil, nil)
			if err == nil && (j.Rest > 0 || j.Turns != 2) {
				err = errors.New("not whole")
			}
			return err
		}},
		"frame": {frame[:128+10], func(b []byte) error {
			return read(b, f.Shape(), wanted(f), make([]byte, 10))
		}},
	} {
		if err := c.check(c.b); err != nil {
			t.Errorf("%s as written: %v", name, err)
		}
		for at := range 8 * len(c.b) {
			b := bytes.Clone(c.b)
			b[at/8] ^= 1 << (at % 8)
			if c.check(b) == nil {
				t.Errorf("%s: nobody sees bit %d change", name, at)
			}
		}
		for cut := range c.b {
			if c.check(c.b[:cut]) == nil {
				t.Errorf("%s: nobody sees that it ends at %d", name, cut)
			}
		}
	}
}

func wanted(f Frame) Wanted {
	return Wanted{Kind: f.Kind, Key: f.Key, Group: f.Group, Tokens: f.Tokens}
}

// read reads the frame that b begins with.
func read(b []byte, noted Shape, want Wanted, dst []byte) error {
	return new(Reader).Read(bytes.NewReader(b), 0, noted, want, dst)
}

func TestReadComparesWhatItAsksFor(t *testing.T) {
	f, frame := block(2, 10)
	for _, c := range []struct {
		change func(w *Wanted)
		noted  Shape
		length int
		want   string
	}{
		{func(*Wanted) {}, Shape{Tokens: 2, PayloadBytes: 10}, 10, "<nil>"},
		{func(w *Wanted) { w.Tokens, w.AnyTokens = nil, true }, Shape{Tokens: 2, PayloadBytes: 10}, 10, "<nil>"},
		{func(w *Wanted) { w.Kind = Tail }, Shape{Tokens: 2, PayloadBytes: 10}, 10, "frame of kind 1 instead of 2"},
		{func(w *Wanted) { w.Key = kv.Key{9} }, Shape{Tokens: 2, PayloadBytes: 10}, 10, "key " + f.Key.String() + " instead of " + kv.Key{9}.String()},
		{func(w *Wanted) { w.Group = 1 }, Shape{Tokens: 2, PayloadBytes: 10}, 10, "group 3 instead of 1"},
		{func(w *Wanted) { w.Tokens = []token.ID{7, 8} }, Shape{Tokens: 2, PayloadBytes: 10}, 10, "its 2 tokens are not the 2 expected"},
		{func(*Wanted) {}, Shape{Tokens: 2, PayloadBytes: 10}, 9, "payload of 10 bytes, 9 expected"},
		{func(*Wanted) {}, Shape{Tokens: 2, PayloadBytes: 11}, 11, "payload of 10 bytes instead of 11"},
		{func(*Wanted) {}, Shape{Tokens: 1, PayloadBytes: 10}, 10, "version 1 with 2 tokens instead of 1 with 1"},
		{func(*Wanted) {}, Shape{Tokens: 200, PayloadBytes: 10}, 10, "192 of 896 bytes at 0: unexpected EOF"},
	} {
		w := wanted(f)
		c.change(&w)
		dst := make([]byte, c.length)
		err := read(frame, c.noted, w, dst)
		if fmt.Sprint(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if err == nil && !bytes.Equal(dst, frame[128:138]) {
			t.Errorf("read %x", dst)
		}
	}
}

// An intact file of another version is named with both numbers.
func TestOtherVersions(t *testing.T) {
	le := binary.LittleEndian
	resum := func(b []byte) []byte {
		le.PutUint32(b[8:], 7)
		le.PutUint32(b[12:], fileSum(b))
		return b
	}
	m := manifest()
	_, manifestErr := DecodeManifest(resum(EncodeManifest(&m)), "f")
	var version *VersionError
	if !errors.As(manifestErr, &version) || *version != (VersionError{Where: "f", Have: 7, Know: 2}) {
		t.Errorf("version 7: %v", manifestErr)
	}
	f, frame := block(2, 10)
	le.PutUint16(frame[4:], 7)
	le.PutUint32(frame[sumsAt:], sumHead(frame[:128]))
	err := read(frame, f.Shape(), wanted(f), make([]byte, 10))
	if fmt.Sprint(err) != "frame version 7, this program reads versions 1 and 2" {
		t.Errorf("frame: %v", err)
	}
}

// Bytes nobody wrote are an error, never a panic.
func FuzzDecoders(f *testing.F) {
	m := manifest()
	_, frame := block(2, 10)
	f.Add(EncodeManifest(&m))
	f.Add(EncodeCatalogue(Catalogue{Agents: []Card{CardOf(&m, nil, Mark{})}}))
	sealed, _ := EncryptCatalogue([]Part{{Cipher: key('k').Cipher}})
	f.Add(sealed)
	data, _ := journal()
	f.Add(data)
	_, kin := family()
	f.Add(kin)
	f.Add(frame)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeManifest(b, "f"); err == nil && string(EncodeManifest(&m)) != string(b) {
			again, err := DecodeManifest(EncodeManifest(&m), "f")
			if err != nil || len(again.Tokens) != len(m.Tokens) {
				t.Errorf("manifest changes when written again: %v", err)
			}
		}
		if j, err := ReadJournal(b, "f", nil, nil); err == nil && (j.End > int64(len(b)) || j.Rest != len(b)-int(j.End)) {
			t.Errorf("journal of %d bytes ends at %d", len(b), j.End)
		}
		if f, err := ReadFamily(b, "f", FamilyID{}, nil); err == nil && f.Bytes+int64(f.Rest) != int64(len(b)) {
			t.Errorf("family of %d bytes ends at %d", len(b), f.Bytes)
		}
		_, _ = DecodeCatalogue(b, key('k'))
		_, _, _ = Parse(b)
		_, _ = FrameBytesAt(bytes.NewReader(b), 0, int64(len(b)))
		d := decoder{rest: b}
		d.manifest()
		d = decoder{rest: b}
		d.turnAfter(m)
	})
}

// A journal read up to the end of each record gives the turn of that time, and
// what was named before and is not any more.
func TestJournalIsReadBack(t *testing.T) {
	file, turns := journal()
	whole, err := ReadJournal(file, "f", nil, nil)
	if err != nil || !reflect.DeepEqual(whole.Manifest, turns[2]) || whole.Rest != 0 {
		t.Errorf("%v\n got %+v\nwant %+v", err, whole.Manifest, turns[2])
	}
	if got, want := whole.Former, []kv.Key{{6}, turns[1].Keys[0], {7}}; !slices.Equal(got, want) {
		t.Errorf("former keys %v, want %v", got, want)
	}
	seen := map[int]bool{}
	for cut := whole.SnapshotBytes; cut <= whole.End; cut++ {
		j, err := ReadJournal(file[:cut], "f", nil, nil)
		if err != nil || !reflect.DeepEqual(j.Manifest, turns[j.Turns]) || int64(j.Rest) != cut-j.End || j.Inner {
			t.Errorf("cut at %d: %v\n%+v", cut, err, j)
		}
		seen[j.Turns] = true
	}
	if len(seen) != 3 {
		t.Errorf("turns seen: %v", seen)
	}
	other := turns[2]
	other.Model = "another"
	if _, _, ok := whole.AppendTurn(&turns[2], &other, Cipher{}); ok {
		t.Error("a turn record cannot say that the model changes")
	}
}

func TestCatalogueIsReadBack(t *testing.T) {
	m := manifest()
	c := Catalogue{
		Families: []Kin{{CardOf(&m, nil, Mark{Place: records.Place{End: 400}}), []Member{MemberOf(&m), {ID: "x", Pinned: true}}}},
		Agents:   []Card{CardOf(&m, []kv.Key{{1}}, Mark{records.Place{End: 300, Sum: 7, Version: 2}, 200}), {Namespace: "a", ID: "b", Groups: 1}},
	}
	c.Families[0].Family, c.Agents[1].Family = FamilyID{1}, FamilyID{2}
	c.Agents[0].DiskBytes, c.Agents[0].Pinned = 1<<40, true
	if got, err := DecodeCatalogue(EncodeCatalogue(c), nil); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, c)
	}
}
