package segments

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

// block is a frame of two tokens, and its bytes: 192 with a payload of 10.
func block(name byte, payloadBytes int) (format.Frame, []byte) {
	f := format.Frame{
		Kind: format.Block, Form: 2, Group: 3, Tokens: []token.ID{7, 0x01020304},
		PayloadBytes: payloadBytes, Key: kv.Key{name}, Parent: kv.Key{31: name - 1},
	}
	b := make([]byte, f.Shape().FrameBytes())
	f.Encode(b, func([]byte) {})
	return f, b
}

// encryptedBlock is the same under a key of zeros whose id is 5.
func encryptedBlock(t *testing.T, name byte, payloadBytes int) (format.Entry, []byte) {
	t.Helper()
	zeros, err := aes.NewCipher(make([]byte, 32))
	must(t, err)
	aead, err := cipher.NewGCM(zeros)
	must(t, err)
	f, _ := block(name, payloadBytes)
	b := make([]byte, f.Shape().Under(format.Encrypted).FrameBytes())
	must(t, f.Encrypt(b, format.Cipher{ID: format.KeyID{5}, AEAD: aead, Random: strings.NewReader(strings.Repeat("n", 24))}, func([]byte) {}))
	e := f.Entry(0)
	e.Cover, e.EncryptedBy = format.Encrypted, format.KeyID{5}
	return e, b
}

func at(e format.Entry, offset int) format.Entry {
	e.Offset = int64(offset)
	return e
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
	return fmt.Sprintf("\n%s%3d bytes", &rows, len(b))
}

// The bytes of both versions: what earlier runs wrote is still what we write.
func TestBytes(t *testing.T) {
	f, _ := block(2, 10)
	e, _ := encryptedBlock(t, 2, 10)
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"segment head", Head(5, "a1", format.Plain), `
  0 4d4e454d455345470100000005000000
 16 f55ff16f66f43360266b95db6f8fec01
 32 d76031054306ae4a4b380598f6cfd114
 48 0000000000000000000000002b39c187
 64 bytes`},
		{"head of a segment with encrypted frames", Head(5, "a1", format.Encrypted), `
  0 4d4e454d455345470200000005000000
 16 f55ff16f66f43360266b95db6f8fec01
 32 d76031054306ae4a4b380598f6cfd114
 48 00000000000000000000000024529e6e
 64 bytes`},
		{"index", EncodeIndex(5, 256, []format.Entry{f.Entry(64)}), `
  0 4d4e454d454944580100000089a4550a
 16 05000000010000000001000000000000
 64 02000000000000000000000000000000
112 00000000000000000000000000000001
128 40000000000000000a00000002000000
144 03000000000000000100000000000000
160 bytes`},
		{"index with an encrypted frame", EncodeIndex(5, 320, []format.Entry{at(e, 64)}), `
  0 4d4e454d45494458020000003c73b5d8
 16 05000000010000004001000000000000
 64 02000000000000000000000000000000
112 00000000000000000000000000000001
128 40000000000000000a00000002000000
144 03000000000000000101050000000000
160 bytes`},
	} {
		if got := dump(c.b); got != c.want {
			t.Errorf("%s:\n got%s\nwant%s", c.name, got, c.want)
		}
	}
}

// Every single bit matters: a changed or cut head or index is damaged.
func TestDamageIsFound(t *testing.T) {
	f, _ := block(2, 10)
	for name, c := range map[string]struct {
		b     []byte
		check func(b []byte) error
	}{
		"segment head": {Head(5, "a1", format.Plain), func(b []byte) error { return checkHead(bytes.NewReader(b), "f", 5, "a1") }},
		"index": {EncodeIndex(5, 256, []format.Entry{f.Entry(64)}), func(b []byte) error {
			_, _, err := DecodeIndex(b, 5, 256)
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

// An intact file of another version is named with both numbers.
func TestOtherVersions(t *testing.T) {
	le := binary.LittleEndian
	head := Head(5, "a1", format.Plain)
	le.PutUint32(head[8:], 7)
	le.PutUint32(head[60:], crc32.Checksum(head[:60], castagnoli))
	var version *format.VersionError
	if err := checkHead(bytes.NewReader(head), "f", 5, "a1"); !errors.As(err, &version) || *version != (format.VersionError{Where: "f", Have: 7, Know: 2}) {
		t.Errorf("segment: %v", err)
	}
	index := EncodeIndex(5, 64, nil)
	le.PutUint32(index[8:], 7)
	le.PutUint32(index[12:], indexSum(index))
	if _, _, err := DecodeIndex(index, 5, 64); fmt.Sprint(err) != "index version 7, this program reads versions 1 and 2" {
		t.Errorf("index: %v", err)
	}
}

// An index whose sums are right but which cannot be of its segment is refused.
func TestIndexMustFitItsSegment(t *testing.T) {
	f, _ := block(2, 10)
	whole := f.Entry(64) // of 192 bytes
	for _, c := range []struct {
		change func(e *format.Entry)
		number uint32
		end    int64
		want   string
	}{
		{func(*format.Entry) {}, 5, 256, "<nil>"},
		{func(*format.Entry) {}, 6, 256, "index of segment 6 with 1 entries in 160 bytes"},
		{func(*format.Entry) {}, 5, 301, "segment has 300 bytes, its index says 301"},
		{func(*format.Entry) {}, 5, 63, "segment has 300 bytes, its index says 63"},
		{func(*format.Entry) {}, 5, 255, "index entry at 64 with 2 tokens and 10 bytes"},
		{func(e *format.Entry) { e.Cover = format.Encrypted }, 5, 256, "index entry at 64 with 2 tokens and 10 bytes"},
		{func(e *format.Entry) { e.Cover = 2 }, 5, 256, "index entry at 64 with 2 tokens and 10 bytes"},
		{func(e *format.Entry) { e.Offset = 0 }, 5, 256, "index entry at 0 with 2 tokens and 10 bytes"},
		{func(e *format.Entry) { e.Offset = -64 }, 5, 256, "index entry at -64 with 2 tokens and 10 bytes"},
		{func(e *format.Entry) { e.Tokens = 1<<16 + 1 }, 5, 256, "index entry at 64 with 65537 tokens and 10 bytes"},
		{func(e *format.Entry) { e.PayloadBytes = 1<<30 + 1 }, 5, 256, "index entry at 64 with 2 tokens and 1073741825 bytes"},
	} {
		e := whole
		c.change(&e)
		entries, end, err := DecodeIndex(EncodeIndex(c.number, c.end, []format.Entry{e}), 5, 300)
		if fmt.Sprint(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if err == nil && (end != 256 || !slices.Equal(entries, []format.Entry{whole})) {
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
	segment := slices.Concat(Head(1, "a1", format.Plain), aBytes, make([]byte, 128), bBytes, cBytes, dBytes[:150])
	got, err := scan(bytes.NewReader(segment), int64(len(segment)))
	want := scanned{Entries: []format.Entry{a.Entry(64), c.Entry(64 + 192 + 128 + 192)}, End: int64(len(segment) - 150), Damaged: 1}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	if _, err := scan(bytes.NewReader(segment), int64(len(segment)+1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that shrinks: %v", err)
	}
}

// A segment of plain and encrypted frames is scanned without a key; its index says
// which are which.
func TestScanOfBothVersions(t *testing.T) {
	a, aBytes := block('a', 10)
	b, bBytes := encryptedBlock(t, 'b', 100)
	_, cBytes := encryptedBlock(t, 'c', 10)
	cBytes[130]++
	segment := slices.Concat(Head(1, "a1", format.Encrypted), aBytes, bBytes, cBytes, aBytes)
	want := scanned{[]format.Entry{a.Entry(64), at(b, 64+192), a.Entry(int64(len(segment) - 192))}, int64(len(segment)), 1}
	got, err := scan(bytes.NewReader(segment), int64(len(segment)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	must(t, checkHead(bytes.NewReader(segment), "f", 1, "a1"))
	entries, _, err := DecodeIndex(EncodeIndex(1, want.End, want.Entries), 1, want.End)
	if err != nil || !slices.Equal(entries, want.Entries) {
		t.Errorf("index: %v\n%+v", err, entries)
	}
}

// Bytes nobody wrote are an error, never a panic.
func FuzzDecoders(f *testing.F) {
	fr, frame := block(2, 10)
	f.Add(EncodeIndex(1, 1000, []format.Entry{fr.Entry(64)}))
	f.Add(slices.Concat(Head(1, "a1", format.Plain), frame))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = DecodeIndex(b, 1, int64(len(b)))
		found, err := scan(bytes.NewReader(b), int64(len(b)))
		if err != nil || found.End > max(format.SegmentHeadBytes, int64(len(b))) {
			t.Errorf("scan of %d bytes ends at %d: %v", len(b), found.End, err)
		}
	})
}
