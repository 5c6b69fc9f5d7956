package export

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"

	"mneme/internal/kv"
	"mneme/internal/store/format"
	"mneme/internal/token"
)

const (
	name             = "export"
	maxManifestBytes = 256 << 20
	chunkBytes       = 1 << 20
	maxPlaces        = 4 << 20 // frames of an agent
)

// Reader is an export that has been checked.
type Reader struct {
	Manifest format.Manifest // as it was exported
	Stored   format.Manifest // the same, naming only what the export has frames of
	r        io.ReaderAt
	first    int64 // offset of the first frame
	end      int64 // of the last
	frames   uint64
}

// Frame is one frame of an export. Its bytes are valid until the next.
type Frame struct {
	format.Frame
	Index   int // of a block: which of the manifest's keys; of a tail: how many keys there are
	Payload []byte
}

// Open reads and checks all of an export: sums, that each frame is one that the
// manifest names, holds its tokens, and has the key that follows from them. A
// *format.DamagedError says what is wrong, a *format.VersionError both versions.
func Open(r io.ReaderAt, sizeBytes int64) (*Reader, error) {
	e := &Reader{r: r}
	if err := e.open(sizeBytes); err != nil {
		var version *format.VersionError
		if errors.As(err, &version) {
			return nil, err
		}
		return nil, &format.DamagedError{Where: name, Reason: err.Error()}
	}
	return e, nil
}

func (e *Reader) open(sizeBytes int64) error {
	manifestBytes, err := e.readHead(sizeBytes)
	if err != nil {
		return err
	}
	if err := e.readFooter(sizeBytes); err != nil {
		return err
	}
	body := make([]byte, manifestBytes)
	if err := readAt(e.r, body, headBytes); err != nil {
		return err
	}
	if e.Manifest, err = format.DecodeManifest(body, "manifest of the export"); err != nil {
		return err
	}
	if err := checkKeys(&e.Manifest); err != nil {
		return err
	}
	return e.checkFrames()
}

func (e *Reader) readHead(sizeBytes int64) (manifestBytes int64, err error) {
	head := make([]byte, headBytes)
	if sizeBytes < headBytes+footerBytes {
		return 0, fmt.Errorf("%d bytes", sizeBytes)
	}
	if err := readAt(e.r, head, 0); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	if string(head[:8]) != magic || headSum(head) != le.Uint32(head[12:]) {
		return 0, errors.New("its head is not an export's")
	}
	if v := le.Uint32(head[8:]); v != version {
		return 0, &format.VersionError{Where: name, Have: v, Know: version}
	}
	n := le.Uint64(head[16:])
	if n > uint64(min(maxManifestBytes, sizeBytes-headBytes-footerBytes)) {
		return 0, fmt.Errorf("manifest of %d bytes in %d", n, sizeBytes)
	}
	e.first = int64(align(headBytes + int(n)))
	return int64(n), nil
}

func (e *Reader) readFooter(sizeBytes int64) error {
	b := make([]byte, footerBytes)
	e.end = sizeBytes - footerBytes
	if err := readAt(e.r, b, e.end); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(b[:8]) != footerMagic || le.Uint64(b[16:]) != uint64(sizeBytes) || le.Uint32(b[28:]) != 0 || e.first > e.end {
		return errors.New("it does not end as an export does: cut off, or lengthened")
	}
	e.frames = le.Uint64(b[8:])
	return e.checkSum(le.Uint32(b[24:]))
}

func (e *Reader) checkSum(written uint32) error {
	sum, err := sumOf(e.r, e.end+24)
	if err == nil && sum != written {
		err = fmt.Errorf("it sums to %08x, written was %08x", sum, written)
	}
	return err
}

func sumOf(r io.ReaderAt, sizeBytes int64) (sum uint32, err error) {
	buf := make([]byte, min(chunkBytes, sizeBytes))
	for at := int64(0); at < sizeBytes; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), sizeBytes-at)]
		if err := readAt(r, buf, at); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, buf)
	}
	return sum, nil
}

func blockTokens(m *format.Manifest) int { return cmp.Or(m.BlockTokens, kv.BlockTokens) }

// sealed are the tokens of the blocks that keys name, open those of the tail.
func sealed(m *format.Manifest) []token.ID { return m.Tokens[:blockTokens(m)*len(m.Keys)] }
func open(m *format.Manifest) []token.ID   { return m.Tokens[blockTokens(m)*len(m.Keys) : m.KVTokens] }

// checkKeys makes the keys anew from the tokens.
func checkKeys(m *format.Manifest) error {
	switch {
	case m.KVTokens > len(m.Tokens) || blockTokens(m)*len(m.Keys) > m.KVTokens:
		return fmt.Errorf("%d keys for KV of %d tokens", len(m.Keys), m.KVTokens)
	case max(1, m.Groups)*len(m.Keys) > maxPlaces:
		return fmt.Errorf("%d keys in %d groups", len(m.Keys), m.Groups)
	case !slices.Equal(m.Scope().Chain(sealed(m), blockTokens(m)), m.Keys):
		return errors.New("its keys are not those of its tokens")
	}
	for _, t := range m.Tail {
		if t.Key != m.TailKey(open(m)) {
			return errors.New("its tail is not that of its tokens")
		}
	}
	return nil
}

func (e *Reader) checkFrames() error {
	there := map[format.BlockID]bool{}
	for f, err := range e.walk() {
		if err != nil {
			return err
		}
		there[f.ID()] = true
	}
	if uint64(len(there)) != e.frames {
		return fmt.Errorf("%d frames instead of %d", len(there), e.frames)
	}
	e.Stored = storedOf(e.Manifest, there)
	return nil
}

// storedOf cuts a manifest to the blocks that are there in every group, and to no
// tail unless all is there.
func storedOf(m format.Manifest, there map[format.BlockID]bool) format.Manifest {
	for _, p := range placesOf(&m) {
		if there[p.id] {
			continue
		}
		m.Tail = nil
		m.Keys = m.Keys[:min(len(m.Keys), p.index)]
	}
	if len(m.Tail) == 0 {
		m.KVTokens = len(m.Keys) * blockTokens(&m)
	}
	return m
}

// Frames gives the frames one by one, each read and checked again: blocks group
// by group in the order of the manifest's keys, then tails. After an error there
// are no more.
func (e *Reader) Frames() iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		for f, err := range e.walk() {
			if err != nil {
				err = &format.DamagedError{Where: name, Reason: err.Error()}
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

func (e *Reader) walk() iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		var buf []byte
		expected := placesOf(&e.Manifest)
		for at := e.first; at < e.end; {
			f, sizeBytes, err := e.frame(&buf, at)
			if err == nil {
				expected, err = match(expected, &f, &e.Manifest)
			}
			if !yield(f, err) || err != nil {
				return
			}
			at += sizeBytes
		}
	}
}

func (e *Reader) frame(buf *[]byte, at int64) (Frame, int64, error) {
	sizeBytes, err := format.FrameBytesAt(e.r, at, e.end)
	if err != nil {
		return Frame{}, 0, err
	}
	*buf = slices.Grow((*buf)[:0], int(sizeBytes))[:sizeBytes]
	if err := readAt(e.r, *buf, at); err != nil {
		return Frame{}, 0, err
	}
	f, payload, err := format.Parse(*buf)
	return Frame{Frame: f, Payload: payload}, sizeBytes, err
}

// place is a frame that a manifest names.
type place struct {
	id    format.BlockID
	kind  format.Kind
	index int
}

// placesOf lists what a manifest names, in the order of an export.
func placesOf(m *format.Manifest) (places []place) {
	for group := range max(1, m.Groups) {
		for i, key := range m.Keys {
			places = append(places, place{format.BlockID{Key: key, Group: group}, format.Block, i})
		}
	}
	for _, t := range m.Tail {
		places = append(places, place{t.ID(), format.Tail, len(m.Keys)})
	}
	return places
}

// match finds a frame among the places still expected and gives those after it:
// some may be left out, none may come out of order.
func match(expected []place, f *Frame, m *format.Manifest) (rest []place, err error) {
	for i, p := range expected {
		if p.id != f.ID() || p.kind != f.Kind {
			continue
		}
		f.Index = p.index
		if !slices.Equal(f.Tokens, tokensOf(m, p)) {
			return nil, fmt.Errorf("block %s does not hold the tokens of its place", f.Key)
		}
		return expected[i+1:], nil
	}
	return nil, fmt.Errorf("block %s of group %d is not one of the agent's, or out of order", f.Key, f.Group)
}

func tokensOf(m *format.Manifest, p place) []token.ID {
	if p.kind == format.Tail {
		return open(m)
	}
	size := blockTokens(m)
	return m.Tokens[size*p.index : size*(p.index+1)]
}

// readAt fills b from an offset.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	return fmt.Errorf("%d of %d bytes at %d: %w", n, len(b), at, cmp.Or(err, io.ErrUnexpectedEOF))
}
