package format

import (
	"encoding/binary"
	"fmt"

	"mneme/internal/kv"
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
//	32  zeros        32                      88  kind     u8, zeros 7
const (
	indexMagic      = "MNEMEIDX"
	indexVersion    = 1
	indexHeadBytes  = 64
	indexEntryBytes = 96
)

// Entry is a frame as its segment's index lists it.
type Entry struct {
	Kind   Kind
	ID     BlockID
	Parent kv.Key
	Offset int64
	Used   uint32 // seconds since 1970 when it was last read or written, about; 0 unknown
	Shape
}

// Entry lists the frame at an offset.
func (f Frame) Entry(at int64) Entry {
	return Entry{Kind: f.Kind, ID: f.ID(), Parent: f.Parent, Offset: at, Shape: f.Shape()}
}

// End is the offset after the frame.
func (e Entry) End() int64 { return e.Offset + e.FrameBytes() }

// EncodeIndex is the index file of a segment whose whole frames end at end.
func EncodeIndex(number uint32, end int64, entries []Entry) []byte {
	le := binary.LittleEndian
	b := make([]byte, indexHeadBytes, indexHeadBytes+len(entries)*indexEntryBytes)
	copy(b, indexMagic)
	le.PutUint32(b[8:], indexVersion)
	le.PutUint32(b[16:], number)
	le.PutUint32(b[20:], uint32(len(entries)))
	le.PutUint64(b[24:], uint64(end))
	for _, e := range entries {
		b = appendEntry(b, e)
	}
	le.PutUint32(b[12:], fileSum(b))
	return b
}

func appendEntry(b []byte, e Entry) []byte {
	le := binary.LittleEndian
	b = append(b, e.ID.Key[:]...)
	b = append(b, e.Parent[:]...)
	b = le.AppendUint64(b, uint64(e.Offset))
	for _, v := range []uint32{uint32(e.PayloadBytes), uint32(e.Tokens), uint32(e.ID.Group), e.Used} {
		b = le.AppendUint32(b, v)
	}
	return append(b, byte(e.Kind), 0, 0, 0, 0, 0, 0, 0)
}

// DecodeIndex reads an index and checks that it fits a segment of that number
// and size. Any error means: scan the segment instead.
func DecodeIndex(b []byte, number uint32, segmentBytes int64) (entries []Entry, end int64, err error) {
	if err := checkIndexHead(b, number); err != nil {
		return nil, 0, err
	}
	end = int64(binary.LittleEndian.Uint64(b[24:]))
	if end < SegmentHeadBytes || end > segmentBytes {
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

func checkIndexHead(b []byte, number uint32) error {
	le := binary.LittleEndian
	if len(b) < indexHeadBytes || string(b[:8]) != indexMagic {
		return fmt.Errorf("no index in %d bytes", len(b))
	}
	if have, want := fileSum(b), le.Uint32(b[12:]); have != want {
		return fmt.Errorf("index sums to %08x, written was %08x", have, want)
	}
	if v := le.Uint32(b[8:]); v != indexVersion {
		return fmt.Errorf("index version %d, this program reads version %d", v, indexVersion)
	}
	count := int64(le.Uint32(b[20:]))
	if int64(len(b)) != indexHeadBytes+count*indexEntryBytes || le.Uint32(b[16:]) != number {
		return fmt.Errorf("index of segment %d with %d entries in %d bytes", le.Uint32(b[16:]), count, len(b))
	}
	return nil
}

func decodeEntry(b []byte) Entry {
	le := binary.LittleEndian
	return Entry{
		Kind: Kind(b[88]), ID: BlockID{kv.Key(b[:32]), int(le.Uint32(b[80:]))}, Parent: kv.Key(b[32:64]),
		Offset: int64(le.Uint64(b[64:])), Used: le.Uint32(b[84:]),
		Shape: Shape{Tokens: int(le.Uint32(b[76:])), PayloadBytes: int(le.Uint32(b[72:]))},
	}
}
