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
//	 4  version      u16
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
	frameMagic   = "MKVF"
	frameVersion = 1
	fixedBytes   = 96
	sumsAt       = 88
	alignBytes   = 64

	maxTokens = 1 << 16

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

// Shape is what is needed to find the parts of a frame.
type Shape struct{ Tokens, PayloadBytes int }

// Shape is the frame's.
func (f Frame) Shape() Shape { return Shape{len(f.Tokens), f.PayloadBytes} }

// FrameBytes is the size of the whole frame, padding included.
func (s Shape) FrameBytes() int64 { return int64(s.headBytes() + align(s.PayloadBytes)) }

// Fits tells whether such a frame can lie at an offset of a segment that ends at end.
func (s Shape) Fits(at, end int64) bool {
	return s.Tokens <= maxTokens && s.PayloadBytes <= MaxPayloadBytes && at >= SegmentHeadBytes && at <= end-s.FrameBytes()
}

func (s Shape) headBytes() int { return align(fixedBytes + 4*s.Tokens) }

func align(n int) int { return (n + alignBytes - 1) &^ (alignBytes - 1) }

// Parse reads a whole frame and checks its sums; the payload is part of b.
func Parse(b []byte) (f Frame, payload []byte, err error) {
	if len(b) < fixedBytes {
		return Frame{}, nil, fmt.Errorf("frame of %d bytes", len(b))
	}
	sh, err := parseShape(b)
	if err != nil {
		return Frame{}, nil, err
	}
	if int64(len(b)) != sh.FrameBytes() {
		return Frame{}, nil, fmt.Errorf("frame of %d bytes in %d", sh.FrameBytes(), len(b))
	}
	if f, err = parseHead(b[:sh.headBytes()]); err != nil {
		return Frame{}, nil, err
	}
	head, payload := f.split(b)
	return f, payload, checkPayload(head, payload)
}

// Encode fills b, of the frame's size, and returns the frame sum; fill writes
// the payload.
func (f Frame) Encode(b []byte, fill func(dst []byte)) (frameSum uint32) {
	head, payload := f.split(b)
	clear(head)
	clear(b[len(head)+len(payload):])
	fill(payload)
	f.encodeHead(head)
	frameSum = sumFrame(head, payload)
	binary.LittleEndian.PutUint32(head[sumsAt:], sumHead(head))
	binary.LittleEndian.PutUint32(head[sumsAt+4:], frameSum)
	return frameSum
}

// encodeHead writes all but the sums into zeros.
func (f Frame) encodeHead(b []byte) {
	le := binary.LittleEndian
	copy(b, frameMagic)
	le.PutUint16(b[4:], frameVersion)
	b[6], b[7] = byte(f.Kind), byte(f.Form)
	le.PutUint32(b[8:], uint32(f.Group))
	le.PutUint32(b[12:], uint32(len(f.Tokens)))
	le.PutUint64(b[16:], uint64(f.PayloadBytes))
	copy(b[24:], f.Key[:])
	copy(b[56:], f.Parent[:])
	for i, id := range f.Tokens {
		le.PutUint32(b[fixedBytes+4*i:], uint32(id))
	}
}

// split cuts a whole frame into its head and its payload without padding.
func (f Frame) split(b []byte) (head, payload []byte) {
	n := f.Shape().headBytes()
	return b[:n:n], b[n : n+f.PayloadBytes : n+f.PayloadBytes]
}

// parseShape reads the sizes from a frame's first fixedBytes. They are within
// bounds but not yet known to be true: the head sum decides.
func parseShape(b []byte) (Shape, error) {
	if string(b[:4]) != frameMagic {
		return Shape{}, fmt.Errorf("magic %q instead of %q", b[:4], frameMagic)
	}
	tokens, payload := binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:])
	if tokens > maxTokens || payload > MaxPayloadBytes {
		return Shape{}, fmt.Errorf("frame of %d tokens and %d bytes", tokens, payload)
	}
	return Shape{int(tokens), int(payload)}, nil
}

// parseHead reads a head of exactly the size its shape says, and checks its sum.
func parseHead(head []byte) (Frame, error) {
	sh, err := parseShape(head)
	if err != nil {
		return Frame{}, err
	}
	le := binary.LittleEndian
	if sh.headBytes() != len(head) {
		return Frame{}, fmt.Errorf("head of %d bytes instead of %d", sh.headBytes(), len(head))
	}
	if have, want := sumHead(head), le.Uint32(head[sumsAt:]); have != want {
		return Frame{}, fmt.Errorf("head sums to %08x, written was %08x", have, want)
	}
	if v := le.Uint16(head[4:]); v != frameVersion {
		return Frame{}, fmt.Errorf("frame version %d, this program reads version %d", v, frameVersion)
	}
	f := Frame{
		Kind: Kind(head[6]), Form: quant.KVForm(head[7]), Group: int(le.Uint32(head[8:])),
		PayloadBytes: sh.PayloadBytes, Key: kv.Key(head[24:56]), Parent: kv.Key(head[56:88]),
		Tokens: make([]token.ID, sh.Tokens),
	}
	for i := range f.Tokens {
		f.Tokens[i] = token.ID(le.Uint32(head[fixedBytes+4*i:]))
	}
	return f, nil
}

func sumHead(head []byte) uint32 { return sum(head[:sumsAt], head[fixedBytes:]) }

func sumFrame(head, payload []byte) uint32 { return sum(head[:sumsAt], head[fixedBytes:], payload) }

// frameSum is the one that the head carries.
func frameSum(head []byte) uint32 { return binary.LittleEndian.Uint32(head[sumsAt+4:]) }

func checkPayload(head, payload []byte) error {
	if have := sumFrame(head, payload); have != frameSum(head) {
		return fmt.Errorf("frame sums to %08x, written was %08x", have, frameSum(head))
	}
	return nil
}
