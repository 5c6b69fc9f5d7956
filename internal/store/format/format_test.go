package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mneme/internal/kv"
	"mneme/internal/quant"
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
	file, at := NewJournal(&first, []kv.Key{{6}})
	all := []Manifest{first, second, third}
	for i := range all[1:] {
		record, next, _ := at.AppendTurn(&all[i], &all[i+1])
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

// The bytes of version 1: what earlier runs wrote is still what we write.
func TestBytes(t *testing.T) {
	f, frame := block(2, 10)
	m := manifest()
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"segment head", SegmentHead(5, "a1"), `
  0 4d4e454d455345470100000005000000
 16 f55ff16f66f43360266b95db6f8fec01
 32 d76031054306ae4a4b380598f6cfd114
 48 0000000000000000000000002b39c187
 64 bytes`},
		{"frame", frame, `
  0 4d4b5646010001020300000002000000
 16 0a000000000000000200000000000000
 80 0000000000000001ef500f1eb98b146d
 96 07000000040302010000000000000000
128 0102030405060708090a000000000000
192 bytes`},
		{"index", EncodeIndex(5, 256, []Entry{f.Entry(64)}), `
  0 4d4e454d454944580100000089a4550a
 16 05000000010000000001000000000000
 64 02000000000000000000000000000000
112 00000000000000000000000000000001
128 40000000000000000a00000002000000
144 03000000000000000100000000000000
160 bytes`},
		{"manifest", EncodeManifest(&m), `
  0 4d4e454d454d414e01000000d5aa1035
 16 9100000000000000047465616d036164
 32 610474696e7903657665026d30026131
 48 8cc8b1c9c3bce586318cc8f6d4898ee7
 64 86310305ac020601040e090101030802
 80 01010473746f708cc8b1c9c3bce58631
 96 01aa0000000000000000000000000000
128 bb02020401cc00000000000000000000
160 00000000dd01010164
169 bytes`},
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
		"segment head": {SegmentHead(5, "a1"), func(b []byte) error { return CheckSegmentHead(bytes.NewReader(b), "f", 5, "a1") }},
		"index": {EncodeIndex(5, 256, []Entry{f.Entry(64)}), func(b []byte) error {
			_, _, err := DecodeIndex(b, 5, 256)
			return err
		}},
		"manifest": {EncodeManifest(&m), func(b []byte) error {
			_, err := DecodeManifest(b, "f")
			return err
		}},
		"catalogue": {EncodeCatalogue([]Card{CardOf(&m, nil, Mark{})}), func(b []byte) error {
			_, err := DecodeCatalogue(b)
			return err
		}},
		"journal": {file, func(b []byte) error {
			j, err := ReadJournal(b, "f")
			if err == nil && (j.Rest > 0 || j.Turns != 2) {
				err = errors.New("not whole")
			}
			return err
		}},
		"frame": {frame[:128+10], func(b []byte) error {
			_, err := wanted(f).Read(bytes.NewReader(b), 0, f.Shape(), make([]byte, 10))
			return err
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

func TestReadComparesWhatItAsksFor(t *testing.T) {
	f, frame := block(2, 10)
	for _, c := range []struct {
		change func(w *Wanted)
		noted  Shape
		length int
		want   string
	}{
		{func(*Wanted) {}, Shape{2, 10}, 10, "<nil>"},
		{func(w *Wanted) { w.Tokens, w.AnyTokens = nil, true }, Shape{2, 10}, 10, "<nil>"},
		{func(w *Wanted) { w.Kind = Tail }, Shape{2, 10}, 10, "frame of kind 1 instead of 2"},
		{func(w *Wanted) { w.Key = kv.Key{9} }, Shape{2, 10}, 10, "key " + f.Key.String() + " instead of " + kv.Key{9}.String()},
		{func(w *Wanted) { w.Group = 1 }, Shape{2, 10}, 10, "group 3 instead of 1"},
		{func(w *Wanted) { w.Tokens = []token.ID{7, 8} }, Shape{2, 10}, 10, "its 2 tokens are not the 2 expected"},
		{func(*Wanted) {}, Shape{2, 10}, 9, "payload of 10 bytes, 9 expected"},
		{func(*Wanted) {}, Shape{2, 11}, 11, "payload of 10 bytes instead of 11"},
		{func(*Wanted) {}, Shape{200, 10}, 10, "192 of 896 bytes at 0: unexpected EOF"},
	} {
		w := wanted(f)
		c.change(&w)
		dst := make([]byte, c.length)
		sum, err := w.Read(bytes.NewReader(frame), 0, c.noted, dst)
		if fmt.Sprint(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if err == nil && (sum != f.Encode(bytes.Clone(frame), count) || !bytes.Equal(dst, frame[128:138])) {
			t.Errorf("read %x with sum %08x", dst, sum)
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
	head := SegmentHead(5, "a1")
	le.PutUint32(head[8:], 7)
	le.PutUint32(head[60:], sum(head[:60]))
	for _, err := range []error{manifestErr, CheckSegmentHead(bytes.NewReader(head), "f", 5, "a1")} {
		var version *VersionError
		if !errors.As(err, &version) || *version != (VersionError{"f", 7, 1}) {
			t.Errorf("version 7: %v", err)
		}
	}
	if _, _, err := DecodeIndex(resum(EncodeIndex(5, 64, nil)), 5, 64); fmt.Sprint(err) != "index version 7, this program reads version 1" {
		t.Errorf("index: %v", err)
	}
	f, frame := block(2, 10)
	le.PutUint16(frame[4:], 7)
	le.PutUint32(frame[sumsAt:], sumHead(frame[:128]))
	_, err := wanted(f).Read(bytes.NewReader(frame), 0, f.Shape(), make([]byte, 10))
	if fmt.Sprint(err) != "frame version 7, this program reads version 1" {
		t.Errorf("frame: %v", err)
	}
}

// An index whose sums are right but which cannot be of its segment is refused.
func TestIndexMustFitItsSegment(t *testing.T) {
	whole := Entry{Kind: Block, Offset: 64, Shape: Shape{2, 10}} // of 192 bytes
	for _, c := range []struct {
		change func(e *Entry)
		number uint32
		end    int64
		want   string
	}{
		{func(*Entry) {}, 5, 256, "<nil>"},
		{func(*Entry) {}, 6, 256, "index of segment 6 with 1 entries in 160 bytes"},
		{func(*Entry) {}, 5, 301, "segment has 300 bytes, its index says 301"},
		{func(*Entry) {}, 5, 63, "segment has 300 bytes, its index says 63"},
		{func(*Entry) {}, 5, 255, "index entry at 64 with 2 tokens and 10 bytes"},
		{func(e *Entry) { e.Offset = 0 }, 5, 256, "index entry at 0 with 2 tokens and 10 bytes"},
		{func(e *Entry) { e.Offset = -64 }, 5, 256, "index entry at -64 with 2 tokens and 10 bytes"},
		{func(e *Entry) { e.Tokens = 1<<16 + 1 }, 5, 256, "index entry at 64 with 65537 tokens and 10 bytes"},
		{func(e *Entry) { e.PayloadBytes = 1<<30 + 1 }, 5, 256, "index entry at 64 with 2 tokens and 1073741825 bytes"},
	} {
		e := whole
		c.change(&e)
		entries, end, err := DecodeIndex(EncodeIndex(c.number, c.end, []Entry{e}), 5, 300)
		if fmt.Sprint(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if err == nil && (end != 256 || !slices.Equal(entries, []Entry{whole})) {
			t.Errorf("entries %v up to %d", entries, end)
		}
	}
}

// a, 128 bytes that are no frame, a broken b, c larger than the window, a torn d
func TestScan(t *testing.T) {
	a, aBytes := block('a', 10)
	_, bBytes := block('b', 10)
	c, cBytes := block('c', windowBytes+1)
	_, dBytes := block('d', 10)
	bBytes[130]++
	segment := slices.Concat(SegmentHead(1, "a1"), aBytes, make([]byte, 128), bBytes, cBytes, dBytes[:150])
	got, err := Scan(bytes.NewReader(segment), int64(len(segment)))
	want := Scanned{Entries: []Entry{a.Entry(64), c.Entry(64 + 192 + 128 + 192)}, End: int64(len(segment) - 150), Damaged: 1}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	if _, err := Scan(bytes.NewReader(segment), int64(len(segment)+1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that shrinks: %v", err)
	}
}

// Bytes nobody wrote are an error, never a panic.
func FuzzDecoders(f *testing.F) {
	m := manifest()
	fr, frame := block(2, 10)
	f.Add(EncodeManifest(&m))
	f.Add(EncodeCatalogue([]Card{CardOf(&m, nil, Mark{})}))
	data, _ := journal()
	f.Add(data)
	f.Add(EncodeIndex(1, 1000, []Entry{fr.Entry(64)}))
	f.Add(slices.Concat(SegmentHead(1, "a1"), frame))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeManifest(b, "f"); err == nil && string(EncodeManifest(&m)) != string(b) {
			again, err := DecodeManifest(EncodeManifest(&m), "f")
			if err != nil || len(again.Tokens) != len(m.Tokens) {
				t.Errorf("manifest changes when written again: %v", err)
			}
		}
		if j, err := ReadJournal(b, "f"); err == nil && (j.End > int64(len(b)) || j.Rest != len(b)-int(j.End)) {
			t.Errorf("journal of %d bytes ends at %d", len(b), j.End)
		}
		_, _ = DecodeCatalogue(b)
		_, _, _ = Parse(b)
		_, _ = FrameBytesAt(bytes.NewReader(b), 0, int64(len(b)))
		d := decoder{rest: b}
		d.manifest()
		d = decoder{rest: b}
		d.turnAfter(m)
		_, _, _ = DecodeIndex(b, 1, int64(len(b)))
		found, err := Scan(bytes.NewReader(b), int64(len(b)))
		if err != nil || found.End > max(SegmentHeadBytes, int64(len(b))) {
			t.Errorf("scan of %d bytes ends at %d: %v", len(b), found.End, err)
		}
	})
}

// A journal read up to the end of each record gives the turn of that time, and
// what was named before and is not any more.
func TestJournalIsReadBack(t *testing.T) {
	file, turns := journal()
	whole, err := ReadJournal(file, "f")
	if err != nil || !reflect.DeepEqual(whole.Manifest, turns[2]) || whole.Rest != 0 {
		t.Errorf("%v\n got %+v\nwant %+v", err, whole.Manifest, turns[2])
	}
	if got, want := whole.Former, []kv.Key{{6}, turns[1].Keys[0], {7}}; !slices.Equal(got, want) {
		t.Errorf("former keys %v, want %v", got, want)
	}
	seen := map[int]bool{}
	for cut := whole.SnapshotBytes; cut <= whole.End; cut++ {
		j, err := ReadJournal(file[:cut], "f")
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
	if _, _, ok := whole.AppendTurn(&turns[2], &other); ok {
		t.Error("a turn record cannot say that the model changes")
	}
}

func TestCatalogueIsReadBack(t *testing.T) {
	m := manifest()
	cards := []Card{CardOf(&m, []kv.Key{{1}}, Mark{300, 200, 7}), {Namespace: "a", ID: "b", Groups: 1}}
	cards[0].DiskBytes = 1 << 40
	if got, err := DecodeCatalogue(EncodeCatalogue(cards)); err != nil || !reflect.DeepEqual(got, cards) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, cards)
	}
}
