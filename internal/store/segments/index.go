package segments

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"mneme/internal/kv"
	"mneme/internal/store/format"
)

// The index of a closed segment is a head of 64 bytes and one entry per frame,
// holes and what was forgotten aside:
//
//	 0  magic "MNEMEIDX"              entry:  0  key      32
//	 8  version      u32                     32  parent   32
//	12  sum          u32 crc32c of           64  offset   u64
//	       [0,12) and [16,end)               72  payload  u32
//	16  number       u32                     76  tokens   u32
//	20  entries      u32                     80  group    u32
//	24  end          u64 of the frames       84  used     u32  seconds since 1970
//	32  zeros        32                      88  kind     u8
//	                                         89  cover    u8
//	                                         90  key id   6
//
// Version 2 is of a segment with encrypted frames; in version 1 zeros are where it
// has cover and key id.
const (
	indexMagic      = "MNEMEIDX"
	indexHeadBytes  = 64
	indexEntryBytes = 96
)

// EncodeIndex is the index file of a segment whose whole frames end at end.
func EncodeIndex(number uint32, end int64, entries []format.Entry) []byte {
	le := binary.LittleEndian
	b := make([]byte, indexHeadBytes, indexHeadBytes+len(entries)*indexEntryBytes)
	copy(b, indexMagic)
	le.PutUint32(b[8:], versionOf(coverOf(entries)))
	le.PutUint32(b[16:], number)
	le.PutUint32(b[20:], uint32(len(entries)))
	le.PutUint64(b[24:], uint64(end))
	for _, e := range entries {
		b = appendEntry(b, e)
	}
	le.PutUint32(b[12:], indexSum(b))
	return b
}

func appendEntry(b []byte, e format.Entry) []byte {
	le := binary.LittleEndian
	b = append(b, e.ID.Key[:]...)
	b = append(b, e.Parent[:]...)
	b = le.AppendUint64(b, uint64(e.Offset))
	for _, v := range []uint32{uint32(e.PayloadBytes), uint32(e.Tokens), uint32(e.ID.Group), e.Used} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, byte(e.Kind), byte(e.Cover))
	return append(b, e.EncryptedBy[:]...)
}

// DecodeIndex reads an index and checks that it fits a segment of that number
// and size. Any error means: scan the segment instead.
func DecodeIndex(b []byte, number uint32, segmentBytes int64) (entries []format.Entry, end int64, err error) {
	if err := checkIndexHead(b, number); err != nil {
		return nil, 0, err
	}
	end = int64(binary.LittleEndian.Uint64(b[24:]))
	if end < format.SegmentHeadBytes || end > segmentBytes {
		return nil, 0, fmt.Errorf("segment has %d bytes, its index says %d", segmentBytes, end)
	}
	for b = b[indexHeadBytes:]; len(b) > 0; b = b[indexEntryBytes:] {
		e := decodeEntry(b)
		if !e.Fits(e.Offset, end) {
			return nil, 0, fmt.Errorf("index entry at %d with %d tokens and %d bytes", e.Offset, e.Tokens, e.PayloadBytes)
		}
		entries = append(entries, e)
	}
	return entries, end, nil
}

func indexSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
}

func checkIndexHead(b []byte, number uint32) error {
	le := binary.LittleEndian
	if len(b) < indexHeadBytes || string(b[:8]) != indexMagic {
		return fmt.Errorf("no index in %d bytes", len(b))
	}
	if have, want := indexSum(b), le.Uint32(b[12:]); have != want {
		return fmt.Errorf("index sums to %08x, written was %08x", have, want)
	}
	if v := le.Uint32(b[8:]); v != plainVersion && v != encryptedVersion {
		return fmt.Errorf("index version %d, this program reads versions 1 and 2", v)
	}
	count := int64(le.Uint32(b[20:]))
	if int64(len(b)) != indexHeadBytes+count*indexEntryBytes || le.Uint32(b[16:]) != number {
		return fmt.Errorf("index of segment %d with %d entries in %d bytes", le.Uint32(b[16:]), count, len(b))
	}
	return nil
}

func decodeEntry(b []byte) format.Entry {
	le := binary.LittleEndian
	return format.Entry{
		Kind: format.Kind(b[88]), ID: format.BlockID{Key: kv.Key(b[:32]), Group: int(le.Uint32(b[80:]))}, Parent: kv.Key(b[32:64]),
		Offset: int64(le.Uint64(b[64:])), Used: le.Uint32(b[84:]),
		Shape:       format.Shape{Tokens: int(le.Uint32(b[76:])), PayloadBytes: int(le.Uint32(b[72:])), Cover: format.Cover(b[89])},
		EncryptedBy: format.KeyID(b[90:indexEntryBytes]),
	}
}
