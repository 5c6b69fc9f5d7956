package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

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
//	24  key          32   zero for a tail
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

	maxFrameTokens  = 1 << 16
	maxPayloadBytes = 1 << 30
)

type frameKind uint8

const (
	kindBlock frameKind = 1
	kindTail  frameKind = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is what a head says.
type frame struct {
	kind         frameKind
	form         quant.KVForm
	group        int
	tokens       []token.ID
	payloadBytes int
	key, parent  kv.Key
}

// shape is what is needed to find the parts of a frame.
type shape struct{ tokens, payloadBytes int }

func (f frame) shape() shape      { return shape{len(f.tokens), f.payloadBytes} }
func (s shape) headBytes() int    { return align(fixedBytes + 4*s.tokens) }
func (s shape) frameBytes() int64 { return int64(s.headBytes() + align(s.payloadBytes)) }

func align(n int) int { return (n + alignBytes - 1) &^ (alignBytes - 1) }

// encode fills b, of the frame's size, with the frame; fill writes the payload.
func (f frame) encode(b []byte, fill func(dst []byte)) {
	head, payload := f.split(b)
	clear(head)
	clear(b[len(head)+len(payload):])
	fill(payload)
	copy(b, frameMagic)
	le := binary.LittleEndian
	le.PutUint16(b[4:], frameVersion)
	b[6], b[7] = byte(f.kind), byte(f.form)
	le.PutUint32(b[8:], uint32(f.group))
	le.PutUint32(b[12:], uint32(len(f.tokens)))
	le.PutUint64(b[16:], uint64(f.payloadBytes))
	copy(b[24:], f.key[:])
	copy(b[56:], f.parent[:])
	for i, id := range f.tokens {
		le.PutUint32(b[fixedBytes+4*i:], uint32(id))
	}
	sum := headSum(head)
	le.PutUint32(b[sumsAt:], sum)
	le.PutUint32(b[sumsAt+4:], crc32.Update(sum, castagnoli, payload))
}

// split cuts a whole frame into its head and its payload without padding.
func (f frame) split(b []byte) (head, payload []byte) {
	n := f.shape().headBytes()
	return b[:n:n], b[n : n+f.payloadBytes : n+f.payloadBytes]
}

func headSum(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:sumsAt], castagnoli), castagnoli, head[fixedBytes:])
}

// parseShape reads the sizes from a frame's first fixedBytes. They are within
// bounds but not yet known to be true: the head sum decides.
func parseShape(b []byte) (shape, error) {
	le := binary.LittleEndian
	if !bytes.Equal(b[:4], []byte(frameMagic)) {
		return shape{}, fmt.Errorf("magic %q instead of %q", b[:4], frameMagic)
	}
	tokens, payload := le.Uint32(b[12:]), le.Uint64(b[16:])
	if tokens > maxFrameTokens || payload > maxPayloadBytes {
		return shape{}, fmt.Errorf("frame of %d tokens and %d bytes", tokens, payload)
	}
	return shape{int(tokens), int(payload)}, nil
}

// parseHead reads and checks a head of exactly the size its shape says.
func parseHead(head []byte) (frame, error) {
	sh, err := parseShape(head)
	if err != nil {
		return frame{}, err
	}
	le := binary.LittleEndian
	if sh.headBytes() != len(head) {
		return frame{}, fmt.Errorf("head of %d bytes instead of %d", sh.headBytes(), len(head))
	}
	if sum, want := headSum(head), le.Uint32(head[sumsAt:]); sum != want {
		return frame{}, fmt.Errorf("head sums to %08x, written was %08x", sum, want)
	}
	if v := le.Uint16(head[4:]); v != frameVersion {
		return frame{}, fmt.Errorf("frame version %d, this program reads version %d", v, frameVersion)
	}
	f := frame{
		kind: frameKind(head[6]), form: quant.KVForm(head[7]), group: int(le.Uint32(head[8:])),
		payloadBytes: sh.payloadBytes, key: kv.Key(head[24:56]), parent: kv.Key(head[56:88]),
		tokens: make([]token.ID, sh.tokens),
	}
	for i := range f.tokens {
		f.tokens[i] = token.ID(le.Uint32(head[fixedBytes+4*i:]))
	}
	return f, nil
}

// checkPayload compares the payload with the frame sum in its head.
func checkPayload(head, payload []byte) error {
	sum := crc32.Update(headSum(head), castagnoli, payload)
	if sum != frameSum(head) {
		return fmt.Errorf("frame sums to %08x, written was %08x", sum, frameSum(head))
	}
	return nil
}

// frameSum is the sum over head and payload that the head carries.
func frameSum(head []byte) uint32 { return binary.LittleEndian.Uint32(head[sumsAt+4:]) }

// wanted is what a reader knows about the frame it asks for.
type wanted struct {
	kind      frameKind
	key       kv.Key
	group     int
	tokens    []token.ID
	anyTokens bool // tokens are not compared
}

// compare says how a frame differs from what is wanted.
func (w wanted) compare(f frame) error {
	switch {
	case f.kind != w.kind:
		return fmt.Errorf("frame of kind %d instead of %d", f.kind, w.kind)
	case f.key != w.key:
		return fmt.Errorf("key %s instead of %s", f.key, w.key)
	case f.group != w.group:
		return fmt.Errorf("group %d instead of %d", f.group, w.group)
	case !w.anyTokens && !slices.Equal(f.tokens, w.tokens):
		return fmt.Errorf("its %d tokens are not the %d expected", len(f.tokens), len(w.tokens))
	}
	return nil
}
