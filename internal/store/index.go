package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"mneme/internal/kv"
)

// The index of a closed segment is a head of 64 bytes and one entry per frame:
//
//	 0  magic "MNEMEIDX"              entry:  0  key      32
//	 8  version      u32                     32  offset   u64
//	12  sum          u32 crc32c of           40  payload  u32
//	       [0,12) and [16,end)               44  tokens   u32
//	16  number       u32                     48  group    u32
//	20  entries      u32                     52  kind     u8
//	24  end          u64 of the frames       53  zeros     3
//	32  zeros        32
const (
	indexMagic      = "MNEMEIDX"
	indexVersion    = 1
	indexHeadBytes  = 64
	indexEntryBytes = 56
)

// encodeIndex is the index file of a segment whose whole frames end at end.
func encodeIndex(number uint32, end int64, entries []entry) []byte {
	le := binary.LittleEndian
	b := make([]byte, indexHeadBytes, indexHeadBytes+len(entries)*indexEntryBytes)
	copy(b, indexMagic)
	le.PutUint32(b[8:], indexVersion)
	le.PutUint32(b[16:], number)
	le.PutUint32(b[20:], uint32(len(entries)))
	le.PutUint64(b[24:], uint64(end))
	for _, e := range entries {
		b = append(b, e.id.key[:]...)
		b = le.AppendUint64(b, uint64(e.at))
		b = le.AppendUint32(b, uint32(e.payloadBytes))
		b = le.AppendUint32(b, uint32(e.tokens))
		b = le.AppendUint32(b, uint32(e.id.group))
		b = append(b, byte(e.kind), 0, 0, 0)
	}
	le.PutUint32(b[12:], fileSum(b))
	return b
}

// fileSum is crc32c over a file that keeps its sum at [12,16).
func fileSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
}

// decodeIndex reads an index and checks that it fits a segment of that number
// and size. Any error means: scan the segment instead.
func decodeIndex(b []byte, number uint32, segmentBytes int64) (entries []entry, end int64, err error) {
	le := binary.LittleEndian
	if len(b) < indexHeadBytes || string(b[:8]) != indexMagic {
		return nil, 0, fmt.Errorf("no index in %d bytes", len(b))
	}
	if sum := fileSum(b); sum != le.Uint32(b[12:]) {
		return nil, 0, fmt.Errorf("index sums to %08x, written was %08x", sum, le.Uint32(b[12:]))
	}
	if v := le.Uint32(b[8:]); v != indexVersion {
		return nil, 0, fmt.Errorf("index version %d, this program reads version %d", v, indexVersion)
	}
	count, end := int64(le.Uint32(b[20:])), int64(le.Uint64(b[24:]))
	if int64(len(b)) != indexHeadBytes+count*indexEntryBytes || le.Uint32(b[16:]) != number {
		return nil, 0, fmt.Errorf("index of segment %d with %d entries in %d bytes", le.Uint32(b[16:]), count, len(b))
	}
	if end < segmentHeadBytes || end > segmentBytes {
		return nil, 0, fmt.Errorf("segment has %d bytes, its index says %d", segmentBytes, end)
	}
	for b = b[indexHeadBytes:]; len(b) > 0; b = b[indexEntryBytes:] {
		e := decodeEntry(b)
		if e.tokens > maxFrameTokens || e.payloadBytes > maxPayloadBytes || e.at < segmentHeadBytes || e.at > end-e.frameBytes() {
			return nil, 0, fmt.Errorf("index entry at %d with %d tokens and %d bytes", e.at, e.tokens, e.payloadBytes)
		}
		entries = append(entries, e)
	}
	return entries, end, nil
}

func decodeEntry(b []byte) entry {
	le := binary.LittleEndian
	return entry{
		kind: frameKind(b[52]),
		id:   blockID{kv.Key(b[:32]), int(le.Uint32(b[48:]))},
		at:   int64(le.Uint64(b[32:])),
		shape: shape{
			tokens: int(le.Uint32(b[44:])), payloadBytes: int(le.Uint32(b[40:])),
		},
	}
}
