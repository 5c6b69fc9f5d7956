package format

import (
	"errors"
	"fmt"
	"io"

	"mneme/internal/kv"
	"mneme/internal/token"
)

// Wanted is what a reader knows about the frame it asks for.
type Wanted struct {
	Kind      Kind
	Key       kv.Key
	Group     int
	Tokens    []token.ID
	AnyTokens bool // Tokens are not compared
}

// Reader reads frames, one at a time, through a buffer that grows to the largest
// it has met.
type Reader struct {
	Keys Keys // nil: only plain frames can be read
	buf  []byte
}

// Read fills dst with the payload of the frame at an offset of r. The shape noted
// for it, the length of dst, what is wanted and the sums are compared; after an
// error dst holds anything.
func (d *Reader) Read(r io.ReaderAt, at int64, noted Shape, want Wanted, dst []byte) error {
	switch {
	case len(dst) != noted.PayloadBytes:
		return fmt.Errorf("payload of %d bytes, %d expected", noted.PayloadBytes, len(dst))
	case noted.Cover == Encrypted:
		return d.readEncrypted(r, at, noted, want, dst)
	}
	return d.readPlain(r, at, noted, want, dst)
}

func (d *Reader) readPlain(r io.ReaderAt, at int64, noted Shape, want Wanted, dst []byte) error {
	head := d.buffer(noted.HeadBytes())
	if err := ReadFull(r, head, at); err != nil {
		return err
	}
	if err := want.check(head, noted); err != nil {
		return err
	}
	if err := want.compareIDs(head[FixedBytes:], noted.Tokens); err != nil {
		return err
	}
	if err := ReadFull(r, dst, at+int64(len(head))); err != nil {
		return err
	}
	return checkBody(head, dst)
}

// readEncrypted reads the whole frame into the buffer; decrypting moves the
// payload to dst.
func (d *Reader) readEncrypted(r io.ReaderAt, at int64, noted Shape, want Wanted, dst []byte) error {
	n := noted.HeadBytes() + noted.bodyBytes()
	frame := d.buffer(n + 4*noted.Tokens)
	head, body := noted.split(frame)
	if err := ReadFull(r, frame[:n], at); err != nil {
		return err
	}
	if err := want.check(head, noted); err != nil {
		return err
	}
	if err := checkBody(head, body); err != nil {
		return err
	}
	aead, err := find(d.Keys, head)
	if err != nil {
		return err
	}
	ids, err := openIDs(aead, noted, head, frame[n:n])
	if err != nil {
		return err
	}
	if err := want.compareIDs(ids, noted.Tokens); err != nil {
		return err
	}
	return openPayload(aead, head, body, dst)
}

func (d *Reader) buffer(n int) []byte {
	if cap(d.buf) < n {
		d.buf = make([]byte, n)
	}
	return d.buf[:n]
}

// FrameBytesAt reads the size of the frame at an offset of r, which must end
// before end.
func FrameBytesAt(r io.ReaderAt, at, end int64) (int64, error) {
	b := make([]byte, FixedBytes)
	if at+FixedBytes > end {
		return 0, fmt.Errorf("%d bytes are no frame", end-at)
	}
	if err := ReadFull(r, b, at); err != nil {
		return 0, err
	}
	sh, err := ParseShape(b)
	if err != nil {
		return 0, err
	}
	if at+sh.FrameBytes() > end {
		return 0, fmt.Errorf("frame of %d bytes in %d", sh.FrameBytes(), end-at)
	}
	return sh.FrameBytes(), nil
}

// check compares all that a head says without a key.
func (w *Wanted) check(head []byte, noted Shape) error {
	e, err := ParseHead(head)
	switch {
	case err != nil:
		return err
	case e.PayloadBytes != noted.PayloadBytes:
		return fmt.Errorf("payload of %d bytes instead of %d", e.PayloadBytes, noted.PayloadBytes)
	case e.Shape != noted:
		return fmt.Errorf("version %d with %d tokens instead of %d with %d", version(e.Cover), e.Tokens, version(noted.Cover), noted.Tokens)
	case e.Kind != w.Kind:
		return fmt.Errorf("frame of kind %d instead of %d", e.Kind, w.Kind)
	case e.ID.Key != w.Key:
		return fmt.Errorf("key %s instead of %s", e.ID.Key, w.Key)
	case e.ID.Group != w.Group:
		return fmt.Errorf("group %d instead of %d", e.ID.Group, w.Group)
	}
	return nil
}

// compareIDs compares the n ids of a frame, u32 each.
func (w *Wanted) compareIDs(ids []byte, n int) error {
	if w.AnyTokens {
		return nil
	}
	same := n == len(w.Tokens)
	for i := 0; same && i < n; i++ {
		same = idAt(ids, i) == w.Tokens[i]
	}
	if !same {
		return fmt.Errorf("its %d tokens are not the %d expected", n, len(w.Tokens))
	}
	return nil
}

// ErrRead says that the disk did not give what lies there, which may be whole.
var ErrRead = errors.New("the disk does not read")

// ReadFull fills b from an offset, at a second attempt if need be; after that the
// error is ErrRead and the disk's. A file that ends before is another error.
func ReadFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n < len(b) && err != nil && err != io.EOF {
		n, err = r.ReadAt(b, off)
	}
	switch {
	case n == len(b):
		return nil
	case err == io.EOF || err == nil:
		return fmt.Errorf("%d of %d bytes at %d: %w", n, len(b), off, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%w: %w", ErrRead, err)
}
