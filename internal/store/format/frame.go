package format

import (
	"encoding/binary"
	"fmt"

	"mneme/internal/kv"
	"mneme/internal/quant"
	"mneme/internal/token"
)

// A frame, little endian; offsets in bytes:
//
//	 0  magic "MKVF"
//	 4  version      u16  1 plain, 2 encrypted (encrypt.go)
//	 6  kind         u8   1 block, 2 tail
//	 7  form         u8   number format of the payload
//	 8  group        u32
//	12  tokens       u32  n
//	16  payload      u64  bytes
//	24  key          32
//	56  parent key   32
//	88  head sum     u32  crc32c of [0,88) and [96,head)
//	92  frame sum    u32  the same sum, continued over the payload
//	96  token ids    n * u32, zeros up to a multiple of 64: here the head ends
//	head  payload, zeros up to a multiple of 64 (these are in no sum)
const (
	frameMagic = "MKVF"
	sumsAt     = 88

	maxTokens = 1 << 16

	// AlignBytes is what frames, and the parts of one, begin at a multiple of.
	AlignBytes = 64
	// FixedBytes is what a frame has before its token ids, whatever its version.
	FixedBytes = 96
	// SegmentHeadBytes is where a segment's first frame begins.
	SegmentHeadBytes = 64
	// MaxPayloadBytes is the largest payload a frame can have.
	MaxPayloadBytes = 1 << 30
)

// Kind is what a frame holds.
type Kind uint8

const (
	Block Kind = 1 // a sealed block, found by its key and group
	Tail  Kind = 2 // an unfinished block, found likewise
)

// Frame is what a frame's head says.
type Frame struct {
	Kind         Kind
	Form         quant.KVForm
	Group        int
	Tokens       []token.ID
	PayloadBytes int
	Key, Parent  kv.Key
}

// BlockID is what a block is found by.
type BlockID struct {
	Key   kv.Key
	Group int
}

// ID identifies the frame's block or tail.
func (f Frame) ID() BlockID { return BlockID{f.Key, f.Group} }

// Cover is how a frame's token ids and payload lie on disk.
type Cover uint8

const (
	Plain     Cover = 0 // frames of version 1
	Encrypted Cover = 1 // frames of version 2
)

// Entry is a frame as its segment's index lists it.
type Entry struct {
	Kind   Kind
	ID     BlockID
	Parent kv.Key
	Offset int64
	Used   uint32 // seconds since 1970 when it was last read or written, about; 0 unknown
	Shape
	EncryptedBy KeyID // with Shape.Cover
}

// Entry lists the frame at an offset.
func (f Frame) Entry(at int64) Entry {
	return Entry{Kind: f.Kind, ID: f.ID(), Parent: f.Parent, Offset: at, Shape: f.Shape()}
}

// End is the offset after the frame.
func (e Entry) End() int64 { return e.Offset + e.FrameBytes() }

// Shape is what is needed to find the parts of a frame.
type Shape struct {
	Tokens, PayloadBytes int
	Cover                Cover
}

// Shape is the frame's, plain.
func (f Frame) Shape() Shape { return Shape{Tokens: len(f.Tokens), PayloadBytes: f.PayloadBytes} }

// Under is the same under another cover.
func (s Shape) Under(c Cover) Shape {
	s.Cover = c
	return s
}

// FrameBytes is the size of the whole frame, padding included.
func (s Shape) FrameBytes() int64 { return int64(s.HeadBytes() + align(s.bodyBytes())) }

// Fits tells whether such a frame can lie at an offset of a segment that ends at end.
func (s Shape) Fits(at, end int64) bool {
	return s.Tokens <= maxTokens && s.PayloadBytes <= MaxPayloadBytes && s.Cover <= Encrypted &&
		at >= SegmentHeadBytes && at <= end-s.FrameBytes()
}

// HeadBytes is where the payload begins.
func (s Shape) HeadBytes() int {
	if s.Cover == Encrypted {
		return align(idsAt + 4*s.Tokens + tagBytes)
	}
	return align(FixedBytes + 4*s.Tokens)
}

// bodyBytes is what the payload takes, without padding.
func (s Shape) bodyBytes() int {
	if s.Cover == Encrypted {
		return s.PayloadBytes + tagBytes
	}
	return s.PayloadBytes
}

// split cuts a whole frame into its head and its payload without padding.
func (s Shape) split(b []byte) (head, body []byte) {
	n := s.HeadBytes()
	return b[:n:n], b[n : n+s.bodyBytes() : n+s.bodyBytes()]
}

func align(n int) int { return (n + AlignBytes - 1) &^ (AlignBytes - 1) }

// Parse reads a whole plain frame and checks its sums; the payload is part of b.
func Parse(b []byte) (f Frame, payload []byte, err error) {
	e, err := CheckFrame(b)
	if err != nil {
		return Frame{}, nil, err
	}
	if e.Cover != Plain {
		return Frame{}, nil, fmt.Errorf("frame version %d, which is encrypted, instead of 1", version(e.Cover))
	}
	head, payload := e.split(b)
	return e.frame(head, head[FixedBytes:]), payload, nil
}

// CheckFrame checks the sums of a whole frame and says what it is, at offset 0. It
// needs no key.
func CheckFrame(b []byte) (Entry, error) {
	if len(b) < FixedBytes {
		return Entry{}, fmt.Errorf("frame of %d bytes", len(b))
	}
	sh, err := ParseShape(b)
	if err != nil {
		return Entry{}, err
	}
	if int64(len(b)) != sh.FrameBytes() {
		return Entry{}, fmt.Errorf("frame of %d bytes in %d", sh.FrameBytes(), len(b))
	}
	head, body := sh.split(b)
	e, err := ParseHead(head)
	if err != nil {
		return Entry{}, err
	}
	return e, checkBody(head, body)
}

// frame is what the head of an entry says, with its token ids.
func (e Entry) frame(head, ids []byte) Frame {
	f := Frame{
		Kind: e.Kind, Form: quant.KVForm(head[7]), Group: e.ID.Group, PayloadBytes: e.PayloadBytes,
		Key: e.ID.Key, Parent: e.Parent, Tokens: make([]token.ID, e.Tokens),
	}
	for i := range f.Tokens {
		f.Tokens[i] = idAt(ids, i)
	}
	return f
}

func idAt(ids []byte, i int) token.ID { return token.ID(binary.LittleEndian.Uint32(ids[4*i:])) }

// Encode fills b, of the frame's size, with the frame; fill writes the payload.
func (f Frame) Encode(b []byte, fill func(dst []byte)) {
	head, payload := f.Shape().split(b)
	clear(head)
	clear(b[len(head)+len(payload):])
	fill(payload)
	f.encodeHead(head, Plain)
	f.encodeIDs(head[FixedBytes:])
	putSums(head, payload)
}

// encodeHead writes all but ids and sums into zeros.
func (f Frame) encodeHead(b []byte, c Cover) {
	le := binary.LittleEndian
	copy(b, frameMagic)
	le.PutUint16(b[4:], version(c))
	b[6], b[7] = byte(f.Kind), byte(f.Form)
	le.PutUint32(b[8:], uint32(f.Group))
	le.PutUint32(b[12:], uint32(len(f.Tokens)))
	le.PutUint64(b[16:], uint64(f.PayloadBytes))
	copy(b[24:], f.Key[:])
	copy(b[56:], f.Parent[:])
}

func (f Frame) encodeIDs(b []byte) {
	for i, id := range f.Tokens {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(id))
	}
}

func version(c Cover) uint16 { return 1 + uint16(c) }

// ParseShape reads version and sizes from a frame's first FixedBytes. They are
// within bounds but not yet known to be true: the head sum decides.
func ParseShape(b []byte) (Shape, error) {
	if string(b[:4]) != frameMagic {
		return Shape{}, fmt.Errorf("magic %q instead of %q", b[:4], frameMagic)
	}
	le := binary.LittleEndian
	v, tokens, payload := le.Uint16(b[4:]), le.Uint32(b[12:]), le.Uint64(b[16:])
	switch {
	case v != version(Plain) && v != version(Encrypted):
		return Shape{}, fmt.Errorf("frame version %d, this program reads versions %d and %d", v, version(Plain), version(Encrypted))
	case tokens > maxTokens || payload > MaxPayloadBytes:
		return Shape{}, fmt.Errorf("frame of %d tokens and %d bytes", tokens, payload)
	}
	return Shape{int(tokens), int(payload), Cover(v - version(Plain))}, nil
}

// ParseHead reads a head of exactly the size its shape says, and checks its sum.
func ParseHead(head []byte) (Entry, error) {
	sh, err := ParseShape(head)
	if err != nil {
		return Entry{}, err
	}
	le := binary.LittleEndian
	if sh.HeadBytes() != len(head) {
		return Entry{}, fmt.Errorf("head of %d bytes instead of %d", sh.HeadBytes(), len(head))
	}
	if have, want := sumHead(head), le.Uint32(head[sumsAt:]); have != want {
		return Entry{}, fmt.Errorf("head sums to %08x, written was %08x", have, want)
	}
	e := Entry{
		Kind: Kind(head[6]), ID: BlockID{kv.Key(head[24:56]), int(le.Uint32(head[8:]))}, Parent: kv.Key(head[56:88]), Shape: sh,
	}
	if sh.Cover == Encrypted {
		e.EncryptedBy = KeyID(head[keyAt:keyEnd])
	}
	return e, nil
}

func sumHead(head []byte) uint32 { return sum(head[:sumsAt], head[FixedBytes:]) }

func sumFrame(head, body []byte) uint32 { return sum(head[:sumsAt], head[FixedBytes:], body) }

func putSums(head, body []byte) {
	binary.LittleEndian.PutUint32(head[sumsAt:], sumHead(head))
	binary.LittleEndian.PutUint32(head[sumsAt+4:], sumFrame(head, body))
}

func checkBody(head, body []byte) error {
	have, want := sumFrame(head, body), binary.LittleEndian.Uint32(head[sumsAt+4:])
	if have != want {
		return fmt.Errorf("frame sums to %08x, written was %08x", have, want)
	}
	return nil
}
